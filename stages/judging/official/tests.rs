//! The recorded files of the official scripts, imported and exported again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::{Branch, InputPlace, Io, Manner};
use plumb_engine::stage::Stage as _;
use serde_json::{Value, json};

use super::*;
use crate::jsonl;
use crate::testing::Bench;

fn recordings() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings of the official scripts at {}", folder.display());
    None
}

fn branch(benchmark: &str, model: &str, path: PathBuf) -> Branch {
    let labels =
        BTreeMap::from([("bench".to_string(), benchmark.to_string()), ("judge".to_string(), model.to_string())]);
    Branch { stage: "score".into(), labels, baseline: false, path: Some(path), adaptive: BTreeMap::new() }
}

#[test]
fn official_files_come_in_and_go_out_row_for_row_and_so_does_their_summary() {
    let Some(folder) = recordings() else { return };
    let place = tempfile::tempdir().unwrap();
    let (mut judgments, mut rows) = (Vec::new(), Vec::new());
    for model in ["judge-one", "judge_two"] {
        for benchmark in ["helpsteer3_aug", "reward_bench2_aug"] {
            let file = folder.join(format!("result_metarm/{benchmark}__{model}_metarm_meta.jsonl"));
            let bench = Bench::new();
            bench.run::<DataOfficial>(json!({}), &[("raw", &file)]).unwrap();
            assert_eq!(bench.json("metrics.json")["differing"], 0.0);
            for (name, branches) in [("judgments", &mut judgments), ("rows", &mut rows)] {
                let copy = place.path().join(format!("{benchmark}-{model}-{name}"));
                std::fs::write(&copy, bench.text(&format!("{name}.jsonl"))).unwrap();
                branches.push(branch(benchmark, model, copy));
            }
        }
    }
    let inputs = [("judgments", judgments), ("rows", rows)];
    let inputs = inputs.map(|(name, branches)| (name.to_string(), InputPlace::Gathered(branches)));
    let out = place.path().join("official");
    let outputs = BTreeMap::from([("official".to_string(), out.clone())]);
    let io = Io::new(inputs.into(), outputs, place.path().into(), Manner::default(), None).unwrap();
    let params = json!({"benchmark_axis": "bench", "model_axis": "judge"});
    ExportOfficial::run(serde_json::from_value(params).unwrap(), &io).unwrap();

    let mut files = 0;
    for entry in std::fs::read_dir(folder.join("result_metarm")).unwrap() {
        let theirs = entry.unwrap().path();
        let ours = out.join("result_metarm").join(theirs.file_name().unwrap());
        let (theirs, ours): (Vec<Value>, Vec<Value>) = (jsonl::read(&theirs).unwrap(), jsonl::read(&ours).unwrap());
        assert_eq!(ours, theirs);
        files += 1;
    }
    assert_eq!(files, 4);
    let summary = |folder: &Path| std::fs::read_to_string(folder.join("results_summary.csv")).unwrap();
    assert_eq!(summary(&out), summary(&folder));
}

#[test]
fn a_recorded_verdict_that_its_text_does_not_give_is_named() {
    let row = json!({"id": "x", "gt_label": "A", "gt_judgment": "g", "model_judgment": "\\boxed{B}", "model_pred": "A",
        "metarm_raw": null, "metarm_verdict": "CallFail", "metarm_score": null, "metarm_analysis": ""});
    let bench = Bench::new();
    let raw = bench.file("raw", &row.to_string());
    let error = bench.run::<DataOfficial>(json!({}), &[("raw", &raw)]).unwrap_err();
    assert!(
        error
            .message
            .ends_with("row `x` records the verdict Some(A), and its text gives Some(B), and 0 more rows like it")
    );
    bench.run::<DataOfficial>(json!({"allow_differences": true}), &[("raw", &raw)]).unwrap();
    assert_eq!(bench.json("metrics.json")["differing"], 1.0);
}

#[test]
fn rows_that_no_meta_judge_has_seen_have_an_accuracy_only() {
    let row = json!({"id": "x", "gt_label": "A", "model_judgment": "\\boxed{A}", "model_pred": "A", "conversations": [{"role": "user", "content": "q"}],
        "response_A": "a", "response_B": "b", "source": {"subset": "code"}});
    let bench = Bench::new();
    let raw = bench.file("raw", &row.to_string());
    bench.run::<DataOfficial>(json!({}), &[("raw", &raw)]).unwrap();
    let metrics = bench.json("metrics.json");
    assert_eq!(
        [&metrics["l_acc"], &metrics["s_corr"], &metrics["call_fail"]],
        [&json!(1.0), &Value::Null, &Value::Null]
    );
    assert!(bench.text("judgments.jsonl").contains("\"subset\":\"code\""));
}
