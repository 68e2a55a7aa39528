//! Data preparation: import, check, split, place; the miniature world.

pub mod duplicates;
pub mod hash;
pub mod judgments;
pub mod miniature;
pub mod pairs;
pub mod placement;
pub mod tasks;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<miniature::Miniature>().with::<pairs::Pairs>().with::<tasks::Tasks>().with::<judgments::Judgments>()
}
