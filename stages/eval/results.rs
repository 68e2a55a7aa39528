//! The results document in lm-eval's shape, without what would differ from run to run or is no part of a result: `date`,
//! `start_time`, `end_time` and `total_evaluation_time_seconds`, `pretty_env_info` and the versions of Python's packages.
//! `git_hash` is there and `null`: the code is named by the kind's version, and the record of the step has the rest.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// `results.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Results {
    /// Task -> `metric,filter` -> value; `alias`, `name` and `sample_len` as lm-eval has them.
    pub results: BTreeMap<String, BTreeMap<String, Value>>,
    /// Group -> its tasks.
    pub group_subtasks: BTreeMap<String, Vec<String>>,
    /// Task -> how it was asked and scored.
    pub configs: BTreeMap<String, Value>,
    /// Task -> version of its rules.
    pub versions: BTreeMap<String, u32>,
    /// Task -> examples in the prompt.
    #[serde(rename = "n-shot")]
    pub n_shot: BTreeMap<String, usize>,
    /// Task -> metric -> whether more is better.
    pub higher_is_better: BTreeMap<String, BTreeMap<String, bool>>,
    /// Task -> documents there and documents scored.
    #[serde(rename = "n-samples")]
    pub n_samples: BTreeMap<String, BTreeMap<String, usize>>,
    /// Of the whole evaluation.
    pub config: Config,
    /// Always `null`.
    pub git_hash: Option<String>,
    /// Task -> hash of its rows in `samples.jsonl`.
    pub task_hashes: BTreeMap<String, String>,
}

/// What lm-eval says of a whole evaluation, as far as the responses tell it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The program that asked the model.
    pub model: &'static str,
    /// Errors are closed forms: nothing is resampled.
    pub bootstrap_iters: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { model: "plumb", bootstrap_iters: 0 }
    }
}

/// A mean and its standard error (with n - 1), lm-eval's two numbers; the error is not known for fewer than two.
#[must_use]
pub fn mean_and_error(values: &[f64]) -> Option<(f64, Option<f64>)> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt() / count.sqrt());
    Some((mean, error))
}

impl Results {
    /// Adds one metric of a task under lm-eval's two names.
    pub fn add(&mut self, task: &str, metric: &str, filter: &str, values: &[f64]) {
        let Some((mean, error)) = mean_and_error(values) else { return };
        let row = self.results.entry(task.to_string()).or_default();
        row.insert(format!("{metric},{filter}"), Value::from(mean));
        // Instructions of one prompt are no independent draws: like lm-eval, no error is given for them.
        let error = error.filter(|_| !metric.starts_with("inst_level"));
        row.insert(format!("{metric}_stderr,{filter}"), error.map_or_else(|| Value::from("N/A"), Value::from));
        self.higher_is_better
            .entry(task.to_string())
            .or_default()
            .insert(metric.to_string(), metric != "fluff" && metric != "length");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_a_mean() {
        assert_eq!(mean_and_error(&[]), None);
        assert_eq!(mean_and_error(&[1.0]), Some((1.0, None)));
        let (mean, error) = mean_and_error(&[1.0, 0.0, 1.0, 1.0]).expect("values");
        assert_eq!((mean, error), (0.75, Some(0.25)));
    }
}
