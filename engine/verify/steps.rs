//! The first step at which two trainings parted: by the rows of `steps.jsonl`, a diagnostic in which a training stage
//! tells each optimiser step, every row chained to the one before by a digest.

use plumb_cache::{ActionRecord, Store};
use serde_json::Value;

/// The diagnostic's file name.
const FILE: &str = "steps.jsonl";

/// The step of the first row that differs; `None` where a side tells no steps, or all rows agree.
pub(super) fn first_diverging(store: &Store, before: &ActionRecord, again: &ActionRecord) -> Option<u64> {
    let (before, again) = (rows(store, before)?, rows(store, again)?);
    let parted = before.iter().zip(&again).position(|(before, again)| before != again);
    let at = parted.or_else(|| (before.len() != again.len()).then(|| before.len().min(again.len())))?;
    before.get(at).or_else(|| again.get(at))?.get("step")?.as_u64()
}

fn rows(store: &Store, record: &ActionRecord) -> Option<Vec<Value>> {
    let output = record.outputs.values().find(|output| output.diagnostic && output.file == FILE)?;
    let bytes = store.read(&output.artifact).ok()?;
    String::from_utf8(bytes).ok()?.lines().map(|line| serde_json::from_str(line).ok()).collect()
}
