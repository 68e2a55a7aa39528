//! Each benchmark's rows become pairs and groups; what is wrong with a row is told.

mod scores;

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::judging::meta::MetaVerdict;
use crate::judging::s_corr::RowVerdict;
use crate::rows::Order;
use crate::stats::items::Metrics;
use crate::testing::{Bench, shared};

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| row.to_string() + "\n").collect()
}

fn import(bench: &Bench, params: Value, rows: &[Value]) -> Result<(), StageError> {
    let raw = bench.file("raw", &lines(rows));
    bench.run::<DataBenchmark>(params, &[("raw", &raw)])
}

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tables").join(name)
}

/// `id: A | B -> label` of every pair.
fn pairs(bench: &Bench) -> String {
    let shown = |pair: &Pair| {
        format!(
            "{} [{}]: {} | {} -> {}\n",
            pair.id, pair.source.subset, pair.response_a, pair.response_b, pair.gt_label
        )
    };
    bench.rows::<Pair>("pairs.jsonl").iter().map(shown).collect()
}

fn refusal(params: Value, row: Value, expected: Expect) {
    let bench = Bench::new();
    let error = import(&bench, params, &[row]).expect_err("a row that is refused");
    let message = error.message.rsplit_once("raw:").map_or(error.message.as_str(), |(_, rest)| rest);
    expected.assert_eq(&format!("{message}\n{}", error.hint.unwrap_or_default()));
}

/// The verdict of a pairwise judge on a pair: `+` right, `-` wrong, `0` unreadable.
fn verdict(pair: &Pair, order: Order, sign: char) -> RowVerdict {
    let model_pred = match sign {
        '+' => Some(pair.gt_label),
        '-' => Some(pair.gt_label.other()),
        _ => None,
    };
    RowVerdict {
        id: pair.id.clone(),
        order,
        subset: pair.source.subset.clone(),
        gt_label: pair.gt_label,
        model_pred,
        metarm_verdict: MetaVerdict::SkippedLabelMismatch,
        metarm_score: None,
        agreement: None,
        metarm_analysis: String::new(),
        metarm_raw: None,
    }
}

/// The official scores of these verdicts, one sign a pair in its order; with two letters a pair, both orders.
fn official(bench: &Bench, benchmark: &str, signs: &[&str]) -> Metrics {
    let judged: Vec<Pair> = bench.rows("pairs.jsonl");
    assert_eq!(judged.len(), signs.len());
    let orders = [Order::Original, Order::Swapped];
    let of = |(pair, signs): (&Pair, &&str)| -> Vec<Value> {
        signs.chars().zip(orders).map(|(sign, order)| json!(verdict(pair, order, sign))).collect()
    };
    let rows: Vec<Value> = judged.iter().zip(signs).flat_map(of).collect();
    let rows = bench.file("rows", &lines(&rows));
    let groups = bench.file("groups", &bench.text("groups.jsonl"));
    let inputs: [(&str, &Path); 2] = [("groups", &groups), ("rows", &rows)];
    bench.run::<official::Official>(json!({ "benchmark": benchmark }), &inputs).expect("scores");
    serde_json::from_str(&bench.text("metrics.json")).expect("metrics")
}

fn check(metrics: &Metrics, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let found = metrics.get(*name).copied().flatten();
        assert!(
            found.is_some_and(|found| (found - value).abs() < 1e-6),
            "{name}: {found:?} is not {value}\n{metrics:?}"
        );
    }
}

