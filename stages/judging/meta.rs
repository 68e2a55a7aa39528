//! Meta-judges: does a rationale match the gold judgment? Called only where the label is right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which rule compares a rationale with the gold judgment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MetaJudge {
    /// The miniature's rubric: both claims, the factor and the required value equal the gold's.
    Rubric {},
    /// Word-overlap F1 with the gold at or above a threshold. A stand-in that runs, no instrument (SMALL.md D).
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

impl MetaJudge {
    /// Compares the text after the last `</think>` of both.
    pub fn judge(&self, _golden: &str, _rationale: &str) -> Judged {
        Judged { verdict: MetaVerdict::CallFail, score: 0.0, analysis: String::new() }
    }
}
