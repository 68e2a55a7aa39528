//! The page: everything of a report in one HTML file, from the template `page.html`. What is text in the data is escaped
//! by the template engine, or lies in the packed drill-down and is only ever put into the page as text.

use minijinja::Environment;
use minijinja::value::Serde;
use plumb_engine::stage::StageError;
use serde::Serialize;
use serde_json::{Value, json};

use super::chart::{self, STYLES, Series};
use super::drill::Drill;
use super::headline::{Cell, Headline, SCORES};
use super::probes::Probes;
use super::{Evidence, Roles, distinct};
use crate::jsonl;
use crate::train::log::StepRow;

/// How a page is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The axis whose values are benchmarks.
    pub benchmark_axis: String,
    /// The axis whose values are replicates.
    pub replicate_axis: String,
    /// Bytes that the page should not exceed.
    pub max_size: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { benchmark_axis: bench(), replicate_axis: seed(), max_size: most() }
    }
}

/// The benchmark axis where nobody names one.
pub fn bench() -> String {
    "bench".into()
}

/// The replicate axis where nobody names one.
pub fn seed() -> String {
    "seed".into()
}

/// The size where nobody names one: mail takes it.
pub fn most() -> usize {
    3_000_000
}

/// A finished page.
#[derive(Debug, Clone)]
pub struct Page {
    /// The whole file.
    pub html: String,
    /// Its headline table.
    pub headline: Headline,
    /// How many letters of each text were kept, where not all were.
    pub shortened: Option<usize>,
    /// Judgments in its drill-down.
    pub judgments: usize,
}

/// What training curves are drawn of: the first of these names that a run logged, and the name for people.
const CURVES: [(&[&str], &str); 7] = [
    (&["reward", "rewards/mean"], "Reward"),
    (&["kl", "objective/kl"], "KL to the reference"),
    (&["completions/mean_length", "mean_length"], "Length of completions, tokens"),
    (&["eval_s_corr", "dev/s_corr", "s_corr"], "S-Corr on dev"),
    (&["rewards/label/mean", "accuracy"], "Label right"),
    (&["rewards/rationale/mean"], "Label and rationale right"),
    (&["loss"], "Loss"),
];

/// The curves of one stage.
#[derive(Debug, Serialize)]
struct Curves {
    stage: String,
    legend: Vec<Legend>,
    charts: Vec<Chart>,
}

#[derive(Debug, Serialize)]
struct Legend {
    name: String,
    mark: String,
}

#[derive(Debug, Serialize)]
struct Chart {
    title: String,
    svg: String,
    note: String,
}

impl Page {
    /// Of this evidence.
    pub fn of(evidence: &Evidence, settings: &Settings) -> Result<Self, StageError> {
        let roles = Roles::of(evidence, &settings.benchmark_axis, &settings.replicate_axis);
        let headline = Headline::of(evidence, &roles)?;
        let without = rendered(evidence, &roles, &headline, &super::drill::Packed::default())?;
        let packed = Drill::of(evidence, &roles)?.pack(settings.max_size.saturating_sub(without.len() + 1_000))?;
        let html = rendered(evidence, &roles, &headline, &packed)?;
        Ok(Self { html, headline, shortened: packed.shortened, judgments: packed.judgments })
    }
}

fn rendered(
    evidence: &Evidence,
    roles: &Roles,
    headline: &Headline,
    packed: &super::drill::Packed,
) -> Result<String, StageError> {
    let mut environment = Environment::new();
    let failed = |error: minijinja::Error| StageError::new(format!("make the page: {error:#}"));
    environment.add_template("page.html", include_str!("page.html")).map_err(failed)?;
    environment.add_filter("score", |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}")));
    environment.add_filter("short", |text: String| text.chars().take(12).collect::<String>());
    let template = environment.get_template("page.html").map_err(failed)?;
    let page = json!({
        "css": include_str!("page.css"),
        "script": include_str!("page.js"),
        "title": evidence.title,
        "facts": evidence.facts,
        "graph": evidence.graph,
        "steps": evidence.steps,
        "missing": evidence.missing,
        "scores": SCORES.map(|(_, name, more)| json!({ "name": name, "more": more })),
        "headline": headline_view(headline),
        "benchmarks": headline.benchmarks,
        "over": headline.over(),
        "digests": headline.digests,
        "curves": curves(evidence, roles)?,
        "correlations": correlations(evidence),
        "probes": Probes::of(evidence, roles),
        "unsound": super::probes::unsound(evidence, roles),
        "data": packed.data,
        "judgments": packed.judgments,
        "items": packed.items,
        "shortened": packed.shortened,
    });
    template.render(Serde(&page)).map_err(failed)
}

/// One cell, ready to be read.
#[derive(Debug, Serialize)]
struct Shown {
    text: String,
    interval: String,
    sort: f64,
    best: bool,
    close: bool,
    title: String,
    /// Whether a benchmark begins here.
    first: bool,
}

fn headline_view(headline: &Headline) -> Vec<(String, Vec<Shown>)> {
    let cells =
        |cells: &Vec<Cell>| cells.iter().enumerate().map(|(place, cell)| shown(cell, place == 0)).collect::<Vec<_>>();
    headline.branches.iter().map(|line| (line.branch.clone(), line.cells.iter().flat_map(cells).collect())).collect()
}

