//! LLMBar: accuracy by subset, the four adversarial ones together, and how often both orders agree.

use super::group::Group;
use super::row::{Adapter, Read, Row, unexpected};
use super::score::{Scored, mean, of_subsets};
use crate::rows::{Origin, Pair, Side};
use crate::stats::items::Metrics;

const ADVERSARIAL: [&str; 4] = ["neighbor", "gptinst", "gptout", "manual"];
const OURS: [&str; 6] = ["id", "subset", "prompt", "response_a", "response_b", "label"];
const THEIRS: [&str; 4] = ["input", "output_1", "output_2", "label"];

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::new("llmbar", &[&OURS, &THEIRS], read)
}

fn read(row: &Row<'_>) -> Result<Read, String> {
    let [prompt, a, b] =
        if row.has("input") { ["input", "output_1", "output_2"] } else { ["prompt", "response_a", "response_b"] };
    let gt_label = match row.columns.get("label") {
        Some(label) if *label == "A" || *label == 1 => Side::A,
        Some(label) if *label == "B" || *label == 2 => Side::B,
        label => return Err(unexpected("label", "A, B, 1 or 2", label.unwrap_or(&serde_json::Value::Null))),
    };
    let conversations = row.dialogue(prompt)?;
    let prompt_id = super::group::prompt_id(&conversations);
    let (response_a, response_b) = (row.text(a)?.to_string(), row.text(b)?.to_string());
    let id = match row.optional_name("id")? {
        id if id.is_empty() => {
            format!("llmbar-{:016x}", crate::data::hash::number(&[&prompt_id, &response_a, &response_b]))
        }
        id => id,
    };
    let source = Origin { dataset: "llmbar".into(), subset: row.optional_name("subset")? };
    let (gt_judgment, swapped, cue) = (None, false, None);
    let pair =
        Pair { id, conversations, response_a, response_b, gt_label, gt_judgment, source, prompt_id, swapped, cue };
    Ok(Group::of_pair(pair).into())
}

/// Its scores.
pub fn official(items: &[Scored<'_>]) -> Metrics {
    let mut metrics = of_subsets(items, Scored::mean_value);
    let of = |subset: &str| mean(items.iter().filter(|item| item.subset() == subset).filter_map(Scored::mean_value));
    let adversarial: Vec<f64> = ADVERSARIAL.iter().filter_map(|subset| of(subset)).collect();
    let whole = (adversarial.len() == ADVERSARIAL.len()).then(|| mean(adversarial.into_iter())).flatten();
    metrics.insert("adversarial".into(), whole);
    let agreement = mean(items.iter().filter_map(Scored::orders_agree).map(|agree| f64::from(u8::from(agree))));
    metrics.insert("positional_agreement".into(), agreement);
    metrics
}
