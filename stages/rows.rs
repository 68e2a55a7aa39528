//! The JSONL rows that stages exchange, under R-Align's published column names. Types only; reading
//! and writing files is in `jsonl.rs`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Side {
    /// Assistant A's answer.
    A,
    /// Assistant B's answer.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// One turn of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Where a row comes from and which slice it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Data set, as `llmbar`.
    #[serde(default)]
    pub dataset: String,
    /// Domain or subset, as `natural` or `stem`: metrics are also given by it.
    #[serde(default)]
    pub subset: String,
}

/// A preference pair, with or without its gold judgment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Unique within its file; survives every stage.
    pub id: String,
    /// The dialogue up to and including the last user turn.
    pub conversations: Vec<Message>,
    /// Answer A.
    #[serde(rename = "response_A")]
    pub response_a: String,
    /// Answer B.
    #[serde(rename = "response_B")]
    pub response_b: String,
    /// The better answer.
    pub gt_label: Side,
    /// The gold judgment, once there is one. Letters in it name the sides as they stand in this row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gt_judgment: Option<String>,
    /// Provenance.
    #[serde(default)]
    pub source: Origin,
    /// Items of one prompt share it: the cluster of the bootstrap, the unit of the split.
    #[serde(default)]
    pub prompt_id: String,
    /// Whether A and B were exchanged against the imported row.
    #[serde(default)]
    pub swapped: bool,
    /// The answer that carries the world's spurious cue, where the generator knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cue: Option<Side>,
}

/// A judge's answer to a pair: a pair's columns and what the model said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgment {
    /// The pair as it was shown to the judge.
    pub pair: Pair,
    /// `original` or, where the judge saw the answers exchanged, `swapped` (the pair is stored as shown).
    pub order: Order,
    /// Raw text; `null` where the call failed.
    pub model_judgment: Option<String>,
    /// Whether generation ended by itself (false: cut at the token limit).
    pub finished: bool,
}

/// The order in which the two answers were shown, against the benchmark's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As in the benchmark.
    Original,
    /// A and B exchanged.
    Swapped,
}

/// A text to learn from: TRL's prompt-completion type. Loss is on the completion only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Unique within its file.
    pub id: String,
    /// What the model is given: rendered text, special tokens included.
    pub prompt: String,
    /// What it should write; the end-of-text token is added by training.
    pub completion: String,
}

/// How a downstream task is scored; the checker's own fields ride in `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// The miniature's rules (`target`: domain, task tokens, truth).
    Miniature,
    /// GSM8K's final number with lm-eval's two filters (`target`: the solution with its `#### N` line).
    Gsm8k,
    /// IFEval's instruction checkers (`target`: `instruction_id_list`, `kwargs`).
    Ifeval,
}

/// A prompt for a policy, with a fixed reference answer (for RLHF) and a checkable target (for evaluation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique within its file.
    pub id: String,
    /// Domain, as `stem` or `gsm8k`.
    pub domain: String,
    /// The dialogue up to and including the last user turn.
    pub conversations: Vec<Message>,
    /// The fixed answer that rollouts are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How an answer is scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<Checker>,
    /// What the checker compares with.
    #[serde(default)]
    pub target: serde_json::Value,
}

/// A policy's answer to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The task.
    pub task: Task,
    /// Which of the samples of this task: 0-based; greedy runs have only 0.
    pub sample: usize,
    /// `greedy` or `sampled`.
    pub decoding: String,
    /// The answer's text.
    pub text: String,
    /// Tokens generated.
    pub tokens: usize,
    /// Whether generation ended by itself.
    pub finished: bool,
    /// The text that the model was given; empty where whoever wrote the row did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// How it was drawn, under lm-eval's names; `null` where whoever wrote the row did not say.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub gen_kwargs: serde_json::Value,
    /// Solved examples in the prompt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_fewshot: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}
