//! `stats.agreement`: how far branches agree with one another on the same items: kappa of every two, on the items that
//! both decided. Of meta-judges on rationales (gathered over the meta-judges), or of a judge's own verdicts with one
//! another (gathered over seeds: self-consistency). Reads verdicts, never what they are about.

use std::collections::BTreeMap;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::{self, Bootstrap, Interval};
use super::compare::mean;
use super::items::Metrics;
use super::kappa::Agreement;
use super::markdown::{Table, number, range};
use crate::jsonl;
use crate::judging::meta::MetaVerdict;
use crate::rows::Side;

/// Which verdicts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// The meta-judge's: Correct or Incorrect.
    #[default]
    Meta,
    /// The judge's own: A or B.
    Label,
}

/// Parameters of `stats.agreement`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Which verdicts: `meta` (meta-judges on rationales) or `label` (a judge's own; over seeds, its self-consistency).
    #[serde(default)]
    pub of: Of,
    /// Resamples of the bootstrap over items.
    #[serde(default = "bootstrap::ten_thousand")]
    pub bootstrap_samples: usize,
    /// Level of the intervals.
    #[serde(default = "bootstrap::ninety_five")]
    pub interval: f64,
    /// Seed of the bootstrap.
    #[serde(default)]
    pub seed: u64,
}

/// `stats.agreement`.
pub struct StatsAgreement;

impl Declare for StatsAgreement {
    const KIND: &'static str = "stats.agreement";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "agreement of meta-judges, or of a judge with itself over seeds: kappa, with intervals";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::gather(
        "rows",
        "rows of bench.s-corr or bench.meta-judge, gathered over meta-judges or over seeds",
    )];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("table", "table.md", "a table to read"),
        OutputSpec::result(
            "metrics",
            "metrics.json",
            "kappa and agreement of every two, with their ends, and the means over all",
        ),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        Bootstrap::problems(params.bootstrap_samples, params.interval)
    }
}

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(default)]
    order: String,
    #[serde(default)]
    model_pred: Option<Side>,
    metarm_verdict: MetaVerdict,
}

impl Row {
    // Yes or no; `None` where nothing was decided.
    fn decided(&self, of: Of) -> Option<bool> {
        match (of, self.metarm_verdict) {
            (Of::Label, _) => self.model_pred.map(|side| side == Side::A),
            (Of::Meta, MetaVerdict::Correct) => Some(true),
            (Of::Meta, MetaVerdict::Incorrect) => Some(false),
            (Of::Meta, _) => None,
        }
    }
}

/// A branch's verdicts by item.
struct Judge {
    name: String,
    verdicts: BTreeMap<(String, String), Option<bool>>,
}

struct Compared {
    name: String,
    agreement: Agreement,
    interval: Option<Interval>,
    undecided: usize,
}

impl Stage for StatsAgreement {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let mut judges = Vec::new();
        for branch in io.gathered("rows")? {
            let Some(path) = &branch.path else { continue };
            let rows: Vec<Row> = jsonl::read_some(path)?;
            let labels: Vec<String> = branch.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
            let decided = |row: Row| {
                let decided = row.decided(params.of);
                ((row.id, row.order), decided)
            };
            let verdicts = rows.into_iter().map(decided).collect();
            judges.push(Judge { name: format!("{}@{}", branch.stage, labels.join(",")), verdicts });
        }
        let bootstrap = Bootstrap { samples: params.bootstrap_samples, level: params.interval, seed: params.seed };
        let pairs = judges
            .iter()
            .enumerate()
            .flat_map(|(place, first)| judges[place + 1..].iter().map(move |other| (first, other)));
        let compared: Vec<Compared> = pairs.map(|(first, second)| compared(first, second, bootstrap)).collect();
        if compared.is_empty() {
            return Err(
                StageError::new("there are no two branches to compare").hint("gather over the axis of meta-judges")
            );
        }
        jsonl::write_text(io.output("table")?, &table(&compared, params.interval))?;
        jsonl::write_json(io.output("metrics")?, &metrics(&compared))
    }
}

fn compared(first: &Judge, second: &Judge, bootstrap: Bootstrap) -> Compared {
    let shared: Vec<_> =
        first.verdicts.iter().filter_map(|(item, one)| Some((*one, *second.verdicts.get(item)?))).collect();
    let both: Vec<(bool, bool)> = shared.iter().filter_map(|(one, other)| Some(((*one)?, (*other)?))).collect();
    let count = |pairs: &mut dyn Iterator<Item = (bool, bool)>| {
        let mut agreement = Agreement::default();
        pairs.for_each(|(one, other)| agreement.count(one, other));
        agreement
    };
    let resampled =
        |draw: &mut bootstrap::Draw| count(&mut (0..both.len()).map(|_| both[draw.index(both.len())])).kappa();
    Compared {
        name: format!("{} ~ {}", first.name, second.name),
        agreement: count(&mut both.iter().copied()),
        interval: if both.is_empty() { None } else { bootstrap.interval(resampled) },
        undecided: shared.iter().filter(|(one, other)| one.is_some() != other.is_some()).count(),
    }
}

