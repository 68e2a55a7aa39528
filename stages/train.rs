//! Training, RLHF and generation loops over the `Model` trait, and the declarations of the stages that a worker runs.

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry
}
