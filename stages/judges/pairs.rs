//! `judge.pairs`: judgments of preference pairs by a model behind an OpenAI-compatible endpoint. Needs no libtorch. What
//! the judgments are worth is `bench.s-corr`'s matter.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Asker;
use super::question::{Judge, Question};
use super::reply::{Reply, State};
use crate::data::placement;
use crate::jsonl;
use crate::judging::template::{Template, judge_messages};
use crate::judging::verdict::{Parse, verdict};
use crate::rows::{Judgment, Order, Pair};

/// Parameters of `judge.pairs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Who judges, and how it draws. Where it is reached stands in `run.endpoint`, which no key knows of.
    pub judge: Judge,
    /// Show every pair a second time with its answers exchanged.
    #[serde(default)]
    pub both_orders: bool,
    /// How often a pair is asked, each time for another draw, until a verdict can be read.
    #[serde(default = "once")]
    pub attempts: u32,
    /// The step fails where more than this share of its questions got no answer; those that got none are `null`.
    #[serde(default = "tenth")]
    pub max_call_failures: f64,
    /// Only the first so many pairs. More of them later ask only for those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

fn once() -> u32 {
    1
}

fn tenth() -> f64 {
    0.1
}

/// `judge.pairs`.
pub struct JudgePairs;

impl Declare for JudgePairs {
    const KIND: &'static str = "judge.pairs";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "let a model behind an OpenAI-compatible endpoint judge preference pairs";
    const DETERMINISM: Determinism = Determinism::Sampled;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("pairs", "preference pairs")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("judgments", "judgments.jsonl", "one row a judgment, as `bench.judge` writes them"),
        OutputSpec::result("replies", "replies.jsonl", "one row a judgment: its state, reasoning and tokens"),
        OutputSpec::diagnostic("usage", "usage.json", "requests, tokens, cost and states"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = params.judge.problems();
        if params.attempts == 0 {
            problems.push(Problem::new("attempts", "it is 0: write at least 1"));
        }
        if !(0.0..=1.0).contains(&params.max_call_failures) {
            let message = format!("{} is not between 0 and 1", params.max_call_failures);
            problems.push(Problem::new("max_call_failures", message));
        }
        problems
    }
}

/// A row of `replies.jsonl`.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    order: Order,
    sample: u32,
    #[serde(flatten)]
    reply: &'a Reply,
}

impl Stage for JudgePairs {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let path = io.input("pairs")?;
        let pairs = jsonl::read_some::<Pair>(path)?.into_iter().take(params.limit.unwrap_or(usize::MAX));
        let shown: Vec<(Order, Pair)> = pairs.flat_map(|pair| placement::orders(pair, params.both_orders)).collect();
        let mut questions = Vec::with_capacity(shown.len());
        for (_, pair) in &shown {
            questions.push(Question { messages: judge_messages(pair)?, sample: 0 });
        }
        let mut asker = Asker::new(&params.judge, io)?;
        let mut replies = asker.ask(&questions)?;
        for sample in 1..params.attempts {
            let unread: Vec<usize> = (0..replies.len()).filter(|index| unread(&replies[*index])).collect();
            if unread.is_empty() {
                break;
            }
            let mut asked = Vec::with_capacity(unread.len());
            for index in &unread {
                questions[*index].sample = sample;
                asked.push(questions[*index].clone());
            }
            for (index, reply) in unread.into_iter().zip(asker.ask(&asked)?) {
                replies[index] = reply;
            }
        }
        jsonl::write_json(io.output("usage")?, &asker.usage)?;
        tolerate(&replies, params.max_call_failures, io)?;
        let rows = shown.iter().zip(&questions).zip(&replies).map(|(((order, pair), question), reply)| Row {
            id: &pair.id,
            order: *order,
            sample: question.sample,
            reply,
        });
        jsonl::write(io.output("replies")?, rows)?;
        let judgments = shown.iter().zip(&replies).map(|((order, pair), reply)| Judgment {
            pair: pair.clone(),
            order: *order,
            model_judgment: reply.text.clone().filter(|_| matches!(reply.state, State::Answered | State::Truncated)),
            finished: reply.state == State::Answered,
        });
        jsonl::write(io.output("judgments")?, judgments)
    }
}

fn unread(reply: &Reply) -> bool {
    let text = reply.text.as_deref().unwrap_or_default();
    reply.state != State::Failed && verdict(Parse::StrictLast, Template::Boxed, text).is_none()
}

fn tolerate(replies: &[Reply], most: f64, io: &Io) -> Result<(), StageError> {
    let failed: Vec<&Reply> = replies.iter().filter(|reply| reply.state == State::Failed).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let cause = first.cause.as_deref().unwrap_or("no cause");
    let told = format!("{} of {} questions got no answer; the first: {cause}", failed.len(), replies.len());
    if failed.len() as f64 > most * replies.len() as f64 {
        return Err(StageError::new(told).hint(format!(
            "what was answered is kept: run again, or allow more than `with.max_call_failures = {most}`"
        )));
    }
    io.log(told);
    Ok(())
}
