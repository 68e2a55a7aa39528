//! Benchmarks: published files become pairs, their own scores, and the numbers that one gets straight from the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Scene;

fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let there =
        folder.join("llmbar/judgments.jsonl").is_file() && folder.join("metacritique/annotated.jsonl").is_file();
    if !there {
        eprintln!("skipped: no real data at {}", folder.display());
    }
    there.then(|| std::fs::canonicalize(folder).unwrap())
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Right judgments, all of them, and the decisions on each pair.
type Straight = (f64, f64, BTreeMap<String, Vec<Value>>);

/// Per judge: shares of right judgments, and of pairs that both orders decide alike, straight from the files.
fn counted(data: &Path) -> BTreeMap<String, (f64, f64)> {
    let adversarial_or_natural = ["natural", "neighbor", "gptinst", "gptout", "manual"];
    let pairs = rows(&data.join("llmbar/pairs.jsonl"));
    let chosen = pairs.iter().filter(|pair| adversarial_or_natural.contains(&pair["subset"].as_str().unwrap()));
    let labels: BTreeMap<&str, &Value> = chosen.map(|pair| (pair["id"].as_str().unwrap(), &pair["label"])).collect();
    assert_eq!(labels.len(), 419);
    let mut judges: BTreeMap<String, Straight> = BTreeMap::new();
    for row in rows(&data.join("llmbar/judgments.jsonl")) {
        let Some(label) = labels.get(row["id"].as_str().unwrap()) else { continue };
        let (right, all, decisions) = judges.entry(row["judge"].as_str().unwrap().to_string()).or_default();
        *all += 1.0;
        *right += f64::from(u8::from(row["decision"] == **label));
        decisions.entry(row["id"].as_str().unwrap().to_string()).or_default().push(row["decision"].clone());
    }
    let share = |(right, all, decisions): Straight| {
        let alike = decisions.values().filter(|two| two.len() == 2 && two[0] == two[1] && !two[0].is_null());
        (right / all, alike.count() as f64 / decisions.len() as f64)
    };
    judges.into_iter().map(|(judge, counts)| (judge, share(counts))).collect()
}

#[test]
fn label_accuracy_of_six_recorded_judges_is_what_the_file_says() {
    let Some(data) = data() else { return };
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/llmbar.toml");
    let scene = Scene::new(&std::fs::read_to_string(pipeline).unwrap());
    scene.plumb(&format!("run p.toml --set data={}", data.display())).exits(0);
    let metrics = |artifact: &str| -> Value {
        let opened = scene.plumb(&format!("open p.toml {artifact} --set data={}", data.display())).exits(0);
        serde_json::from_str(&std::fs::read_to_string(opened.raw.trim_end()).unwrap()).unwrap()
    };
    let counted = counted(&data);
    assert_eq!(counted.len(), 6);
    for (judge, (accuracy, consistency)) in counted {
        let labels = metrics(&format!("labels@judge={judge}.metrics"));
        assert_eq!(
            (labels["l_acc"].as_f64(), labels["order_consistency"].as_f64()),
            (Some(accuracy), Some(consistency)),
            "{judge}"
        );
        assert_eq!(labels["n"], 838.0);
        let official = metrics(&format!("official@judge={judge}.metrics"));
        assert!((official["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-12, "{judge}: {official}");
        assert_eq!(official["positional_agreement"].as_f64(), Some(consistency), "{judge}");
    }
    // People's labels stand beside every stand-in before its S-Corr is read.
    let people = metrics("people@meta=overlap-30.metrics");
    assert_eq!((people["n"].as_f64(), people["coverage"].as_f64()), (Some(4057.0), Some(1.0)));
    let again = scene.plumb(&format!("run p.toml --set data={}", data.display())).exits(0);
    assert!(again.stderr.contains("nothing to do") || !again.stderr.contains("failed"), "{}", again.stderr);
}

const RM_BENCH: &str = r#"schema = 1
[source.raw]
path = "rm-bench"
[stage.items]
uses = "data.benchmark"
inputs.raw = "source.raw"
with = { benchmark = "rm-bench", split = "test" }
[stage.rewards]
uses = "command"
inputs.pairs = "items.pairs"
outputs.scores = "scores.jsonl"
with.argv = ["sh", "-c", "sed -E 's/^.\"id\":(\"[^\"]*\").*/{\"id\":\\1,\"chosen\":2,\"rejected\":1}/' {in:pairs} > {out:scores}"]
[stage.own]
uses = "bench.official"
inputs = { groups = "items.groups", scores = "rewards.scores" }
with.benchmark = "rm-bench"
"#;

#[test]
fn a_folder_of_parquet_files_is_scored_by_the_benchmarks_own_rules() {
    let scene = Scene::new(RM_BENCH);
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/tests/fixtures/tables/rm-bench-zstd.parquet");
    std::fs::create_dir_all(scene.path("rm-bench/data")).unwrap();
    std::fs::copy(table, scene.path("rm-bench/data/test-00000-of-00001.parquet")).unwrap();
    scene.write("rm-bench/README.md", "not data");
    scene.plumb("run p.toml").exits(0);
    let metrics: Value = serde_json::from_str(&scene.result("own.metrics")).unwrap();
    assert_eq!((&metrics["score"], &metrics["hard"], &metrics["n"]), (&1.0.into(), &1.0.into(), &2.0.into()));
    let wrong = scene.plumb("run p.toml").exits(0);
    assert!(!wrong.stderr.contains("error"));
    scene.edit("benchmark = \"rm-bench\", split", "benchmark = \"judge-bench\", split");
    let refused = scene.plumb("run p.toml items").exits(1);
    let told = "no column `pair_id` and `source` and `question` and `response_A` and `response_B` and `label`: `judge-bench` has";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}