fn table(compared: &[Compared], level: f64) -> String {
    let mut table = Table::new(["branches", "items both decided", "only one decided", "agree", "kappa", "interval"]);
    for row in compared {
        let counts = (format!("{}", row.agreement.items()), row.undecided.to_string());
        let (agree, kappa) = (number(row.agreement.observed()), number(row.agreement.kappa()));
        table.row([row.name.clone(), counts.0, counts.1, agree, kappa, range(row.interval)]);
    }
    format!("# Agreement\n\nKappa is Cohen's; intervals are at {} %.\n\n{}", level * 100.0, table.render())
}

fn metrics(compared: &[Compared]) -> Metrics {
    let mut metrics = Metrics::new();
    for row in compared {
        metrics.insert(format!("{}/n", row.name), Some(row.agreement.items()));
        metrics.insert(format!("{}/undecided", row.name), Some(row.undecided as f64));
        metrics.insert(format!("{}/agree", row.name), row.agreement.observed());
        metrics.insert(format!("{}/low", row.name), row.interval.map(|ends| ends.low));
        metrics.insert(format!("{}/high", row.name), row.interval.map(|ends| ends.high));
        metrics.insert(row.name.clone(), row.agreement.kappa());
    }
    let mean = |of: fn(&Agreement) -> Option<f64>| mean(compared.iter().filter_map(|row| of(&row.agreement)));
    metrics.insert("agree".into(), mean(Agreement::observed));
    metrics.insert("kappa".into(), mean(Agreement::kappa));
    metrics
}

#[cfg(test)]
mod tests {
    use plumb_engine::io::{Branch, InputPlace, Manner};

    use super::*;

    /// Verdicts of branches, each item's meta-judge and label verdict apart by a slash.
    fn metrics_of(of: Of, branches: [&[&str]; 2]) -> Metrics {
        let folder = tempfile::tempdir().unwrap();
        let branch = |(name, verdicts): (&str, &[&str])| {
            let row = |(id, verdict): (usize, &&str)| {
                let (meta, label) = verdict.split_once('/').unwrap();
                let label = if label.is_empty() { "null".to_string() } else { format!("\"{label}\"") };
                format!(
                    "{{\"id\":\"{id}\",\"order\":\"original\",\"model_pred\":{label},\"metarm_verdict\":\"{meta}\"}}\n"
                )
            };
            let path = folder.path().join(name);
            std::fs::write(&path, verdicts.iter().enumerate().map(row).collect::<String>()).unwrap();
            let labels = BTreeMap::from([("meta".to_string(), name.to_string())]);
            Branch { stage: "score".into(), labels, baseline: false, path: Some(path), adaptive: BTreeMap::new() }
        };
        let branches = ["a", "b"].into_iter().zip(branches).map(branch).collect();
        let outputs = ["table", "metrics"].map(|name| (name.to_string(), folder.path().join(format!("out-{name}"))));
        let inputs = BTreeMap::from([("rows".to_string(), InputPlace::Gathered(branches))]);
        let io = Io::new(inputs, outputs.into(), folder.path().into(), Manner::default(), None).unwrap();
        StatsAgreement::run(Params { of, bootstrap_samples: 100, interval: 0.95, seed: 0 }, &io).unwrap();
        jsonl::read_json(&folder.path().join("out-metrics")).unwrap()
    }

    const ROWS: [&[&str]; 2] = [
        &["Correct/A", "Correct/A", "Incorrect/B", "Incorrect/B", "Correct/A", "SkippedLabelMismatch/"],
        &["Correct/A", "Incorrect/B", "Incorrect/B", "Incorrect/B", "CallFail/A", "SkippedLabelMismatch/A"],
    ];

    #[test]
    fn two_meta_judges_are_compared_where_both_decided() {
        let metrics = metrics_of(Of::Meta, ROWS);
        let name = "score@meta=a ~ score@meta=b";
        let of = |field: &str| metrics[&format!("{name}{field}")];
        assert_eq!([of(""), of("/n"), of("/undecided")], [Some(0.5), Some(4.0), Some(1.0)]);
    }

    #[test]
    fn a_judge_is_compared_with_itself_over_its_own_verdicts() {
        let metrics = metrics_of(Of::Label, ROWS);
        assert_eq!([metrics["agree"], metrics["score@meta=a ~ score@meta=b/n"]], [Some(0.8), Some(5.0)]);
    }
}
