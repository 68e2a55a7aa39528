//! `eval.score`: scores recorded responses by each task's own rules, by domain and overall.
//!
//! With several samples a task, its accuracy is the mean over its sampled responses (avg@k); greedy responses are
//! told apart under `greedy`, and stand in where there are no samples. The headline `average` is the mean of the
//! domains' accuracies, each domain with equal weight.

use std::collections::BTreeMap;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checked::{Checked, Measure, check};
use super::config::config;
use super::results::{Results, mean_and_error};
use super::samples::{samples, task_hash};
use crate::jsonl;
use crate::rows::{Checker, Response, Task};
use crate::stats::items::{ItemRow, Metrics};

/// Parameters of `eval.score`: none, each task brings its checker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {}

/// `eval.score`.
pub struct Score;

impl Declare for Score {
    const KIND: &'static str = "eval.score";
    // 2: samples carry lm-eval's arguments and hashes.
    // 3: `gen_kwargs` among the arguments; results tell how each task was asked, and hash its rows.
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "score responses by rules: the miniature, GSM8K (lm-eval's filters), IFEval";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("responses", "what `eval.generate` wrote")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("results", "results.json", "every metric of every task, in lm-eval's shape"),
        OutputSpec::result("samples", "samples.jsonl", "one row a response and filter, under lm-eval's names"),
        OutputSpec::result("items", "items.jsonl", "one row a task, for comparisons"),
        OutputSpec::result("metrics", "metrics.json", "the headline numbers, overall and by domain"),
    ];
    type Params = Params;
}

impl Stage for Score {
    fn run(_params: Params, io: &Io) -> Result<(), StageError> {
        let responses: Vec<Response> = jsonl::read_some(io.input("responses")?)?;
        let docs = docs(&responses)?;
        let rows = docs.iter().enumerate().map(|(index, doc)| samples(index, doc.task, &doc.answers));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        jsonl::write(io.output("samples")?, rows.iter().flatten())?;
        jsonl::write(io.output("items")?, docs.iter().map(item))?;
        jsonl::write_json(io.output("results")?, &results(&docs, &rows))?;
        jsonl::write_json(io.output("metrics")?, &metrics(&docs))
    }
}

/// A task with its scored responses, in the order of the file.
struct Doc<'a> {
    task: &'a Task,
    answers: Vec<(&'a Response, Checked)>,
}

impl Doc<'_> {
    // The sampled responses, or the greedy ones where nothing was sampled.
    fn counted(&self) -> impl Iterator<Item = &(&Response, Checked)> {
        let sampled = self.has_samples();
        self.answers.iter().filter(move |(response, _)| !(sampled && is_greedy(response)))
    }

    fn has_samples(&self) -> bool {
        self.answers.iter().any(|(response, _)| !is_greedy(response))
    }

    fn greedy(&self) -> Option<f64> {
        self.answers.iter().find(|(response, _)| is_greedy(response)).map(|(_, checked)| checked.headline)
    }

    fn mean(&self, value: impl Fn(&Response, &Checked) -> f64) -> f64 {
        let values: Vec<f64> = self.counted().map(|(response, checked)| value(response, checked)).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }

    fn fluff(&self) -> Option<f64> {
        let known = self.counted().all(|(_, checked)| checked.fluff.is_some());
        known.then(|| self.mean(|_, checked| checked.fluff.unwrap_or_default() as f64))
    }
}

fn is_greedy(response: &Response) -> bool {
    response.decoding == "greedy"
}

fn docs(responses: &[Response]) -> Result<Vec<Doc<'_>>, StageError> {
    let mut docs: Vec<Doc<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for response in responses {
        let place = *places.entry(&response.task.id).or_insert_with(|| {
            docs.push(Doc { task: &response.task, answers: Vec::new() });
            docs.len() - 1
        });
        docs[place].answers.push((response, check(response)?));
    }
    Ok(docs)
}

fn item(doc: &Doc<'_>) -> ItemRow {
    let mut values: BTreeMap<String, Option<f64>> = BTreeMap::new();
    values.insert("exact_match".into(), Some(doc.mean(|_, checked| checked.headline)));
    values.insert("length".into(), Some(doc.mean(|response, _| response.tokens as f64)));
    values.extend(doc.greedy().map(|greedy| ("greedy".to_string(), Some(greedy))));
    values.extend(doc.fluff().map(|fluff| ("fluff".to_string(), Some(fluff))));
    for name in measure_names(doc) {
        let of = |checked: &Checked| {
            let mut measures = checked.measures.iter();
            measures.find(|measure| (measure.metric, measure.filter) == name).map_or(0.0, Measure::mean)
        };
        let label = if name.1 == "none" { name.0.to_string() } else { format!("{},{}", name.0, name.1) };
        values.entry(label).or_insert_with(|| Some(doc.mean(|_, checked| of(checked))));
    }
    ItemRow { id: doc.task.id.clone(), cluster: cluster(doc.task), domain: doc.task.domain.clone(), values }
}

// Tasks of one prompt share it, as the miniature's do.
fn cluster(task: &Task) -> String {
    task.conversations.last().map_or_else(|| task.id.clone(), |turn| turn.content.clone())
}

fn measure_names(doc: &Doc<'_>) -> Vec<(&'static str, &'static str)> {
    let first = doc.answers.first();
    first.map_or_else(Vec::new, |(_, checked)| {
        checked.measures.iter().map(|measure| (measure.metric, measure.filter)).collect()
    })
}

