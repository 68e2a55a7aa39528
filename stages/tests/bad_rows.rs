//! Files that no kind can use: a row that lacks a column, a column of another type, no row at all. Each kind that reads
//! rows by itself says which file, which row and which column. (Those that need a model: `train/tests.rs`.)

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use expect_test::{Expect, expect};
use plumb_engine::io::{Branch, InputPlace, Io, Manner};
use plumb_stages::registry;
use serde_json::{Value, json};

const PAIR: &str = r#"{"id": "p", "conversations": [{"role": "user", "content": "q"}], "response_A": "a", "response_B": "b", "gt_label": "A"}"#;

/// Runs a kind on these inputs; what it says, the folder left out.
fn told(kind: &str, params: &Value, inputs: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let kind = registry().find(kind).unwrap().clone();
    let place = |(name, text): &(&str, &str)| {
        let path = folder.path().join(format!("{name}.jsonl"));
        std::fs::write(&path, text).unwrap();
        let gathers = kind.declaration().inputs.iter().any(|input| input.name == *name && input.gathers);
        ((*name).to_string(), if gathers { gathered(path) } else { InputPlace::One(path) })
    };
    let outputs = kind.declaration().outputs.iter();
    let outputs: BTreeMap<String, PathBuf> =
        outputs.map(|output| (output.name.to_string(), folder.path().join(output.file))).collect();
    let io = Io::new(inputs.iter().map(place).collect(), outputs, folder.path().into(), Manner::default(), None);
    let error = kind.runner().unwrap()(params.clone(), &io.unwrap()).unwrap_err();
    error.message.replace(&format!("{}/", folder.path().display()), "")
}

fn gathered(path: PathBuf) -> InputPlace {
    let labels = BTreeMap::from([("seed".to_string(), "0".to_string())]);
    let adaptive = BTreeMap::new();
    InputPlace::Gathered(vec![Branch { stage: "s".into(), labels, baseline: true, path: Some(path), adaptive }])
}

/// The second row of `input` lacks `column`, then holds a number there, then there is no row.
fn check(
    kind: &str,
    params: Value,
    others: &[(&str, &str)],
    (input, row, column): (&str, &str, &str),
    expected: Expect,
) {
    let row: Value = serde_json::from_str(row).unwrap();
    let (mut lacks, mut wrong) = (row.clone(), row.clone());
    lacks.as_object_mut().unwrap().remove(column);
    wrong[column] = json!(7);
    let said = [format!("{row}\n{lacks}\n"), format!("{row}\n{wrong}\n"), String::new()].map(|text| {
        let inputs: Vec<(&str, &str)> = others.iter().copied().chain([(input, text.as_str())]).collect();
        told(kind, &params, &inputs)
    });
    expected.assert_eq(&said.join("\n"));
}

