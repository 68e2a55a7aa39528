//! From rows to the very text a model is given.

use plumb_engine::stage::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rows::{Pair, Side, Task};

/// How judgments are asked for and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Criteria, dialogue and two answers in prose; the verdict is `\boxed{A}` or `\boxed{B}`.
    #[default]
    Boxed,
    /// The miniature's token grammar; the verdict is `[A]` or `[B]`.
    Miniature,
}

/// The text a judge is given for a pair, special tokens included: tokenise it without adding any.
pub fn judge_prompt(_template: Template, _pair: &Pair, _chat: Option<&str>) -> Result<String, StageError> {
    Err(StageError::new("not written yet"))
}

/// The text a policy is given for a task, special tokens included.
pub fn task_prompt(_template: Template, _task: &Task, _chat: Option<&str>) -> Result<String, StageError> {
    Err(StageError::new("not written yet"))
}

/// A pair that sets an answer (on `side`) against the task's reference. The label is a placeholder: nobody knows it.
pub fn against_reference(_task: &Task, _answer: &str, _side: Side) -> Result<Pair, StageError> {
    Err(StageError::new("not written yet"))
}
