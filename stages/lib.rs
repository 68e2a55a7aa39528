//! plumb-stages: what reward-model research does, as stages: data, gold judgments, judging, metrics, rewards,
//! training and RLHF loops over a `Model` trait. Never says `tch`.

pub mod benchmarks;
pub mod chat;
pub mod data;
pub mod eval;
mod fingerprints;
pub mod gold;
pub mod jsonl;
pub mod judges;
pub mod judging;
pub mod maths;
pub mod model;
pub mod report;
pub mod rows;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod train;
pub mod worker;

use plumb_engine::stage::Registry;

/// Every kind of this crate. The kinds of `train` that need a model are only declared here: plumb-torch runs them.
pub fn registry() -> Registry {
    let areas = [
        data::register,
        benchmarks::register,
        gold::register,
        judges::register,
        judging::register,
        train::register,
        eval::register,
        stats::register,
        report::register,
    ];
    let registry = areas.into_iter().fold(Registry::default(), |registry, register| register(registry));
    registry.with_code(fingerprints::of)
}
