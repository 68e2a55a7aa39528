//! Prompts, verdicts, meta-judges and the S-Corr benchmark.

pub mod benchmarks;
pub mod meta;
pub mod official;
pub mod people;
pub mod s_corr;
pub mod scores;
pub mod template;
pub mod verdict;

#[cfg(test)]
mod conformance;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    official::register(registry.with::<s_corr::SCorr>().with::<people::BenchMetaJudge>())
}
