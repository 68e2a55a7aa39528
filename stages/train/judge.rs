//! `bench.judge`: a model's judgments on preference pairs. Generates only: what the judgments are worth is
//! `bench.s-corr`'s matter.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{at_least_one, items, problems_of_drawing, tokens};
use crate::data::{hash, placement};
use crate::jsonl;
use crate::judging::template::{Template, judge_prompt};
use crate::model::{Backend, Dtype, Model, Request, Sampling};
use crate::rows::{Judgment, Order, Pair};
use crate::worker::TORCH;

/// Parameters of `bench.judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How judgments are asked for: `boxed` or `miniature`.
    pub template: Template,
    /// Show every pair a second time with its answers exchanged.
    pub both_orders: bool,
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus; 1 is off.
    pub top_p: f64,
    /// Best tokens to draw from; 0 is off.
    pub top_k: usize,
    /// Tokens less likely than this share of the likeliest one are not drawn; 0 is off.
    pub min_p: f64,
    /// Makes tokens less likely that the prompt or the judgment holds (HF's rule); 1 is off.
    pub repetition_penalty: f64,
    /// Texts that end a judgment, of which they are no part.
    pub stop: Vec<String>,
    /// Tokens of a judgment at most.
    pub max_completion_length: usize,
    /// Pairs whose prompt has more tokens are left out and counted; no bound when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// Only the first so many pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Names every draw.
    pub seed: u64,
    /// Number format of the passes: `float32` or `bfloat16`.
    pub dtype: Dtype,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            template: Template::default(),
            both_orders: false,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            max_completion_length: 512,
            max_prompt_length: None,
            limit: None,
            seed: 0,
            dtype: Dtype::Float32,
        }
    }
}

/// `bench.judge`.
pub struct BenchJudge;

impl Declare for BenchJudge {
    const KIND: &'static str = "bench.judge";
    // 2: plain prompts begin as the tokenizer begins a text; `strftime_now` of chat templates is defined.
    // 3: continuous batching: the last bits of logits moved.
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "let a model judge preference pairs";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder that judges"),
        InputSpec::required("pairs", "preference pairs"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("judgments", "judgments.jsonl", "one row a judgment")];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let lengths = [("max_completion_length", params.max_completion_length as u64)];
        at_least_one(&lengths)
            .chain(problems_of_drawing(params.top_p, params.min_p, params.repetition_penalty, &params.stop))
            .collect()
    }
}

/// Runs `bench.judge` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load(io.input("model")?, params.dtype, io.manner())?;
    let path = io.input("pairs")?;
    let (mut shown, mut requests, mut dropped) = (Vec::new(), Vec::new(), 0);
    let pairs = jsonl::read_some::<Pair>(path)?.into_iter().take(params.limit.unwrap_or(usize::MAX));
    for (order, pair) in pairs.flat_map(|pair| placement::orders(pair, params.both_orders)) {
        let text = judge_prompt(params.template, &pair, model.chat_template())?;
        let prompt = tokens::encode(model.as_ref(), &text)?;
        if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
            dropped += 1;
            continue;
        }
        tokens::check_context(model.as_ref(), &pair.id, prompt.len() + params.max_completion_length)?;
        let stream = hash::number(&[&pair.id, if order == Order::Original { "original" } else { "swapped" }]);
        requests.push(Request { prompt, samples: 1, stream });
        shown.push((order, pair));
    }
    super::report_dropped(dropped, shown.len(), path, io)?;
    let judgments = judge(model.as_mut(), shown, &requests, params, io)?;
    jsonl::write(io.output("judgments")?, &judgments)
}

fn judge(
    model: &mut dyn Model,
    shown: Vec<(Order, Pair)>,
    requests: &[Request],
    params: &Params,
    io: &Io,
) -> Result<Vec<Judgment>, StageError> {
    let sampling = Sampling {
        temperature: params.temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        min_p: params.min_p,
        repetition_penalty: params.repetition_penalty,
        stop: params.stop.clone(),
        max_new_tokens: params.max_completion_length,
        seed: params.seed,
    };
    let completions = items::generate(model, requests, &sampling, io, "judgments")?;
    let judgment = |((order, pair), completions): ((Order, Pair), Vec<crate::model::Completion>)| {
        let completion = completions.into_iter().next();
        let text = completion.as_ref().map(|completion| tokens::decode(model, completion)).transpose()?;
        let text = text.map(|text| tokens::before(&text, &params.stop).map(str::to_string).unwrap_or(text));
        let finished = completion.is_some_and(|completion| completion.finished);
        Ok(Judgment { pair, order, model_judgment: text, finished })
    };
    shown.into_iter().zip(completions).map(judgment).collect()
}
