//! `report.html`: the report as a stage, of what a pipeline gathers. It knows neither the graph nor what steps took:
//! clocks and costs are in no result (`plumb report FILE` makes the page that has them).

use std::path::Path;

use plumb_engine::io::{Branch, Io};
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Evidence, Labels, Scored, Trained, page};
use crate::jsonl;

/// Parameters of `report.html`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What stands at the top of the page.
    #[serde(default = "title")]
    pub title: String,
    /// The axis whose values are benchmarks; without it each scoring stage is one.
    #[serde(default = "page::bench")]
    pub benchmark_axis: String,
    /// The axis whose branches are replicates of one another.
    #[serde(default = "page::seed")]
    pub replicate_axis: String,
    /// Bytes that the page should not exceed: the longest texts of the drill-down are shortened until it fits.
    #[serde(default = "page::most")]
    pub max_size: usize,
}

fn title() -> String {
    "Report".into()
}

/// The kind `report.html`.
pub struct Html;

impl Declare for Html {
    const KIND: &'static str = "report.html";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "one self-contained page: headline table, curves, probes, every judgment";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::gather("metrics", "metrics of bench.s-corr"),
        InputSpec::gather("items", "items of bench.s-corr"),
        InputSpec { required: false, ..InputSpec::gather("rows", "rows of bench.s-corr, for the drill-down") },
        InputSpec { required: false, ..InputSpec::gather("judgments", "the judgments that were scored") },
        InputSpec { required: false, ..InputSpec::gather("steps", "steps of training, for the curves") },
        InputSpec::optional("correlation", "correlation of stats.correlate"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("page", "report.html", "the page"),
        OutputSpec::result("table", "table.md", "the headline table"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let small = (params.max_size < 100_000).then(|| Problem::new("max_size", "a page needs 100000 bytes at least"));
        small.into_iter().collect()
    }
}

impl Stage for Html {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let evidence = evidence(&params, io)?;
        let settings = page::Settings {
            benchmark_axis: params.benchmark_axis,
            replicate_axis: params.replicate_axis,
            max_size: params.max_size,
        };
        let page = page::Page::of(&evidence, &settings)?;
        jsonl::write_text(io.output("page")?, &page.html)?;
        jsonl::write_text(io.output("table")?, &page.headline.markdown())
    }
}

fn evidence(params: &Params, io: &Io) -> Result<Evidence, StageError> {
    let optional = |name: &str| if io.inputs().contains_key(name) { io.gathered(name) } else { Ok(&[][..]) };
    let (items, rows, judgments) = (io.gathered("items")?, optional("rows")?, optional("judgments")?);
    let mut scored = Vec::new();
    for (key, branch) in keyed(io.gathered("metrics")?) {
        let Some(path) = &branch.path else { continue };
        let mut one = Scored {
            stage: branch.stage.clone(),
            step: address(branch),
            labels: branch.labels.clone(),
            metrics: jsonl::read_json(path)?,
            ..Scored::default()
        };
        one.digests.insert("metrics".into(), digest(path)?);
        for (name, table) in [("items", items), ("rows", rows), ("judgments", judgments)] {
            let found = keyed(table).find(|(other, _)| *other == key).and_then(|(_, branch)| branch.path.clone());
            let Some(path) = found else { continue };
            one.digests.insert(name.into(), digest(&path)?);
            match name {
                "items" => one.items = Some(path),
                "rows" => one.rows = Some(path),
                _ => one.judgments = Some(path),
            }
        }
        scored.push(one);
    }
    let trained = |branch: &Branch| {
        let (stage, labels) = (branch.stage.clone(), branch.labels.clone());
        branch.path.clone().map(|rows| Trained { stage, labels, rows })
    };
    let trained = optional("steps")?.iter().filter_map(trained).collect();
    let correlations = match io.optional_input("correlation") {
        Some(path) => vec![("correlation".to_owned(), jsonl::read_json(path)?)],
        None => Vec::new(),
    };
    Ok(Evidence { title: params.title.clone(), scored, trained, correlations, ..Evidence::default() })
}

/// Branches of several gathers belong together by their labels and by the place of their stage among the gather's own:
/// `judge` and `score` are the first stages of two.
fn keyed(branches: &[Branch]) -> impl Iterator<Item = ((usize, &Labels), &Branch)> {
    let stages = super::distinct(branches.iter().map(|branch| branch.stage.as_str()));
    branches.iter().map(move |branch| {
        let place = stages.iter().position(|stage| *stage == branch.stage).unwrap_or_default();
        ((place, &branch.labels), branch)
    })
}

fn address(branch: &Branch) -> String {
    let labels: Vec<String> = branch.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
    if labels.is_empty() { branch.stage.clone() } else { format!("{}@{}", branch.stage, labels.join(",")) }
}

fn digest(path: &Path) -> Result<String, StageError> {
    let bytes = std::fs::read(path).map_err(|error| StageError::file("read", path, &error))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
