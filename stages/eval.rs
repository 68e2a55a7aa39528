//! Downstream evaluation: rules that score responses.

pub mod checked;
pub mod gsm8k;
pub mod ifeval;
pub mod results;
mod samples;
pub mod score;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<score::Score>()
}
