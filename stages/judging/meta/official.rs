//! Reading the reply of a prompted meta-judge: the official script's rule to the letter, and a tolerant one that
//! reads the final answer only. Never asks anybody: the reply is given.

use serde::{Deserialize, Serialize};

use super::MetaVerdict;
use crate::judging::verdict::after_thinking;

/// What a meta-judge's reply says, under the official field names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The verdict.
    #[serde(rename = "metarm_verdict")]
    pub verdict: MetaVerdict,
    /// 1 or 0; `null` where the call or the reading failed.
    #[serde(rename = "metarm_score")]
    pub score: Option<f64>,
    /// The judge's own grounds.
    #[serde(rename = "metarm_analysis", default)]
    pub analysis: String,
}

impl Reply {
    fn failed(verdict: MetaVerdict) -> Self {
        Self { verdict, score: None, analysis: String::new() }
    }

    fn decided(correct: bool, analysis: &str) -> Self {
        let verdict = if correct { MetaVerdict::Correct } else { MetaVerdict::Incorrect };
        Self { verdict, score: Some(f64::from(u8::from(correct))), analysis: analysis.trim().into() }
    }
}

/// The official rule: both tags must be there, the first of each counts wherever it stands, and anything that is
/// not the single word `correct` is Incorrect. `None` is a call that gave nothing.
pub fn official_reply(raw: Option<&str>) -> Reply {
    let Some(raw) = raw else { return Reply::failed(MetaVerdict::CallFail) };
    match (first(raw, "genrm_analysis"), first(raw, "final_verdict")) {
        (Some(analysis), Some(verdict)) => Reply::decided(verdict.trim().to_lowercase() == "correct", analysis),
        _ => Reply::failed(MetaVerdict::ParseFail),
    }
}

/// The tolerant rule: after the last `</think>` the last verdict counts, marks around the word are passed over, and
/// a verdict that is neither word is a failed reading, not Incorrect.
pub fn tolerant_reply(raw: Option<&str>) -> Reply {
    let Some(raw) = raw else { return Reply::failed(MetaVerdict::CallFail) };
    let answer = after_thinking(raw);
    let analysis = last(answer, "genrm_analysis").unwrap_or_default();
    let word = last(answer, "final_verdict").map(bare);
    match word.as_deref() {
        Some("correct") => Reply::decided(true, analysis),
        Some("incorrect") => Reply::decided(false, analysis),
        _ => Reply::failed(MetaVerdict::ParseFail),
    }
}

fn bare(verdict: &str) -> String {
    verdict.trim_matches(|mark: char| !mark.is_alphanumeric()).to_lowercase()
}

fn first<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    Some(until_close(rest, tag))
}

fn last<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.rsplit_once(&format!("<{tag}>"))?;
    Some(until_close(rest, tag))
}

fn until_close<'a>(rest: &'a str, tag: &str) -> &'a str {
    rest.split_once(&format!("</{tag}>")).map_or(rest, |(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: &str = "<final_verdict>Correct</final_verdict></think><genrm_analysis> misses k </genrm_analysis>\
                          <final_verdict>**Incorrect**.</final_verdict>";

    #[test]
    fn the_official_rule_takes_the_first_tag_even_inside_the_thinking() {
        let reply = official_reply(Some(QUOTED));
        assert_eq!((reply.verdict, reply.score), (MetaVerdict::Correct, Some(1.0)));
    }

    #[test]
    fn the_tolerant_rule_takes_the_last_and_passes_over_marks() {
        let reply = tolerant_reply(Some(QUOTED));
        assert_eq!((reply.verdict, reply.analysis.as_str()), (MetaVerdict::Incorrect, "misses k"));
        assert_eq!(tolerant_reply(Some("<final_verdict>Correct.</final_verdict>")).verdict, MetaVerdict::Correct);
    }

    #[test]
    fn the_tolerant_rule_fails_where_the_verdict_is_neither_word() {
        for raw in ["<final_verdict>Correct OR Incorrect</final_verdict>", "Correct", "<final_verdict></final_verdict>"]
        {
            assert_eq!(tolerant_reply(Some(raw)), Reply::failed(MetaVerdict::ParseFail), "{raw}");
        }
        assert_eq!(tolerant_reply(None).verdict, MetaVerdict::CallFail);
    }
}
