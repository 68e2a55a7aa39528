//! Gold judgments.

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry
}
