//! Comparisons and correlations over branches and seeds (ML.md section 8).

pub mod items;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry
}
