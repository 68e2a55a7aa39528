//! The rows of `samples.jsonl` under lm-eval's names (what its `--log_samples` writes), one a response and filter.
//! Beside them stand `decoding`, `sample`, `tokens` and `finished`, which lm-eval has no names for.

use plumb_engine::stage::StageError;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::checked::{Checked, Measure};
use crate::rows::{Response, Task};

/// The rows of one task, which stands at `index` of the file.
pub(super) fn samples(index: usize, task: &Task, answers: &[(&Response, Checked)]) -> Result<Vec<Value>, StageError> {
    let told = |error: serde_json::Error| StageError::new(format!("task `{}`: {error}", task.id));
    let doc = serde_json::to_value(task).map_err(told)?;
    // lm-eval hashes `json.dumps(doc, indent=2, ensure_ascii=False)`.
    let doc_hash = sha256(&serde_json::to_string_pretty(&doc).map_err(told)?);
    let target = target_text(task);
    let row = |response: &Response, measure: &Measure| {
        json!({
            "arguments": {"gen_args_0": arguments(response)},
            "decoding": response.decoding,
            "doc": doc,
            "doc_hash": doc_hash,
            "doc_id": index,
            "filter": measure.filter,
            "filtered_resps": [measure.filtered],
            "finished": response.finished,
            "metrics": [measure.metric],
            "prompt_hash": sha256(&response.prompt),
            "resps": [[response.text]],
            "sample": response.sample,
            "target": target,
            "target_hash": sha256(&target),
            "tokens": response.tokens,
            measure.metric: measure.mean(),
        })
    };
    let rows =
        answers.iter().flat_map(|(response, checked)| checked.measures.iter().map(move |one| row(response, one)));
    Ok(rows.collect())
}

fn arguments(response: &Response) -> Value {
    let mut told = json!({"arg_0": response.prompt});
    if !response.gen_kwargs.is_null() {
        told["arg_1"] = response.gen_kwargs.clone();
    }
    told
}

/// lm-eval's hash of a task's rows.
pub(super) fn task_hash<'a>(rows: impl Iterator<Item = &'a Value>) -> String {
    let hashes = rows.flat_map(|row| ["doc_hash", "prompt_hash", "target_hash"].map(|name| row[name].as_str()));
    sha256(&hashes.flatten().collect::<String>())
}

fn target_text(task: &Task) -> String {
    match &task.target {
        Value::String(text) => text.clone(),
        other => other.get("truth").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_string),
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_lm_evals() {
        // Of lm_eval 0.4.13: hash_string("Question: 2+2?\nAnswer:").
        assert_eq!(
            sha256("Question: 2+2?\nAnswer:"),
            "d53ec5b1838198aa9d7eccaf307a5eb20cc2ed0501db08b17bb097e30d4e87a8"
        );
        // hash_string(json.dumps({"id": "é", "list": [], "table": {}, "two": [1, 2.5]}, indent=2, ensure_ascii=False)).
        let doc = json!({"id": "é", "list": [], "table": {}, "two": [1, 2.5]});
        assert_eq!(
            sha256(&serde_json::to_string_pretty(&doc).expect("writes")),
            "d9968c69e7d8d8a9e41f46125e58365115db6996dec6b65ddd881c34bec4a69a"
        );
    }
}
