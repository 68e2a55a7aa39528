//! `data.official`: rows of the official scripts as judgments and verdicts of ours. What they recorded is kept; where our
//! reading of the same text by the official rules differs, the row is named.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OfficialRow;
use crate::jsonl;
use crate::judging::meta::{MetaVerdict, official_reply};
use crate::judging::s_corr::{BothOrders, RowVerdict, items};
use crate::judging::scores::Tally;
use crate::judging::template::Template;
use crate::judging::verdict::{Parse, verdict};
use crate::rows::{Judgment, Message, Order, Origin, Pair};
use crate::stats::items::Metrics;

/// Parameters of `data.official`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Take rows whose recorded verdict is not what the official rules make of the recorded text: they are counted as
    /// `differing`. Left out, such a row is an error.
    pub allow_differences: bool,
}

/// `data.official`.
pub struct DataOfficial;

impl Declare for DataOfficial {
    const KIND: &'static str = "data.official";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "results of the official R-Align scripts as judgments, verdicts and scores";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] =
        &[InputSpec::required("raw", "one JSONL file of `result/` or `result_metarm/`")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("judgments", "judgments.jsonl", "the judge's texts, for bench.s-corr"),
        OutputSpec::result("rows", "rows.jsonl", "the verdicts as recorded"),
        OutputSpec::result("items", "items.jsonl", "one row an item, for stats.compare"),
        OutputSpec::result("metrics", "metrics.json", "label accuracy, spurious correctness and fidelity as recorded"),
    ];
    type Params = Params;
}

impl Stage for DataOfficial {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let path = io.input("raw")?;
        let official: Vec<OfficialRow> = jsonl::read_some(path)?;
        let differing = official.iter().filter_map(difference).collect::<Vec<_>>();
        if let (Some(first), false) = (differing.first(), params.allow_differences) {
            let message = format!("{}: {first}, and {} more rows like it", path.display(), differing.len() - 1);
            return Err(
                StageError::new(message).hint("`with.allow_differences = true` takes them as they are recorded")
            );
        }
        let judgments: Vec<Judgment> = official.iter().map(judgment).collect();
        let rows: Vec<RowVerdict> = official.iter().map(row).collect();
        let scored = items::combine(&judgments, &rows, BothOrders::Each)?;
        jsonl::write(io.output("judgments")?, &judgments)?;
        jsonl::write(io.output("rows")?, &rows)?;
        jsonl::write(io.output("items")?, scored.iter().map(items::Item::row))?;
        let judged = official.iter().any(|row| row.metarm_verdict.is_some());
        jsonl::write_json(io.output("metrics")?, &metrics(&rows, judged, differing.len()))
    }
}

// How a recorded verdict differs from what the official rules make of the recorded text.
fn difference(row: &OfficialRow) -> Option<String> {
    let text = row.model_judgment.as_deref();
    let found = text.and_then(|text| verdict(Parse::RalignOfficial, Template::Boxed, text));
    let told = |what: &str, recorded: String, found: String| {
        Some(format!("row `{}` records {what} {recorded}, and its text gives {found}", row.id))
    };
    if found != row.model_pred {
        return told("the verdict", format!("{:?}", row.model_pred), format!("{found:?}"));
    }
    let recorded = row.metarm_verdict?;
    let meta = match found == Some(row.gt_label) {
        true => official_reply(row.metarm_raw.as_deref()).verdict,
        false => MetaVerdict::SkippedLabelMismatch,
    };
    if meta == recorded { None } else { told("the meta-judge's", format!("{recorded:?}"), format!("{meta:?}")) }
}

fn judgment(row: &OfficialRow) -> Judgment {
    let text = |name: &str| row.others.get(name).and_then(|text| text.as_str()).unwrap_or_default().to_string();
    let pair = Pair {
        id: row.id.clone(),
        conversations: column::<Vec<Message>>(row, "conversations"),
        response_a: text("response_A"),
        response_b: text("response_B"),
        gt_label: row.gt_label,
        gt_judgment: row.gt_judgment.clone(),
        source: column::<Origin>(row, "source"),
        prompt_id: String::new(),
        swapped: false,
        cue: None,
    };
    Judgment { pair, order: Order::Original, model_judgment: row.model_judgment.clone(), finished: true }
}

fn column<T: DeserializeOwned + Default>(row: &OfficialRow, name: &str) -> T {
    row.others.get(name).and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
}

fn row(row: &OfficialRow) -> RowVerdict {
    let not_asked =
        if row.model_pred == Some(row.gt_label) { MetaVerdict::CallFail } else { MetaVerdict::SkippedLabelMismatch };
    RowVerdict {
        id: row.id.clone(),
        order: Order::Original,
        subset: column::<Origin>(row, "source").subset,
        gt_label: row.gt_label,
        model_pred: row.model_pred,
        metarm_verdict: row.metarm_verdict.unwrap_or(not_asked),
        metarm_score: row.metarm_score,
        agreement: row.metarm_score,
        metarm_analysis: row.metarm_analysis.clone(),
        metarm_raw: row.metarm_raw.clone(),
    }
}

fn metrics(rows: &[RowVerdict], judged: bool, differing: usize) -> Metrics {
    let tally = Tally::of(rows.iter().map(|row| row.metarm_verdict));
    let known = |value: Option<f64>| value.filter(|_| judged);
    let count = |number: u64| Some(number as f64);
    Metrics::from([
        ("n".into(), count(tally.rows())),
        ("l_acc".into(), tally.l_acc()),
        ("s_corr".into(), known(tally.s_corr())),
        ("f_score".into(), known(tally.f_score())),
        ("coverage".into(), known(tally.coverage())),
        ("call_fail".into(), count(tally.call_fail).filter(|_| judged)),
        ("parse_fail".into(), count(tally.parse_fail).filter(|_| judged)),
        ("differing".into(), count(differing as u64)),
    ])
}
