//! What becomes of one judgment: its verdict and, where the label is right, the meta-judge's.

use serde::{Deserialize, Serialize};

use super::Params;
use crate::judging::meta::{Judged, MetaVerdict};
use crate::judging::verdict::verdict;
use crate::rows::{Judgment, Order, Side};

/// A judged row under the official field names; `agreement` and `order` are ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowVerdict {
    /// The benchmark row.
    pub id: String,
    /// The order in which the answers were shown; sides below are as shown.
    pub order: Order,
    /// Domain or subset.
    pub subset: String,
    /// The better answer.
    pub gt_label: Side,
    /// The judge's verdict; `null` where there is none.
    pub model_pred: Option<Side>,
    /// Whether the rationale matches gold.
    pub metarm_verdict: MetaVerdict,
    /// 1 or 0; `null` where the meta-judge was not asked or failed.
    pub metarm_score: Option<f64>,
    /// The meta-judge's graded agreement, from 0 to 1.
    pub agreement: Option<f64>,
    /// The meta-judge's grounds.
    pub metarm_analysis: String,
    /// The meta-judge's own words, where it wrote any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metarm_raw: Option<String>,
}

impl RowVerdict {
    /// Reads the verdict and asks the meta-judge where the label is right.
    pub fn of(judgment: &Judgment, params: &Params) -> Self {
        let text = judgment.model_judgment.as_deref();
        let prediction = text.and_then(|text| verdict(params.parse, params.template, text));
        let label_correct = prediction == Some(judgment.pair.gt_label);
        let judged = if label_correct { asked(judgment, params) } else { not_asked() };
        Self {
            id: judgment.pair.id.clone(),
            order: judgment.order,
            subset: judgment.pair.source.subset.clone(),
            gt_label: judgment.pair.gt_label,
            model_pred: prediction,
            metarm_verdict: judged.verdict,
            metarm_score: judged.known_score().map(|_| f64::from(u8::from(judged.verdict == MetaVerdict::Correct))),
            agreement: judged.known_score(),
            metarm_analysis: judged.analysis,
            metarm_raw: None,
        }
    }

    /// Whether the label is right.
    pub fn label_correct(&self) -> bool {
        self.model_pred == Some(self.gt_label)
    }
}

fn asked(judgment: &Judgment, params: &Params) -> Judged {
    let gold = judgment.pair.gt_judgment.as_deref().unwrap_or_default();
    params.meta.judge(gold, judgment.model_judgment.as_deref().unwrap_or_default())
}

fn not_asked() -> Judged {
    Judged { verdict: MetaVerdict::SkippedLabelMismatch, score: 0.0, analysis: String::new() }
}