#[test]
fn data_pairs_says_where() {
    let params = json!({"format": "r-align"});
    check(
        "data.pairs",
        params,
        &[],
        ("raw", PAIR, "response_A"),
        expect![[r#"
        raw.jsonl:2: column `response_A` is missing
        raw.jsonl:2: expected a text or a list of messages in column `response_A`
        `raw.jsonl` holds no row"#]],
    );
}

#[test]
fn data_benchmark_says_where() {
    let row =
        r#"{"pair_id": "p", "source": "s", "question": "q", "response_A": "a", "response_B": "b", "label": "A>B"}"#;
    check(
        "data.benchmark",
        json!({"benchmark": "judge-bench"}),
        &[],
        ("raw", row, "question"),
        expect![[r#"
        raw.jsonl:2: no column `question`: `judge-bench` has pair_id, source, question, response_A, response_B, label, and this row has label, pair_id, response_A, response_B, source
        raw.jsonl:2: column `question` holds the number 7: expected a text or a list of messages
        `raw.jsonl` holds no row"#]],
    );
}

#[test]
fn bench_meta_judge_says_where() {
    let row = r#"{"id": "c", "reference_critique": "r", "reference_claims": ["r"], "recall_labels": [true], "critique": "c", "claims": ["c"], "precision_labels": [false]}"#;
    let params = json!({"meta": {"kind": "overlap", "threshold": 0.5}});
    check(
        "bench.meta-judge",
        params,
        &[],
        ("raw", row, "critique"),
        expect![[r#"
        raw.jsonl:2: missing field `critique`
        raw.jsonl:2: column `critique`: invalid type: integer `7`, expected a string
        `raw.jsonl` holds no row"#]],
    );
}

#[test]
fn data_official_says_where() {
    let row = r#"{"id": "a", "gt_label": "A", "model_judgment": "\\boxed{A}", "model_pred": "A"}"#;
    check(
        "data.official",
        json!({}),
        &[],
        ("raw", row, "gt_label"),
        expect![[r#"
        raw.jsonl:2: missing field `gt_label`
        raw.jsonl:2: column `gt_label`: expected value
        `raw.jsonl` holds no row"#]],
    );
}

#[test]
fn data_tasks_says_where() {
    let row = r#"{"question": "1+1?", "solution": "2", "answer": "2"}"#;
    check(
        "data.tasks",
        json!({"format": "gsm8k"}),
        &[],
        ("raw", row, "question"),
        expect![[r#"
        raw.jsonl:2: expected text in column `question`
        raw.jsonl:2: expected text in column `question`
        `raw.jsonl` holds no row"#]],
    );
    check(
        "data.tasks",
        json!({"format": "pairs"}),
        &[],
        ("raw", PAIR, "gt_label"),
        expect![[r#"
        raw.jsonl:2: missing field `gt_label`
        raw.jsonl:2: column `gt_label`: invalid type: integer `7`, expected string or map
        `raw.jsonl` holds no row"#]],
    );
}

#[test]
fn data_judgments_says_where() {
    let row = r#"{"id": "p", "swapped": false, "rationale": "r", "decision": "A"}"#;
    check(
        "data.judgments",
        json!({}),
        &[("pairs", PAIR)],
        ("raw", row, "id"),
        expect![[r#"
        raw.jsonl:2: missing field `id`
        raw.jsonl:2: column `id`: invalid type: integer `7`, expected a string
        `raw.jsonl` holds no row"#]],
    );
    check(
        "data.judgments",
        json!({}),
        &[("raw", row)],
        ("pairs", PAIR, "id"),
        expect![[r#"
        pairs.jsonl:2: missing field `id`
        pairs.jsonl:2: column `id`: invalid type: integer `7`, expected a string
        `pairs.jsonl` holds no row"#]],
    );
}

#[test]
fn gold_augment_says_where() {
    let params = json!({"from": "column"});
    check(
        "gold.augment",
        params,
        &[],
        ("pairs", PAIR, "conversations"),
        expect![[r#"
        pairs.jsonl:2: missing field `conversations`
        pairs.jsonl:2: column `conversations`: invalid type: integer `7`, expected a sequence
        `pairs.jsonl` holds no row"#]],
    );
}

#[test]
fn bench_s_corr_says_where() {
    let row = format!(r#"{{"pair": {PAIR}, "order": "original", "model_judgment": "x", "finished": true}}"#);
    let params = json!({"meta": {"kind": "overlap", "threshold": 0.3}});
    check(
        "bench.s-corr",
        params,
        &[],
        ("judgments", &row, "finished"),
        expect![[r#"
        judgments.jsonl:2: missing field `finished`
        judgments.jsonl:2: column `finished`: invalid type: integer `7`, expected a boolean
        `judgments.jsonl` holds no row"#]],
    );
}

#[test]
fn eval_score_says_where() {
    let task = r#"{"id": "t", "domain": "d", "conversations": [], "checker": "gsm8k", "target": "1"}"#;
    let row =
        format!(r#"{{"task": {task}, "sample": 0, "decoding": "greedy", "text": "1", "tokens": 1, "finished": true}}"#);
    check(
        "eval.score",
        json!({}),
        &[],
        ("responses", &row, "text"),
        expect![[r#"
        responses.jsonl:2: missing field `text`
        responses.jsonl:2: column `text`: invalid type: integer `7`, expected a string
        `responses.jsonl` holds no row"#]],
    );
}

#[test]
fn stats_compare_says_where() {
    let row = r#"{"id": "i", "cluster": "c", "values": {"l_acc": 1.0}}"#;
    check(
        "stats.compare",
        json!({}),
        &[],
        ("items", row, "id"),
        expect![[r#"
        items.jsonl:2: missing field `id`
        items.jsonl:2: column `id`: invalid type: integer `7`, expected a string
        `items.jsonl` holds no row"#]],
    );
}

#[test]
fn a_problem_deep_in_a_row_is_told_by_its_path() {
    let pair = PAIR.replace("\"role\": \"user\"", "\"role\": 1");
    let said = told("gold.augment", &json!({"from": "column"}), &[("pairs", &pair)]);
    expect!["pairs.jsonl:1: column `conversations[0].role`: invalid type: integer `1`, expected a string"]
        .assert_eq(&said);
}
