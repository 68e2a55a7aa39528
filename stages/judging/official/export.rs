//! `export.official`: judgments and verdicts of ours as the official scripts would have written them. The numbers are
//! formed by their definitions from what stands in the rows; nothing is judged again.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::io::{Branch, Io};
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OfficialRow;
use crate::jsonl;
use crate::judging::s_corr::RowVerdict;
use crate::judging::scores::Tally;
use crate::rows::{Judgment, Order, Pair};

/// Parameters of `export.official`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The axis whose labels name the benchmarks' files, as `helpsteer3_aug`; left out, the stage's name does.
    #[serde(default)]
    pub benchmark_axis: Option<String>,
    /// The axis whose labels name the models.
    pub model_axis: String,
    /// The name of the meta-judge in the files' names.
    #[serde(default = "meta")]
    pub meta: String,
}

fn meta() -> String {
    "meta".into()
}

/// `export.official`.
pub struct ExportOfficial;

impl Declare for ExportOfficial {
    const KIND: &'static str = "export.official";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "judgments and verdicts as the official R-Align scripts write them";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::gather("judgments", "judgments, gathered over models and benchmarks"),
        InputSpec::gather("rows", "their rows of bench.s-corr, gathered over the same"),
    ];
    const OUTPUTS: &'static [OutputSpec] =
        &[OutputSpec::result("official", "official", "a folder with result_metarm/*.jsonl and results_summary.csv")];
    type Params = Params;
}

impl Stage for ExportOfficial {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let folder = io.output("official")?;
        let results = folder.join("result_metarm");
        std::fs::create_dir_all(&results).map_err(|error| StageError::file("make the folder", &results, &error))?;
        let (judgments, rows) = (io.gathered("judgments")?, io.gathered("rows")?);
        let mut summary = Summary::default();
        for branch in rows {
            let (benchmark, model) = names(&params, branch)?;
            let Some(rows) = &branch.path else { continue };
            let texts =
                judgments.iter().find(|other| other.labels == branch.labels).and_then(|other| other.path.as_ref());
            let missing = || StageError::new(format!("no judgments stand at {:?}", branch.labels));
            let texts = texts.ok_or_else(|| missing().hint("gather both inputs over the same axes"))?;
            let official = official(texts, rows, io)?;
            let verdicts = official.iter().filter_map(|row| row.metarm_verdict);
            summary.put(&benchmark, &model, Tally::of(verdicts))?;
            jsonl::write(&results.join(format!("{benchmark}__{model}_metarm_{}.jsonl", params.meta)), &official)?;
        }
        jsonl::write_text(&folder.join("results_summary.csv"), &summary.csv())
    }
}

fn names(params: &Params, branch: &Branch) -> Result<(String, String), StageError> {
    let label = |axis: &str| -> Result<String, StageError> {
        let known = branch.labels.keys().cloned().collect::<Vec<_>>().join(", ");
        let missing = || StageError::new(format!("`{}` has no label on axis `{axis}`", branch.stage));
        let label = branch.labels.get(axis).cloned();
        label.map(|label| label.replace(['/', ' ', ','], "-")).ok_or_else(|| missing().hint(format!("it has: {known}")))
    };
    let benchmark = params.benchmark_axis.as_deref().map_or(Ok(branch.stage.clone()), label)?;
    Ok((benchmark, label(&params.model_axis)?))
}

// The official scripts never exchange the answers: rows in the other order are left out and counted.
fn official(texts: &Path, rows: &Path, io: &Io) -> Result<Vec<OfficialRow>, StageError> {
    let judgments: Vec<Judgment> = jsonl::read_some(texts)?;
    let texts: BTreeMap<&str, &Judgment> = judgments
        .iter()
        .filter(|judgment| judgment.order == Order::Original)
        .map(|judgment| (judgment.pair.id.as_str(), judgment))
        .collect();
    let all: Vec<RowVerdict> = jsonl::read_some(rows)?;
    let (original, swapped): (Vec<_>, Vec<_>) = all.into_iter().partition(|row| row.order == Order::Original);
    if !swapped.is_empty() {
        io.log(format!(
            "{} judgments of exchanged answers are left out: the official files have one order",
            swapped.len()
        ));
    }
    let one = |row: RowVerdict| {
        let missing = || StageError::new(format!("{}: no judgment is of `{}`", rows.display(), row.id));
        texts.get(row.id.as_str()).map(|judgment| written(judgment, &row)).ok_or_else(missing)
    };
    original.into_iter().map(one).collect()
}

fn written(judgment: &Judgment, row: &RowVerdict) -> OfficialRow {
    OfficialRow {
        id: row.id.clone(),
        gt_label: row.gt_label,
        gt_judgment: judgment.pair.gt_judgment.clone(),
        model_judgment: judgment.model_judgment.clone(),
        model_pred: row.model_pred,
        metarm_raw: row.metarm_raw.clone(),
        metarm_verdict: Some(row.metarm_verdict),
        metarm_score: row.metarm_score,
        metarm_analysis: row.metarm_analysis.clone(),
        others: others(&judgment.pair),
    }
}

fn others(pair: &Pair) -> BTreeMap<String, Value> {
    if pair.conversations.is_empty() {
        return BTreeMap::new();
    }
    let columns = [
        ("conversations", json!(pair.conversations)),
        ("response_A", json!(pair.response_a)),
        ("response_B", json!(pair.response_b)),
        ("source", json!(pair.source)),
    ];
    columns.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// The table of models and benchmarks, each in the order in which it came.
#[derive(Default)]
struct Summary {
    benchmarks: Vec<String>,
    models: Vec<String>,
    tallies: BTreeMap<(String, String), Tally>,
}

impl Summary {
    fn put(&mut self, benchmark: &str, model: &str, tally: Tally) -> Result<(), StageError> {
        for (list, name) in [(&mut self.benchmarks, benchmark), (&mut self.models, model)] {
            if !list.iter().any(|known| known == name) {
                list.push(name.into());
            }
        }
        match self.tallies.insert((benchmark.into(), model.into()), tally) {
            None => Ok(()),
            Some(_) => Err(StageError::new(format!("`{model}` stands twice on `{benchmark}`"))
                .hint("gather one seed, and name both axes that tell the files apart")),
        }
    }

    // As Python's csv module writes it: per cent with four decimals, lines that end in CR LF.
    fn csv(&self) -> String {
        let metrics = ["label_acc", "spurious_correctness", "fidelity_score"];
        let head = self.benchmarks.iter().flat_map(|bench| metrics.map(|metric| format!(",{bench}__{metric}")));
        let mut text = format!("model{}\r\n", head.collect::<String>());
        for model in &self.models {
            text += model;
            for bench in &self.benchmarks {
                let tally = self.tallies.get(&(bench.clone(), model.clone()));
                let values = tally.map_or([None; 3], |tally| [tally.l_acc(), tally.s_corr(), tally.f_score()]);
                values.iter().for_each(|value| {
                    text.push(',');
                    text += &value.map_or(String::new(), |value| format!("{:.4}", 100.0 * value));
                });
            }
            text += "\r\n";
        }
        text
    }
}
