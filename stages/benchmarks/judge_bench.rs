//! JudgeBench: every pair in both orders; a verdict for the right answer is +1, for the wrong one -1, none is 0, and the
//! pair is right where the sum is above 0.

use super::group::Group;
use super::row::{Adapter, Read, Row};
use super::score::{Outcome, Scored, mean, of_subsets};
use crate::rows::{Pair, Side};
use crate::stats::items::Metrics;

const COLUMNS: [&str; 6] = ["pair_id", "source", "question", "response_A", "response_B", "label"];
const CATEGORIES: [&str; 4] = ["mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench"];

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::new("judge-bench", &[&COLUMNS], read)
}

fn read(row: &Row<'_>) -> Result<Read, String> {
    let gt_label = match row.text("label")? {
        "A>B" => Side::A,
        "B>A" => Side::B,
        other => return Err(format!("column `label` holds `{other}`: expected `A>B` or `B>A`")),
    };
    let conversations = row.dialogue("question")?;
    let prompt_id = super::group::prompt_id(&conversations);
    let source = row.text("source")?;
    let category = CATEGORIES.iter().find(|category| source.starts_with(**category)).copied();
    let (response_a, response_b) = (row.text("response_A")?.to_string(), row.text("response_B")?.to_string());
    let (id, origin) = (row.name("pair_id")?, row.origin(category.unwrap_or(source)));
    let (gt_judgment, swapped, cue) = (None, false, None);
    let pair = Pair {
        id,
        conversations,
        response_a,
        response_b,
        gt_label,
        gt_judgment,
        source: origin,
        prompt_id,
        swapped,
        cue,
    };
    Ok(Group { tags: vec![source.to_string()], ..Group::of_pair(pair) }.into())
}

/// Its scores: of items that were judged in both orders.
pub fn official(items: &[Scored<'_>]) -> Metrics {
    let mut metrics = of_subsets(items, decided);
    let both: Vec<&[Outcome]> = items.iter().filter_map(|item| item.both_orders(0)).collect();
    let count = |holds: fn(&[Outcome]) -> bool| Some(both.iter().filter(|two| holds(two)).count() as f64);
    metrics.insert("n_inconsistent".into(), count(|two| two[0] != two[1]));
    metrics.insert("n_null".into(), count(|two| two.contains(&Outcome::None)));
    metrics.insert("inconsistent".into(), mean(both.iter().map(|two| f64::from(u8::from(two[0] != two[1])))));
    metrics
}

/// 1 where the two verdicts sum to more than 0; `None` where the pair was not judged in both orders.
pub fn decided(item: &Scored<'_>) -> Option<f64> {
    let sum: i32 = item.both_orders(0)?.iter().map(|outcome| outcome.sign()).sum();
    Some(f64::from(u8::from(sum > 0)))
}
