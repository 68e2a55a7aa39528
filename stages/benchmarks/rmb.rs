//! RMB: pairs, and best-of-n items that are right only where the best answer beats every loser.

use super::group::{Answer, Group};
use super::row::{Adapter, Read, Row, inner};
use super::score::{Scored, mean, of_subsets};
use crate::stats::items::Metrics;

const PAIRWISE: [&str; 4] = ["pair_uid", "conversation_input", "chosen", "reject"];
const BEST_OF_N: [&str; 4] = ["bon_uid", "conversation_input", "bon_best", "loser_list"];

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::new("rmb", &[&PAIRWISE, &BEST_OF_N], read)
}

fn read(row: &Row<'_>) -> Result<Read, String> {
    let best_of_n = row.has("bon_uid");
    let (id, best) = if best_of_n { ("bon_uid", "bon_best") } else { ("pair_uid", "chosen") };
    let right = row.inner(best, "answer")?;
    let wrong = match best_of_n {
        true => row
            .list("loser_list")?
            .iter()
            .map(|loser| inner(loser, "loser_list", "answer"))
            .collect::<Result<_, _>>()?,
        false => vec![row.inner("reject", "answer")?],
    };
    let goal = row.optional_name("goal")?;
    let subset = if goal.is_empty() { row.optional_name("category_path")? } else { goal };
    let dialogue = row.dialogue("conversation_input")?;
    let mut group = Group::of_lists(row.name(id)?, dialogue, vec![right], wrong, row.origin(subset));
    group.tags.push(if best_of_n { "best-of-n" } else { "pairwise" }.into());
    name_models(row, &mut group.answers);
    Ok(group.into())
}

fn name_models(row: &Row<'_>, answers: &mut [Answer]) {
    let best = row.columns.get("bon_best").or_else(|| row.columns.get("chosen"));
    let losers = row.columns.get("loser_list").and_then(|list| list.as_array()).map(Vec::as_slice).unwrap_or_default();
    let others = losers.iter().chain(row.columns.get("reject"));
    for (answer, written) in answers.iter_mut().zip(best.into_iter().chain(others)) {
        answer.model = written.get("llm_name").and_then(|name| name.as_str()).unwrap_or_default().to_string();
    }
}

/// Its scores.
pub fn official(items: &[Scored<'_>]) -> Metrics {
    let mut metrics = of_subsets(items, Scored::all_right);
    for tag in ["pairwise", "best-of-n"] {
        let inside = items.iter().filter(|item| item.group.tags.iter().any(|own| own == tag));
        metrics.insert(format!("accuracy/{tag}"), mean(inside.filter_map(Scored::all_right)));
    }
    metrics
}
