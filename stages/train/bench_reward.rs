//! `bench.reward`: scores both answers of benchmark pairs with a scalar reward model. An answer that is not above the other
//! is no decision for it: a tie counts as wrong. Knows the label and nothing of reasons, for a scalar has none.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::at_least_one;
use super::group::{deviation, mean};
use super::preferences::{self, Encoded};
use crate::jsonl;
use crate::judging::template::Template;
use crate::model::{Backend, Dtype};
use crate::rows::Pair;
use crate::stats::items::{ItemRow, Metrics};
use crate::worker::TORCH;

/// Parameters of `bench.reward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How the dialogue is put: `boxed` or `miniature`.
    pub template: Template,
    /// Tokens of prompt and answer together; what is longer is cut at the end.
    pub max_length: usize,
    /// Number format of the passes.
    pub dtype: Dtype,
}

impl Default for Params {
    fn default() -> Self {
        Self { template: Template::default(), max_length: 1024, dtype: Dtype::default() }
    }
}

/// One pair's rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The pair.
    pub id: String,
    /// Of the better answer.
    pub chosen: f64,
    /// Of the worse one.
    pub rejected: f64,
}

/// `bench.reward`.
pub struct BenchReward;

impl Declare for BenchReward {
    const KIND: &'static str = "bench.reward";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "score benchmark pairs with a scalar reward model: how often the better answer wins";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "a reward model folder, as `rm.train` writes it"),
        InputSpec::required("pairs", "preference pairs"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("items", "items.jsonl", "one row a pair, for stats.compare: `label_correct` and `margin`"),
        OutputSpec::result("scores", "scores.jsonl", "the rewards of both answers of every pair"),
        OutputSpec::result("metrics", "metrics.json", "`l_acc`, also by subset; margin and rewards"),
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        at_least_one(&[("max_length", params.max_length as u64)]).collect()
    }
}

/// Runs `bench.reward` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load_reward_model(io.input("model")?, params.dtype, io.manner(), None)?;
    let pairs = preferences::read(model.as_ref(), io.input("pairs")?, params.template, params.max_length, io)?;
    let both = |pair: &Encoded| [pair.chosen.whole(), pair.rejected.whole()];
    let rewards = model.rewards(&pairs.iter().flat_map(both).collect::<Vec<_>>())?;
    let scored = pairs.iter().zip(rewards.chunks_exact(2)).map(|(pair, rewards)| Scored {
        id: pair.pair.id.clone(),
        chosen: rewards[0],
        rejected: rewards[1],
    });
    let scored: Vec<Scored> = scored.collect();
    let items: Vec<ItemRow> = pairs.iter().zip(&scored).map(|(one, scored)| item(&one.pair, scored)).collect();
    jsonl::write(io.output("scores")?, &scored)?;
    jsonl::write(io.output("items")?, &items)?;
    jsonl::write_json(io.output("metrics")?, &metrics(&items, &rewards))
}

fn item(pair: &Pair, scored: &Scored) -> ItemRow {
    let margin = scored.chosen - scored.rejected;
    let values = [("label_correct", f64::from(u8::from(margin > 0.0))), ("margin", margin)];
    ItemRow {
        id: pair.id.clone(),
        cluster: pair.prompt_id.clone(),
        domain: pair.source.subset.clone(),
        values: values.into_iter().map(|(name, value)| (name.to_string(), Some(value))).collect(),
    }
}

fn metrics(items: &[ItemRow], rewards: &[f64]) -> Metrics {
    let of = |name: &str, domain: Option<&str>| {
        let inside = items.iter().filter(|item| domain.is_none_or(|domain| item.domain == domain));
        mean(&inside.filter_map(|item| item.values.get(name).copied().flatten()).collect::<Vec<f64>>())
    };
    let all = [
        ("n", items.len() as f64),
        ("l_acc", of("label_correct", None)),
        ("margin", of("margin", None)),
        ("mean_reward", mean(rewards)),
        ("std_reward", deviation(rewards)),
    ];
    let mut metrics: Metrics = all.into_iter().map(|(name, value)| (name.to_string(), Some(value))).collect();
    for domain in items.iter().map(|item| item.domain.as_str()).filter(|domain| !domain.is_empty()) {
        metrics.insert(format!("l_acc/{domain}"), Some(of("label_correct", Some(domain))));
    }
    metrics
}
