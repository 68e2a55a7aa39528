//! The files of the official R-Align evaluation scripts, read and written: `result/*.jsonl`, `result_metarm/*.jsonl` and
//! `results_summary.csv`, so that a researcher can check one against the other.

mod export;
mod import;

use std::collections::BTreeMap;

use plumb_engine::stage::Registry;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use export::ExportOfficial;
pub use import::DataOfficial;

use super::meta::MetaVerdict;
use crate::rows::Side;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<DataOfficial>().with::<ExportOfficial>()
}

/// A row of `result_metarm/BENCH__MODEL_metarm_META.jsonl`; one of `result/` has no field of the meta-judge's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OfficialRow {
    id: String,
    gt_label: Side,
    #[serde(default)]
    gt_judgment: Option<String>,
    model_judgment: Option<String>,
    model_pred: Option<Side>,
    #[serde(default)]
    metarm_raw: Option<String>,
    #[serde(default)]
    metarm_verdict: Option<MetaVerdict>,
    #[serde(default)]
    metarm_score: Option<f64>,
    #[serde(default)]
    metarm_analysis: String,
    /// The benchmark's own columns (conversations, response_A, response_B, source) and the scripts' `meta`.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests;