fn shown(cell: &Cell, first: bool) -> Shown {
    let interval = match (cell.low, cell.high) {
        (Some(low), Some(high)) => format!("{low:.3} – {high:.3}"),
        _ => String::new(),
    };
    let mut told = Vec::new();
    if cell.best {
        told.push("best of its column".to_owned());
    }
    if cell.close {
        told.push("not significantly different from the best".to_owned());
    }
    told.extend(cell.p.map(|p| format!("against the best: p = {p:.3} (Holm)")));
    told.extend(cell.coverage.map(|coverage| format!("coverage {coverage:.3}")));
    Shown {
        text: cell.value.map_or("–".into(), |value| format!("{value:.3}")),
        interval,
        sort: cell.value.unwrap_or(-1.0),
        best: cell.best,
        close: cell.close,
        title: told.join("; "),
        first,
    }
}

fn curves(evidence: &Evidence, roles: &Roles) -> Result<Vec<Curves>, StageError> {
    let branches = distinct(evidence.trained.iter().map(|one| roles.branch(&one.labels)));
    let mut found = Vec::new();
    for stage in distinct(evidence.trained.iter().map(|one| one.stage.as_str())) {
        let mut runs = Vec::new();
        for one in evidence.trained.iter().filter(|one| one.stage == stage) {
            let rows: Vec<StepRow> = jsonl::read(&one.rows)?;
            let branch = roles.branch(&one.labels);
            let style = branches.iter().position(|other| *other == branch).unwrap_or_default();
            runs.push((super::probes::run_name(roles, &one.labels), branch, style, rows));
        }
        let chart = |(names, title): &(&[&str], &str)| {
            let series: Vec<Series> =
                runs.iter().filter_map(|(name, _, style, rows)| curve(names, name, *style, rows)).collect();
            let svg = chart::lines(&format!("{title} of {stage} over steps"), "step", &series)?;
            Some(Chart { title: (*title).into(), svg, note: String::new() })
        };
        let charts: Vec<Chart> = CURVES.iter().filter_map(chart).collect();
        let legend = distinct(runs.iter().map(|(_, branch, style, _)| (branch.clone(), *style)));
        let legend = legend.into_iter().map(|(name, style)| Legend { name, mark: key(style) }).collect();
        if !charts.is_empty() {
            found.push(Curves { stage: stage.into(), legend, charts });
        }
    }
    Ok(found)
}

fn curve(names: &[&str], name: &str, style: usize, rows: &[StepRow]) -> Option<Series> {
    let metric = names.iter().find(|name| rows.iter().any(|row| row.metrics.contains_key(**name)))?;
    let point = |row: &StepRow| Some((row.step as f64, *row.metrics.get(*metric)?));
    let points = rows.iter().filter_map(point).filter(|point| point.1.is_finite()).collect();
    Some(Series { name: name.into(), style, points })
}

/// The sample of a style that a legend shows.
fn key(style: usize) -> String {
    let style = style % STYLES;
    let mark = chart::mark(style, (16.0, 8.0));
    format!(
        "<svg class=\"key\" width=\"32\" height=\"16\" aria-hidden=\"true\"><g class=\"s{style}\">\
         <path class=\"line\" d=\"M1 8H31\"/>{mark}</g></svg>"
    )
}

/// The charts of F-Score (and others) against downstream, a legend beside them.
fn correlations(evidence: &Evidence) -> Vec<Curves> {
    let of = |(step, document): &(String, Value)| {
        let all = document["correlations"].as_array()?;
        let points = |one: &Value| one["points"].as_array().cloned().unwrap_or_default();
        let name = |point: &Value| point["branch"].as_str().unwrap_or_default().to_owned();
        let branches = distinct(all.iter().flat_map(|one| points(one).iter().map(name).collect::<Vec<_>>()));
        let chart = |one: &Value| {
            let place = |point: &Value| Some((point["x"].as_f64()?, point["y"].as_f64()?));
            let all = points(one);
            let series = all.iter().filter_map(|point| {
                let style = branches.iter().position(|other| *other == name(point))?;
                Some(Series { name: name(point), style, points: vec![place(point)?] })
            });
            let series: Vec<Series> = series.collect();
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            let pretty = |name: &str| {
                SCORES.iter().find(|score| score.0 == name).map_or(name.to_owned(), |score| score.1.into())
            };
            let title = format!("{} of {}", pretty(text("x")), text("scores"));
            let axes = (pretty(text("x")), format!("{} of {}", text("y"), text("outcomes")));
            let svg = chart::scatter(&title, (&axes.0, &axes.1), &series)?;
            Some(Chart { title, svg, note: coefficients(one) })
        };
        let charts: Vec<Chart> = all.iter().filter_map(chart).collect();
        let legend = branches.iter().enumerate();
        let legend = legend.map(|(style, name)| Legend { name: name.clone(), mark: key(style) }).collect();
        (!charts.is_empty()).then(|| Curves { stage: step.clone(), legend, charts })
    };
    evidence.correlations.iter().filter_map(of).collect()
}

fn coefficients(one: &Value) -> String {
    let over = &one["over_branches"];
    let number = |value: &Value| value.as_f64().map_or("–".into(), |value| format!("{value:.2}"));
    let (low, high) = (&one["interval"]["low"], &one["interval"]["high"]);
    let interval = if low.is_null() { String::new() } else { format!(" [{}, {}]", number(low), number(high)) };
    let hint = if one["indicative"].as_bool() == Some(true) { "; too few points for more than a hint" } else { "" };
    format!(
        "r = {}{interval}, ρ = {}, {} points{hint}",
        number(&over["pearson"]),
        number(&over["spearman"]),
        over["n"].as_u64().unwrap_or_default()
    )
}
