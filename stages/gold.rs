//! Gold judgments: where they come from, whether they agree with their labels, and how they are set apart when not.

pub mod augment;
pub mod check;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<augment::Augment>()
}
