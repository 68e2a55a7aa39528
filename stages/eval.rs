//! Downstream evaluation: rules that score responses.

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry
}
