//! Rewards of a generative reward model: what a label and a meta-judge's answer are worth together.
//!
//! R-Align: `R = 1[label right] · 1[meta-judge says Correct]`, the meta-judge not asked where the label is
//! wrong. A failed meta-judge has no reward (`None`, masked), never 0: a judge that was down is not a bad rationale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::judging::meta::{Judged, MetaVerdict};

/// What the judge is rewarded for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RewardKind {
    /// The label alone (outcome-only RLVR).
    Label,
    /// The label, and a rationale that the meta-judge calls Correct (R-Align).
    #[default]
    LabelAndRationale,
    /// The label times the meta-judge's graded agreement (RationaleRM's product).
    LabelTimesAp,
    /// Where the label is right, 1 + `lambda` times the graded agreement (RM-NLHF).
    LabelPlusLambda {
        /// Weight of the agreement.
        lambda: f64,
    },
}

impl RewardKind {
    /// Whether a right label is sent to the meta-judge at all.
    pub fn asks_meta_judge(self) -> bool {
        self != Self::Label
    }
}

/// What a full and an empty reward are worth: RM-R1 uses +1 and -1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardValues {
    /// Value of a reward of 1.
    pub correct: f64,
    /// Value of a reward of 0.
    pub wrong: f64,
}

impl Default for RewardValues {
    fn default() -> Self {
        Self { correct: 1.0, wrong: 0.0 }
    }
}

impl RewardValues {
    /// Places a reward between `wrong` (0) and `correct` (1), and beyond it for `label-plus-lambda`.
    pub fn place(self, reward: Option<f64>) -> Option<f64> {
        reward.map(|reward| self.wrong + reward * (self.correct - self.wrong))
    }
}

/// The reward from 0 to 1 (1 + lambda), before [`RewardValues`]; `None` is masked. `meta` is looked at only where the
/// label is right and the kind asks for it: callers need not (and for R-Align must not) ask the meta-judge otherwise.
pub fn reward(kind: RewardKind, label_correct: bool, meta: Option<&Judged>) -> Option<f64> {
    if !label_correct {
        return Some(0.0);
    }
    match kind {
        RewardKind::Label => Some(1.0),
        RewardKind::LabelAndRationale => gate(meta?),
        RewardKind::LabelTimesAp => meta?.known_score(),
        RewardKind::LabelPlusLambda { lambda } => Some(1.0 + lambda * meta?.known_score()?),
    }
}

fn gate(meta: &Judged) -> Option<f64> {
    match meta.verdict {
        MetaVerdict::Correct => Some(1.0),
        MetaVerdict::Incorrect => Some(0.0),
        MetaVerdict::CallFail | MetaVerdict::ParseFail | MetaVerdict::SkippedLabelMismatch => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict: MetaVerdict, score: f64) -> Judged {
        Judged { verdict, score, analysis: String::new() }
    }

    const KINDS: [RewardKind; 4] = [
        RewardKind::Label,
        RewardKind::LabelAndRationale,
        RewardKind::LabelTimesAp,
        RewardKind::LabelPlusLambda { lambda: 0.5 },
    ];

    #[test]
    fn a_wrong_label_is_worth_nothing_and_needs_no_meta_judge() {
        for kind in KINDS {
            assert_eq!(reward(kind, false, None), Some(0.0), "{kind:?}");
        }
    }

    #[test]
    fn kinds_differ_only_in_what_the_rationale_is_worth() {
        let all = |meta: &Judged| KINDS.map(|kind| reward(kind, true, Some(meta)));
        assert_eq!(all(&judged(MetaVerdict::Correct, 1.0)), [Some(1.0), Some(1.0), Some(1.0), Some(1.5)]);
        assert_eq!(all(&judged(MetaVerdict::Incorrect, 0.5)), [Some(1.0), Some(0.0), Some(0.5), Some(1.25)]);
    }

    #[test]
    fn a_failed_meta_judge_masks_and_is_never_zero() {
        for verdict in [MetaVerdict::CallFail, MetaVerdict::ParseFail, MetaVerdict::SkippedLabelMismatch] {
            let rewards = KINDS.map(|kind| reward(kind, true, Some(&judged(verdict, 0.0))));
            assert_eq!(rewards, [Some(1.0), None, None, None]);
        }
        assert_eq!(reward(RewardKind::LabelAndRationale, true, None), None);
    }

    #[test]
    fn values_are_placed_between_wrong_and_correct() {
        let signed = RewardValues { correct: 1.0, wrong: -1.0 };
        assert_eq!(
            [Some(0.0), Some(1.0), Some(0.5), None].map(|r| signed.place(r)),
            [Some(-1.0), Some(1.0), Some(0.0), None]
        );
    }

    #[test]
    fn an_axis_names_a_kind_by_a_plain_word() {
        let kind: RewardKind = serde_json::from_str("\"label-and-rationale\"").unwrap();
        assert_eq!(kind, RewardKind::LabelAndRationale);
        let graded: RewardKind = serde_json::from_str(r#"{"label-plus-lambda":{"lambda":0.5}}"#).unwrap();
        assert_eq!(graded, KINDS[3]);
    }
}
