//! `plumb compare`: two branches side by side, or every branch against the baseline on one metric. Reads results that
//! are there; runs nothing.

mod branch;
mod differences;
mod results;

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use plumb_engine::graph::Graph;
use plumb_stages::stats::beside::{self, Paired, Row};
use serde::Serialize;

use self::branch::{Branch, Stages};
use self::differences::Differences;
use self::results::Results;
use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::growth;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb compare r-align.toml reward=label-and-rationale baseline
  plumb compare r-align.toml data=quarter,kl=0.01 data=quarter
  plumb compare r-align.toml --all f_score         every branch against the baseline, Holm-adjusted
  plumb compare r-align.toml --all score.f_score   of one stage

A branch is what differs from the baseline; replicates (seeds) belong to every branch and pair the two. With two
seeds or more an interval is Student's t over the seeds' differences; with one it is a bootstrap of the items
that both have, and says nothing of other seeds. Told besides: parameters, inputs and stages that differ, and what the
results were made with (machine, device, slots, libraries) where their bytes may depend on it.";

/// `plumb compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The branch of interest and the one to compare it with, as `reward=label,kl=0.01` or `baseline`
    #[arg(value_name = "BRANCH", num_args = 2, required_unless_present = "all")]
    pub branches: Vec<String>,
    /// Compare every branch with the baseline on this metric
    #[arg(long, value_name = "[STAGE.]METRIC", conflicts_with = "branches")]
    pub all: Option<String>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What was found, for machines.
#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    of: Option<String>,
    against: String,
    #[serde(flatten)]
    differences: Differences,
    stages: Vec<Compared>,
    /// Steps that have no result yet.
    missing: Vec<String>,
    /// What is known of an axis that grows.
    growing: Option<plumb_engine::event::Event>,
}

/// One stage's branch against another.
#[derive(Debug, Serialize)]
struct Compared {
    stage: String,
    of: String,
    against: String,
    rows: Vec<Row>,
}

/// Runs the command.
pub fn run(context: &Context, args: &CompareArgs) -> Result<Exit, Trouble> {
    let graph = context.load_all(&args.pipeline)?;
    let store = context.store()?;
    let results = Results::read(&graph, &store)?;
    let report = match (&args.all, &args.branches[..]) {
        (Some(metric), _) => all(&graph, &results, metric)?,
        (None, [of, against]) => pair(&graph, &results, of, against)?,
        (None, _) => {
            return Err(Trouble::usage("`plumb compare` takes two branches", "name two, or give `--all METRIC`"));
        }
    };
    if report.stages.is_empty() {
        return Err(nothing(&report, &args.pipeline.file));
    }
    if args.form.json {
        context.printer.json(&report);
    } else {
        print(context, &graph, &report, args.all.is_some());
    }
    Ok(Exit::Done)
}

fn nothing(report: &Report, file: &Path) -> Trouble {
    match report.missing.first() {
        Some(step) => Trouble::failed(
            format!("there is nothing to compare yet: `{step}` has no result"),
            format!("`plumb run {}` makes it", file.display()),
        ),
        None => Trouble::usage(
            "no stage with metrics differs between these branches",
            "a stage is compared by its output `metrics.json`",
        ),
    }
}

fn pair(graph: &Graph, results: &Results<'_>, of: &str, against: &str) -> Result<Report, Trouble> {
    let stages = Stages::of(graph);
    let (of, against) = (stages.branch(of)?, stages.branch(against)?);
    let (mut differences, mut compared, mut missing) = (Differences::default(), Vec::new(), Vec::new());
    for stage in stages.names() {
        let (first, second) = (stages.steps(stage, &of), stages.steps(stage, &against));
        if first.values().eq(second.values()) {
            continue;
        }
        match (first.is_empty(), second.is_empty()) {
            (false, false) => differences.add(results, stage, (&first, &second)),
            (one_less, _) => {
                differences.add_only(stage, if one_less { &against } else { &of });
                continue;
            }
        }
        missing.extend(results.missing(first.values().chain(second.values())));
        let rows = beside::rows(&results.side(&first), &results.side(&second));
        if !rows.is_empty() {
            compared.push(Compared { stage: stage.into(), of: of.name(), against: against.name(), rows });
        }
    }
    beside::correct(compared.iter_mut().flat_map(|one| &mut one.rows));
    Ok(Report {
        pipeline: graph.name.clone(),
        of: Some(of.name()),
        against: against.name(),
        differences,
        stages: compared,
        missing,
        growing: growth::event(graph),
    })
}

fn all(graph: &Graph, results: &Results<'_>, metric: &str) -> Result<Report, Trouble> {
    let stages = Stages::of(graph);
    let (wanted, name) = match metric.split_once('.') {
        Some((stage, name)) => (Some(stage), name),
        None => (None, metric),
    };
    let baseline = stages.branch("baseline")?;
    let (mut compared, mut missing) = (Vec::new(), Vec::new());
    for stage in stages.names().filter(|stage| wanted.is_none_or(|wanted| wanted == *stage)) {
        let first = stages.steps(stage, &baseline);
        let against = results.side(&first);
        let Some(name) = results::metric_named(&against, name) else { continue };
        for branch in stages.branches(stage) {
            let steps = stages.steps(stage, &branch);
            missing.extend(results.missing(steps.values().chain(first.values())));
            let side = results.side(&steps);
            if branch != baseline && !side.metrics.is_empty() {
                let rows = vec![beside::row(&name, &side, &against)];
                compared.push(Compared { stage: stage.into(), of: branch.name(), against: baseline.name(), rows });
            }
        }
    }
    if compared.is_empty() && missing.is_empty() {
        return Err(unknown_metric(&stages, results, &baseline, wanted, name));
    }
    missing.dedup();
    beside::correct(compared.iter_mut().flat_map(|one| &mut one.rows));
    let (pipeline, growing) = (graph.name.clone(), growth::event(graph));
    Ok(Report {
        pipeline,
        of: None,
        against: baseline.name(),
        differences: Differences::default(),
        stages: compared,
        missing,
        growing,
    })
}

