//! `data.judgments`: recorded judgments of other people's judges as rows of `bench.judge`, so that they can be scored
//! like a model's own. Decisions in the file are in the sense of the imported pair; texts follow the order shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::placement::swap;
use crate::jsonl;
use crate::judging::template::Template;
use crate::rows::{Judgment, Order, Pair, Side};

/// Parameters of `data.judgments`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Columns that must hold these values, as `{ judge = "GPT-4", strategy = "CoT" }`.
    #[serde(rename = "where")]
    pub filter: BTreeMap<String, Value>,
    /// Form in which the recorded decision is added at the end of the text.
    pub template: Template,
}

/// `data.judgments`.
pub struct Judgments;

impl Declare for Judgments {
    const KIND: &'static str = "data.judgments";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "join recorded judgments (LLMBar's layout) with their pairs";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("raw", "a JSONL file with id, swapped, rationale, decision"),
        InputSpec::required("pairs", "the pairs that were judged"),
    ];
    const OUTPUTS: &'static [OutputSpec] =
        &[OutputSpec::result("judgments", "judgments.jsonl", "one row a judgment, with its pair as it was shown")];
    type Params = Params;
}

#[derive(Deserialize)]
struct Recorded {
    id: String,
    #[serde(default)]
    swapped: bool,
    rationale: Option<String>,
    decision: Option<Side>,
}

impl Stage for Judgments {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let pairs: Vec<Pair> = jsonl::read_some(io.input("pairs")?)?;
        let by_id: BTreeMap<&str, &Pair> = pairs.iter().map(|pair| (pair.id.as_str(), pair)).collect();
        let judgments = read(io.input("raw")?, &params, &by_id)?;
        let judged: BTreeSet<&str> = judgments.iter().map(|row| row.pair.id.as_str()).collect();
        if judged.is_empty() {
            return Err(StageError::new("no judgment passes `where` and names a pair")
                .hint("look at the file's columns and at the ids of the input `pairs`"));
        }
        io.log(format!("{} of {} pairs have a recorded judgment", judged.len(), pairs.len()));
        jsonl::write(io.output("judgments")?, &judgments)
    }
}

fn read(path: &Path, params: &Params, pairs: &BTreeMap<&str, &Pair>) -> Result<Vec<Judgment>, StageError> {
    let (mut judgments, mut rows) = (Vec::new(), 0);
    let mut seen = BTreeSet::new();
    jsonl::for_each::<Map<String, Value>>(path, |line, row| {
        let bad = |problem: String| jsonl::bad_row(path, line, &problem);
        let row = row.map_err(bad)?;
        rows += 1;
        if params.filter.iter().any(|(column, wanted)| row.get(column) != Some(wanted)) {
            return Ok(());
        }
        let recorded: Recorded = jsonl::typed(row).map_err(bad)?;
        let Some(pair) = pairs.get(recorded.id.as_str()) else { return Ok(()) };
        if !seen.insert((recorded.id.clone(), recorded.swapped)) {
            let problem = format!("`{}` is judged twice in one order", recorded.id);
            return Err(bad(problem).hint("narrow `with.where` to one judge and strategy"));
        }
        judgments.push(judgment(params.template, pair, recorded));
        Ok(())
    })?;
    if rows == 0 { Err(jsonl::no_row(path)) } else { Ok(judgments) }
}

fn judgment(template: Template, pair: &Pair, recorded: Recorded) -> Judgment {
    // The pair may itself stand exchanged against the imported row that the record is about.
    let as_shown = pair.swapped == recorded.swapped;
    let shown = if as_shown { pair.clone() } else { swap(pair) };
    let decision = recorded.decision.map(|side| if recorded.swapped { side.other() } else { side });
    let verdict = decision.map(|side| template.verdict_text(side));
    let text = recorded.rationale.map(|text| match verdict {
        Some(verdict) => format!("{} {verdict}", text.trim()),
        None => text,
    });
    let order = if as_shown { Order::Original } else { Order::Swapped };
    Judgment { pair: shown, order, model_judgment: text, finished: true }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::pairs::Pairs;
    use crate::judging::verdict::{Parse, verdict};
    use crate::testing::{Bench, shared};

    fn pair(label: Side) -> Pair {
        let row = json!({"id": "p", "conversations": [{"role": "user", "content": "q"}], "response_A": "good", "response_B": "bad", "gt_label": label});
        serde_json::from_value(row).expect("a pair")
    }

    #[test]
    fn texts_follow_the_order_shown() {
        for placed in [pair(Side::A), swap(&pair(Side::A))] {
            for shown_swapped in [false, true] {
                let recorded = Recorded {
                    id: "p".into(),
                    swapped: shown_swapped,
                    rationale: Some("Because.".into()),
                    decision: Some(Side::A),
                };
                let row = judgment(Template::Boxed, &placed, recorded);
                let side = if shown_swapped { Side::B } else { Side::A };
                assert_eq!(row.model_judgment.as_deref(), Some(format!("Because. \\boxed{{{side}}}").as_str()));
                assert_eq!((row.pair.gt_label, row.pair.swapped), (side, shown_swapped));
                assert_eq!(row.order == Order::Original, placed.swapped == shown_swapped);
            }
        }
    }

    #[test]
    fn recorded_accuracy_of_gpt_4_on_llmbar_is_as_published() {
        let (Some(raw), Some(records)) = (shared("llmbar/pairs.jsonl"), shared("llmbar/judgments.jsonl")) else {
            return;
        };
        let bench = Bench::new();
        bench
            .run::<Pairs>(json!({"format": "llmbar", "subsets": ["natural"], "near_duplicates": 1.0}), &[("raw", &raw)])
            .expect("pairs");
        let pairs = bench.file("in.jsonl", &bench.text("pairs.jsonl"));
        let params = json!({"where": {"judge": "GPT-4", "strategy": "CoT"}});
        bench.run::<Judgments>(params, &[("raw", &records), ("pairs", &pairs)]).expect("judgments");
        let rows: Vec<Judgment> = bench.rows("judgments.jsonl");
        let right = rows.iter().filter(|row| {
            verdict(Parse::StrictLast, Template::Boxed, row.model_judgment.as_deref().unwrap_or_default())
                == Some(row.pair.gt_label)
        });
        let accuracy = right.count() as f64 / rows.len() as f64;
        assert_eq!(rows.len(), 200);
        assert!((accuracy - 0.94).abs() < 0.02, "{accuracy}");
    }
}
