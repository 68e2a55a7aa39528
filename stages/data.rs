//! Data preparation: import, check, split, place; the miniature world.

pub mod hash;
pub mod miniature;
pub mod placement;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<miniature::Miniature>()
}
