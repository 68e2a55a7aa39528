//! Downstream evaluation: rules that score responses.

pub mod checked;
mod config;
pub mod fewshot;
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