fn unknown_metric(
    stages: &Stages<'_>,
    results: &Results<'_>,
    baseline: &Branch,
    wanted: Option<&str>,
    name: &str,
) -> Trouble {
    if let Some(wanted) = wanted.filter(|wanted| !stages.names().any(|stage| stage == *wanted)) {
        let hint = plumb_engine::nearest::hint("stages", wanted, stages.names());
        return Trouble::Usage { message: format!("unknown stage `{wanted}`"), hint };
    }
    let chosen = stages.names().filter(|stage| wanted.is_none_or(|wanted| wanted == *stage));
    let known: std::collections::BTreeSet<String> = chosen
        .flat_map(|stage| results.side(&stages.steps(stage, baseline)).metrics.into_values())
        .flat_map(BTreeMap::into_keys)
        .filter(|name| !name.contains('/'))
        .collect();
    let hint = if known.is_empty() {
        Some("no baseline has a `metrics.json` yet: `plumb run` makes them".to_string())
    } else {
        plumb_engine::nearest::hint("metrics", name, known.iter().map(String::as_str))
    };
    Trouble::Usage { message: format!("no branch differs from the baseline by a metric `{name}`"), hint }
}

fn print(context: &Context, graph: &Graph, report: &Report, by_branch: bool) {
    let printer = &context.printer;
    if let Some(of) = &report.of {
        printer.data(&format!("{of} against {}\n", report.against));
    }
    for table in report.differences.tables() {
        printer.table(&table);
        printer.data("");
    }
    printer.table(&metrics(report, by_branch));
    printer.data("");
    for note in notes(graph, report) {
        printer.data(&note);
    }
}

fn metrics(report: &Report, by_branch: bool) -> Table {
    let what = if by_branch { "branch" } else { "metric" };
    let mut table = Table::new(["stage", what, "first", "second", "difference", "95 %", "p", "p (Holm)", "paired by"]);
    for compared in &report.stages {
        for row in &compared.rows {
            let value = |value: Option<beside::Value>| value.map_or("-".into(), shown);
            table.row([
                Cell::from(compared.stage.as_str()),
                Cell::from(if by_branch { compared.of.as_str() } else { row.metric.as_str() }),
                Cell::number(value(row.of)),
                Cell::number(value(row.against)),
                Cell::number(row.difference.map_or("-".into(), signed)),
                Cell::number(row.interval.map_or("-".into(), |ends| range(ends.low, ends.high, signed))),
                Cell::number(probability(row.p)),
                Cell::number(probability(row.p_holm)),
                Cell::from(paired(row)),
            ]);
        }
    }
    table
}

fn shown(value: beside::Value) -> String {
    let ends = value.interval.map(|ends| format!(" {}", range(ends.low, ends.high, units::metric)));
    format!("{}{}", units::metric(value.mean), ends.unwrap_or_default())
}

fn range(low: f64, high: f64, number: impl Fn(f64) -> String) -> String {
    format!("[{}, {}]", number(low), number(high))
}

fn signed(value: f64) -> String {
    if value < 0.0 { units::metric(value) } else { format!("+{}", units::metric(value)) }
}

fn probability(p: Option<f64>) -> String {
    match p {
        None => "-".into(),
        Some(p) if p < 0.001 => "<.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}

fn paired(row: &Row) -> String {
    let (seeds, items) = (units::plural(row.seeds, "seed"), units::plural(row.items, "item"));
    match row.paired {
        Paired::SeedsAndItems => format!("{seeds}, {items}"),
        Paired::Seeds => seeds,
        Paired::Items => format!("{items} only"),
        Paired::Nothing => "nothing".into(),
    }
}

fn notes(graph: &Graph, report: &Report) -> Vec<String> {
    let rows = || report.stages.iter().flat_map(|one| &one.rows);
    let tests = rows().filter(|row| row.p.is_some()).count();
    let mut notes = Vec::new();
    if tests > 0 {
        notes.push(format!("Holm's correction covers {}.", units::plural(tests, "test")));
    }
    if rows().any(|row| row.paired == Paired::Items) {
        notes.push("Paired by items only, an interval says nothing of other seeds.".into());
    }
    notes.extend(report.differences.notes());
    if let Some(growing) = growth::line(graph).filter(|_| rows().any(|row| row.seeds > 1)) {
        notes.push(format!("The stopping was adaptive ({growing}): intervals and p values do not account for it."));
    }
    if let Some(first) = report.missing.first() {
        let more =
            if report.missing.len() > 1 { format!(" and {} more", report.missing.len() - 1) } else { String::new() };
        notes.push(format!("Without a result yet: {first}{more}."));
    }
    notes
}
