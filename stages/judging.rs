//! Prompts, verdicts, meta-judges and the S-Corr benchmark.

pub mod benchmarks;
pub mod meta;
pub mod template;
pub mod verdict;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry
}
