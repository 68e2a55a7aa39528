//! Training, RLHF and generation loops over the `Model` trait, and the declarations of the stages that a worker runs.

pub mod bench_reward;
pub mod chain;
pub mod choose;
pub mod dpo;
pub mod generate;
pub mod genrm;
pub mod group;
pub mod items;
pub mod judge;
pub mod log;
pub mod order;
pub mod packing;
mod parameters;
pub mod ppo;
mod preferences;
pub mod reward;
pub mod rlhf;
pub mod sft;
pub mod source;
pub mod tensorboard;
pub mod tokens;

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::protocol;
use plumb_engine::stage::{OutputSpec, Problem, Registry, StageError};

const STEPS: OutputSpec = OutputSpec::result("steps", "steps.jsonl", "the metrics of every step; no times");
// Not a result: its digests have no near misses, and results of two machines are compared within tolerances.
const CHAIN: OutputSpec = OutputSpec::diagnostic("chain", protocol::CHAIN, "a digest a step, each over all before it");
const METRICS: OutputSpec =
    OutputSpec::result("metrics", "metrics.json", "the last step's metrics, and means over the last tenth");
const COMPLETIONS: OutputSpec =
    OutputSpec::diagnostic("completions", "completions.jsonl", "a few completions of every step with their rewards");
const TRAINER_STATE: OutputSpec =
    OutputSpec::diagnostic("trainer_state", "trainer_state.json", "the log in the shape that HF's tools plot");
const TENSORBOARD: OutputSpec =
    OutputSpec::diagnostic("tensorboard", "tensorboard", "the log as TensorBoard's events: `tensorboard --logdir`");

/// Adds the kinds of this folder, all of them run by the worker.
pub fn register(registry: Registry) -> Registry {
    registry
        .declare::<source::ModelInit>()
        .declare::<source::ModelImport>()
        .declare::<sft::Sft>()
        .declare::<dpo::Dpo>()
        .declare::<genrm::GenrmTrain>()
        .declare::<reward::RmTrain>()
        .declare::<bench_reward::BenchReward>()
        .declare::<rlhf::ActorRlhf>()
        .declare::<ppo::ActorPpo>()
        .declare::<judge::BenchJudge>()
        .declare::<choose::BenchChoose>()
        .declare::<generate::EvalGenerate>()
}

fn at_least_one(counts: &[(&'static str, u64)]) -> impl Iterator<Item = Problem> {
    counts.iter().filter(|(_, count)| *count == 0).map(|(field, _)| Problem::new(*field, "expected at least 1"))
}

fn shares(shares: &[(&'static str, f64)]) -> impl Iterator<Item = Problem> {
    let wrong = shares.iter().filter(|(_, share)| !(0.0..=1.0).contains(share));
    wrong.map(|(field, share)| Problem::new(*field, format!("`{share}` is no share: expected 0 to 1")))
}

/// Values that nothing can be drawn with.
fn problems_of_drawing(top_p: f64, min_p: f64, repetition_penalty: f64, stop: &[String]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = shares(&[("top_p", top_p), ("min_p", min_p)]).collect();
    if top_p == 0.0 {
        problems.push(Problem::new("top_p", "0 leaves no token to draw: expected more, up to 1 (off)"));
    }
    if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
        problems.push(Problem::new("repetition_penalty", "expected a number above 0; 1 is off"));
    }
    if stop.iter().any(String::is_empty) {
        problems.push(Problem::new("stop", "an empty text would end every completion"));
    }
    problems
}

fn report_dropped(dropped: usize, kept: usize, path: &Path, io: &Io) -> Result<(), StageError> {
    if kept == 0 {
        let message = format!("`{}` has no row with a prompt within `max_prompt_length` tokens", path.display());
        return Err(StageError::new(message));
    }
    if dropped > 0 {
        io.log(format!("{dropped} rows have a prompt of more than `max_prompt_length` tokens: left out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