// `rows` are the docs' samples.
fn results(docs: &[Doc<'_>], rows: &[Vec<Value>]) -> Results {
    let mut results = Results::default();
    for (task, rows) in by_task(docs.iter().zip(rows), |(doc, _)| doc) {
        results.task_hashes.insert(task, task_hash(rows.iter().flat_map(|(_, rows)| *rows)));
    }
    for (task, of_task) in by_task(docs.iter(), |doc| doc) {
        for (metric, filter) in of_task.first().map_or_else(Vec::new, |doc| measure_names(doc)) {
            results.add(&task, metric, filter, &values_of(&of_task, metric, filter));
        }
        let greedy: Vec<f64> = of_task.iter().filter(|doc| doc.has_samples()).filter_map(|doc| doc.greedy()).collect();
        results.add(&task, "greedy", "none", &greedy);
        let row = results.results.entry(task.clone()).or_default();
        row.insert("alias".into(), task.as_str().into());
        row.insert("name".into(), task.as_str().into());
        row.insert("sample_len".into(), of_task.len().into());
        let counts = [("effective".to_string(), of_task.len()), ("original".to_string(), of_task.len())];
        results.n_samples.insert(task.clone(), counts.into_iter().collect());
        results.group_subtasks.insert(task.clone(), Vec::new());
        let repeats = of_task.iter().map(|doc| doc.counted().count()).max().unwrap_or_default();
        let Some((response, checked)) = of_task.iter().find_map(|doc| doc.counted().next()) else { continue };
        let version = rules_version(response.task.checker);
        results.n_shot.insert(task.clone(), response.num_fewshot);
        results.versions.insert(task.clone(), version);
        results.configs.insert(task.clone(), config(&task, response, &checked.measures, repeats, version));
    }
    results
}

// The version of lm-eval's task whose rules are followed; the miniature's own are at 1.
fn rules_version(checker: Option<Checker>) -> u32 {
    match checker {
        Some(Checker::Gsm8k) => 3,
        Some(Checker::Ifeval) => 4,
        _ => 1,
    }
}

// One value a task (the mean over its counted responses); one an instruction where a metric counts those.
fn values_of(docs: &[&Doc<'_>], metric: &str, filter: &str) -> Vec<f64> {
    let mut values = Vec::new();
    for doc in docs {
        let lists: Vec<&Vec<f64>> = doc
            .counted()
            .flat_map(|(_, checked)| &checked.measures)
            .filter(|measure| measure.metric == metric && measure.filter == filter)
            .map(|measure| &measure.values)
            .collect();
        let width = lists.first().map_or(0, |list| list.len());
        values.extend((0..width).map(|at| lists.iter().map(|list| list[at]).sum::<f64>() / lists.len() as f64));
    }
    values
}

fn by_task<'a, T>(docs: impl Iterator<Item = T>, doc: impl Fn(&T) -> &Doc<'a>) -> BTreeMap<String, Vec<T>> {
    let mut tasks: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for one in docs {
        let task = doc(&one).task;
        let name = match task.checker {
            Some(Checker::Miniature) => format!("miniature_{}", task.domain),
            _ => task.domain.clone(),
        };
        tasks.entry(name).or_default().push(one);
    }
    tasks
}

fn metrics(docs: &[Doc<'_>]) -> Metrics {
    let mut metrics = Metrics::new();
    let mut domains: BTreeMap<&str, Vec<&Doc<'_>>> = BTreeMap::new();
    for doc in docs {
        domains.entry(&doc.task.domain).or_default().push(doc);
    }
    let mut accuracies = Vec::new();
    let mut greedy = Vec::new();
    for (domain, of_domain) in &domains {
        let values: Vec<f64> = of_domain.iter().map(|doc| doc.mean(|_, checked| checked.headline)).collect();
        let Some((mean, error)) = mean_and_error(&values) else { continue };
        metrics.insert(format!("acc/{domain}"), Some(mean));
        metrics.insert(format!("acc_stderr/{domain}"), error);
        accuracies.push((mean, error));
        let values: Vec<f64> = of_domain.iter().filter_map(|doc| doc.greedy()).collect();
        if let Some((mean, error)) = mean_and_error(&values) {
            metrics.insert(format!("greedy/{domain}"), Some(mean));
            metrics.insert(format!("greedy_stderr/{domain}"), error);
            greedy.push((mean, error));
        }
    }
    metrics.insert("average".into(), average(&accuracies));
    metrics.insert("average_stderr".into(), average_error(&accuracies));
    if !greedy.is_empty() {
        metrics.insert("greedy".into(), average(&greedy));
        metrics.insert("greedy_stderr".into(), average_error(&greedy));
    }
    add_lengths(docs, &mut metrics);
    metrics
}

fn average(domains: &[(f64, Option<f64>)]) -> Option<f64> {
    (!domains.is_empty()).then(|| domains.iter().map(|(mean, _)| mean).sum::<f64>() / domains.len() as f64)
}

// Domains are independent: variances add, and the mean divides them by the square of their number.
fn average_error(domains: &[(f64, Option<f64>)]) -> Option<f64> {
    let errors: Option<Vec<f64>> = domains.iter().map(|(_, error)| *error).collect();
    let errors = errors.filter(|errors| !errors.is_empty())?;
    Some(errors.iter().map(|error| error * error).sum::<f64>().sqrt() / errors.len() as f64)
}

fn add_lengths(docs: &[Doc<'_>], metrics: &mut Metrics) {
    let mut add = |name: &str, values: Vec<f64>| {
        if let Some((mean, _)) = mean_and_error(&values) {
            metrics.insert(name.to_string(), Some(mean));
        }
    };
    add("length", docs.iter().map(|doc| doc.mean(|response, _| response.tokens as f64)).collect());
    add("finished", docs.iter().map(|doc| doc.mean(|response, _| f64::from(response.finished))).collect());
    add("fluff", docs.iter().filter_map(Doc::fluff).collect());
}

#[cfg(test)]
mod tests;
