//! Meta-judges: does a rationale match the gold judgment? Called only where the label is right. Never reads the
//! label itself, and never turns a failure into "incorrect".

mod official;
mod overlap;
mod rubric;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use official::{Reply, official_reply, tolerant_reply};

use super::verdict::after_thinking;

/// Which rule compares a rationale with the gold judgment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MetaJudge {
    /// The miniature's rubric: both claims, the factor and the required value equal the gold's.
    Rubric {},
    /// Word-overlap F1 with the gold at or above a threshold. A stand-in that runs, no instrument.
    Overlap {
        /// From 0 to 1.
        threshold: f64,
    },
}

/// A meta-judge's answer, under the official names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaVerdict {
    /// The rationale matches.
    Correct,
    /// It does not.
    Incorrect,
    /// Not asked: the label is wrong or missing.
    SkippedLabelMismatch,
    /// The judge gave no answer.
    CallFail,
    /// Its answer could not be read.
    ParseFail,
}

/// The answer with its grounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The verdict.
    pub verdict: MetaVerdict,
    /// Graded agreement from 0 to 1 (rubric: matched fields / 4; overlap: F1).
    pub score: f64,
    /// One line on what matched.
    pub analysis: String,
}

impl Judged {
    /// The graded agreement, where the judge gave one.
    pub fn known_score(&self) -> Option<f64> {
        matches!(self.verdict, MetaVerdict::Correct | MetaVerdict::Incorrect).then_some(self.score)
    }

    fn failed(verdict: MetaVerdict, analysis: &str) -> Self {
        Self { verdict, score: 0.0, analysis: analysis.into() }
    }

    fn decided(correct: bool, score: f64, analysis: String) -> Self {
        let verdict = if correct { MetaVerdict::Correct } else { MetaVerdict::Incorrect };
        Self { verdict, score, analysis }
    }
}

impl MetaJudge {
    /// Compares the text after the last `</think>` of both.
    pub fn judge(&self, golden: &str, rationale: &str) -> Judged {
        let (golden, rationale) = (after_thinking(golden), after_thinking(rationale));
        if golden.is_empty() {
            return Judged::failed(MetaVerdict::CallFail, "there is no gold judgment to compare with");
        }
        match self {
            Self::Rubric {} => rubric::judge(golden, rationale),
            Self::Overlap { threshold } => overlap::judge(golden, rationale, *threshold),
        }
    }

    /// What is wrong with the parameters, if anything.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Overlap { threshold } if !(0.0..=1.0).contains(threshold) => {
                Some(format!("threshold {threshold} is not between 0 and 1"))
            }
            _ => None,
        }
    }
}