#[test]
fn parquet_arrow_and_compressed_files_are_read_as_they_are_published() {
    for codec in ["snappy", "zstd", "gzip"] {
        let bench = Bench::new();
        let params = json!({"benchmark": "rm-bench", "placement": "keep", "subsets": ["math"]});
        bench
            .run::<DataBenchmark>(params, &[("raw", &table(&format!("rm-bench-{codec}.parquet")))])
            .expect("an import");
        assert_eq!(bench.json("report.json")["pairs"], 9);
        assert!(pairs(&bench).starts_with("1#0-3 [math]: right short 1 | wrong short 1 -> A\n"), "{}", pairs(&bench));
    }
    let bench = Bench::new();
    let params = json!({"benchmark": "judge-bench", "split": "gpt"});
    bench.run::<DataBenchmark>(params, &[("raw", &table("judge-bench"))]).expect("an import");
    expect![[r#"
        pair-1 [mmlu-pro]: first | second -> A
        pair-2 [livecodebench]: first | second -> B
    "#]]
    .assert_eq(&pairs(&bench));
    let bench = Bench::new();
    bench
        .run::<DataBenchmark>(json!({"benchmark": "helpsteer3"}), &[("raw", &table("helpsteer3.jsonl.gz"))])
        .expect("an import");
    let report = bench.json("report.json");
    assert_eq!([&report["rows"], &report["ties"], &report["items"], &report["with_gold"]], [3, 1, 2, 2]);
    assert!(bench.text("pairs.jsonl").contains("@Response 1 is right."));
}

#[test]
fn a_split_that_a_folder_has_not_is_told_with_what_it_has() {
    let bench = Bench::new();
    let params = json!({"benchmark": "judge-bench", "split": "test"});
    let error = bench.run::<DataBenchmark>(params, &[("raw", &table("judge-bench"))]).expect_err("no such split");
    let found = error.message.split_once("holds ").expect("what it holds").1.to_string();
    let expected =
        "no data file of split `test`: found claude/data-00000-of-00001.arrow, gpt/data-00000-of-00001.arrow";
    assert_eq!(found, expected);
    let both = bench.run::<DataBenchmark>(json!({"benchmark": "judge-bench"}), &[("raw", &table("judge-bench"))]);
    assert!(both.expect_err("one pair in both splits").message.contains("the id `pair-1` occurs twice"));
}

#[test]
fn a_wrong_column_is_told_with_what_was_found_and_expected() {
    refusal(
        json!({"benchmark": "rm-bench"}),
        json!({"id": 1, "prompt": "q", "chosen": ["a"], "rejected": ["b"], "subset": "math"}),
        expect![[r#"
            1: no column `domain`: `rm-bench` has id, prompt, chosen, rejected, domain, and this row has chosen, id, prompt, rejected, subset
            is it a file of `rm-bench`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
    refusal(
        json!({"benchmark": "rm-bench"}),
        json!({"id": 1, "prompt": "q", "chosen": ["a"], "rejected": ["b", "c", "d"], "domain": "math"}),
        expect![[r#"
            1: column `chosen` holds 1 texts: expected 3, one a style
            is it a file of `rm-bench`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
    refusal(
        json!({"benchmark": "reward-bench2"}),
        json!({"id": 1, "prompt": "q", "chosen": "a", "rejected": ["b"], "subset": "Math"}),
        expect![[r#"
            1: column `chosen` holds the text `a`: expected a list of texts
            is it a file of `reward-bench2`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
    refusal(
        json!({"benchmark": "judge-bench"}),
        json!({"pair_id": "p", "source": "s", "question": "q", "response_A": "a", "response_B": "b", "label": "A"}),
        expect![[r#"
            1: column `label` holds `A`: expected `A>B` or `B>A`
            is it a file of `judge-bench`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
    refusal(
        json!({"benchmark": "rmb"}),
        json!({"pair_uid": "p", "conversation_input": "q", "chosen": "a", "reject": {"answer": "b"}}),
        expect![[r#"
            1: column `chosen` holds the text `a`: expected a table with a text `answer`
            is it a file of `rmb`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
    refusal(
        json!({"benchmark": "pairs", "columns": {"prompt": "ask", "chosen": "good", "rejected": "bad"}}),
        json!({"ask": "q", "good": "a"}),
        expect![[r#"
            1: no column `bad`: `pairs` has ask, good, bad, and this row has ask, good
            is it a file of `pairs`? `with.benchmark` names another one, and `pairs` reads any columns"#]],
    );
}

#[test]
fn the_better_answer_of_chosen_and_rejected_is_a_in_about_half() {
    let row = |id: usize| json!({"id": id, "prompt": format!("q{id}"), "chosen": "good", "rejected": "bad", "subset": "hep-go"});
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "reward-bench"}), &(0..200).map(row).collect::<Vec<_>>()).expect("an import");
    let a = bench.json("report.json")["labels"]["A"].as_u64().expect("a count");
    assert!((70..130).contains(&a), "{a} of 200");
    assert!(bench.rows::<Pair>("pairs.jsonl").iter().all(|pair| {
        let better = if pair.gt_label == Side::A { &pair.response_a } else { &pair.response_b };
        better == "good"
    }));
}

#[test]
fn fewer_items_are_chosen_among_those_of_more() {
    let row =
        |id: usize| json!({"id": id, "prompt": "q", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"});
    let rows: Vec<Value> = (0..50).map(row).collect();
    let ids = |most: usize| {
        let bench = Bench::new();
        import(&bench, json!({"benchmark": "reward-bench2", "max_items": most, "among": "one"}), &rows)
            .expect("an import");
        let ids: Vec<String> = bench.rows::<Pair>("pairs.jsonl").into_iter().map(|pair| pair.id).collect();
        assert_eq!(bench.json("report.json")["beyond_max_items"], 50 - most);
        ids
    };
    let (few, many) = (ids(5), ids(20));
    assert_eq!((few.len(), many.len()), (5, 20));
    assert!(few.iter().all(|id| many.contains(id)));
}

#[test]
fn real_llmbar_pairs_come_in_whole() {
    let Some(raw) = shared("llmbar/pairs.jsonl") else { return };
    let bench = Bench::new();
    bench.run::<DataBenchmark>(json!({"benchmark": "llmbar"}), &[("raw", &raw)]).expect("an import");
    let report = bench.json("report.json");
    let lines = std::fs::read_to_string(&raw).expect("the file").lines().count();
    assert_eq!((report["items"].as_u64(), report["pairs"].as_u64()), (Some(lines as u64), Some(lines as u64)));
    assert_eq!(report["subsets"]["natural"], 100);
}
