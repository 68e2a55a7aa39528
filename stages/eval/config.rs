//! How a task was asked and scored, under the names of lm-eval's task configurations. Says only what the responses
//! tell: data sets and splits are the pipeline's.

use serde_json::{Map, Value, json};

use super::checked::Measure;
use super::gsm8k;
use crate::rows::{Checker, Response};

/// The configuration of the task of that name, after its first response and the measures of it.
pub(super) fn config(name: &str, response: &Response, measures: &[Measure], repeats: usize, version: u32) -> Value {
    let mut told = json!({
        "checker": response.task.checker,
        "generation_kwargs": response.gen_kwargs,
        "metadata": {"version": version},
        "metric_list": metrics(measures, response.task.checker),
        "num_fewshot": response.num_fewshot,
        "output_type": "generate_until",
        "repeats": repeats,
        "should_decontaminate": false,
        "task": name,
    });
    if response.task.checker == Some(Checker::Gsm8k) {
        told["filter_list"] = filters();
        // Where an answer ends is the harness's prompt's matter: asked by a chat template it ends by itself.
        if response.gen_kwargs["until"].as_array().is_some_and(|until| !until.is_empty()) {
            let prompt = [
                ("doc_to_text", "Question: {{question}}\nAnswer:"),
                ("doc_to_target", "{{answer}}"),
                ("target_delimiter", " "),
                ("fewshot_delimiter", "\n\n"),
            ];
            prompt.into_iter().for_each(|(field, text)| told[field] = text.into());
        }
    }
    told
}

fn metrics(measures: &[Measure], checker: Option<Checker>) -> Value {
    let mut names: Vec<&str> = measures.iter().map(|measure| measure.metric).collect();
    names.dedup();
    let metric = |name: &str| {
        let mut told = Map::new();
        told.insert("aggregation".into(), "mean".into());
        told.insert("higher_is_better".into(), true.into());
        told.insert("metric".into(), name.into());
        if checker == Some(Checker::Gsm8k) {
            told.insert("ignore_case".into(), true.into());
            told.insert("ignore_punctuation".into(), false.into());
            told.insert("regexes_to_ignore".into(), json!(gsm8k::IGNORE));
        }
        Value::Object(told)
    };
    names.into_iter().map(metric).collect()
}

fn filters() -> Value {
    let take_first = json!({"function": "take_first"});
    json!([
        {"filter": [{"function": "regex", "regex_pattern": gsm8k::STRICT_PATTERN}, take_first], "name": "strict-match"},
        {
            "filter": [{"function": "regex", "group_select": -1, "regex_pattern": gsm8k::FLEXIBLE_PATTERN}, take_first],
            "name": "flexible-extract",
        },
    ])
}
