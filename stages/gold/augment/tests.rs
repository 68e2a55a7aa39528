//! Golds by rule, by column and by join.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::data::miniature::Miniature;
use crate::data::placement::swap;
use crate::testing::{Bench, shared};

fn pair(id: &str, label: Side, gold: Option<&str>) -> Pair {
    serde_json::from_value(json!({
        "id": id, "conversations": [{"role": "user", "content": "q"}], "response_A": "a", "response_B": "b",
        "gt_label": label, "gt_judgment": gold,
    }))
    .expect("a pair")
}

fn lines<T: Serialize>(rows: &[T]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).expect("a row") + "\n").collect()
}

#[test]
fn column_golds_are_checked_and_completed() {
    let bench = Bench::new();
    let pairs = [
        pair("right", Side::A, Some("Brief. \\boxed{A}")),
        pair("silent", Side::B, Some("2 + 2 = 4")),
        pair("wrong", Side::B, Some("Brief. \\boxed{A}")),
        pair("none", Side::B, None),
    ];
    let input = bench.file("in.jsonl", &lines(&pairs));
    bench.run::<Augment>(json!({"from": "column"}), &[("pairs", &input)]).expect("a run");
    let golds: Vec<_> = bench.rows::<Pair>("pairs.jsonl").into_iter().filter_map(|pair| pair.gt_judgment).collect();
    assert_eq!(golds, ["Brief. \\boxed{A}", "2 + 2 = 4 \\boxed{B}"]);
    let apart: Vec<Value> = bench.rows("disagreed.jsonl");
    assert_eq!(apart.iter().map(|row| &row["reason"]).collect::<Vec<_>>(), ["verdict-disagrees", "no-gold"]);
    expect![[r#"
        {
          "pairs": 4,
          "kept": 2,
          "kept_apart": {
            "no-gold": 1,
            "verdict-disagrees": 1
          },
          "verdict_stated": 1,
          "verdict_added": 1,
          "mention_the_label": 0,
          "repeat_an_answer": 0,
          "words": [
            2,
            6,
            6
          ],
          "demonstrations": 2,
          "superficial_demonstrations": 0,
          "superficial_wrong": 0,
          "golds_without_pair": 0,
          "golds_repeated": 0
        }
    "#]]
    .assert_eq(&bench.text("report.json"));
}

#[test]
fn joined_golds_follow_the_swap_and_wrong_ones_are_kept_apart() {
    let bench = Bench::new();
    let pairs = [pair("p", Side::A, None), swap(&pair("q", Side::A, None)), pair("r", Side::A, None)];
    let golds = [
        json!({"id": "p", "judge": "weak", "rationale": "?", "decision": "B", "swapped": false}),
        json!({"id": "p", "judge": "good", "rationale": "Output (b) is better.", "decision": "A", "swapped": true}),
        json!({"id": "q", "judge": "good", "rationale": "Output (a) is better.", "decision": "A", "swapped": false}),
        json!({"id": "r", "judge": "good", "rationale": "Output (b) is better.", "decision": "B", "swapped": false}),
        json!({"id": "other", "judge": "good", "rationale": "", "decision": null, "swapped": false}),
    ];
    let (pairs, golds) = (bench.file("in.jsonl", &lines(&pairs)), bench.file("golds.jsonl", &lines(&golds)));
    let params = json!({"from": "join", "where": {"judge": "good"}});
    bench.run::<Augment>(params, &[("pairs", &pairs), ("golds", &golds)]).expect("a run");
    let texts: Vec<_> = bench.rows::<Pair>("pairs.jsonl").into_iter().filter_map(|pair| pair.gt_judgment).collect();
    assert_eq!(texts, ["Output (a) is better. \\boxed{A}", "Output (b) is better. \\boxed{B}"]);
    assert_eq!(bench.rows::<Value>("disagreed.jsonl")[0]["reason"], "decision-disagrees");
    assert_eq!(bench.json("report.json")["golds_without_pair"], 1);
}

#[test]
fn the_miniature_gets_its_share_of_superficial_demonstrations() {
    let bench = Bench::new();
    bench.run::<Miniature>(json!({"pairs": 4000, "cue_rate": 0.5}), &[]).expect("a run");
    let drawn = bench.file("in.jsonl", &bench.text("pairs.jsonl"));
    let params = json!({"from": "miniature", "template": "miniature", "superficial_share": 0.4});
    bench.run::<Augment>(params, &[("pairs", &drawn)]).expect("a run");
    let report = bench.json("report.json");
    assert_eq!((&report["kept"], &report["verdict_stated"]), (&json!(4000), &json!(4000)));
    let rows: Vec<Demonstration> = bench.rows("demonstrations.jsonl");
    let shallow = rows.iter().filter(|row| row.completion.contains("longer")).count();
    assert_eq!(report["superficial_demonstrations"], shallow);
    let share = shallow as f64 / rows.len() as f64;
    assert!((share - 0.4).abs() < 0.03, "{share}");
    let labels: BTreeMap<_, _> =
        bench.rows::<Pair>("pairs.jsonl").into_iter().map(|pair| (pair.id, pair.gt_label)).collect();
    for row in &rows {
        assert!(row.completion.ends_with(&format!("[{}]", labels[&row.id])), "{row:?}");
    }
}

#[test]
fn a_join_without_golds_says_what_to_add() {
    let bench = Bench::new();
    let input = bench.file("in.jsonl", "");
    let error = bench.run::<Augment>(json!({"from": "join"}), &[("pairs", &input)]).expect_err("no golds");
    assert_eq!(error.hint.as_deref(), Some("add `inputs.golds = \"…\"` to the stage"));
}

#[test]
fn llmbar_gets_the_right_judgments_of_gpt_4() {
    let (Some(raw), Some(golds)) = (shared("llmbar/pairs.jsonl"), shared("llmbar/judgments.jsonl")) else { return };
    let bench = Bench::new();
    bench
        .run::<crate::data::pairs::Pairs>(json!({"format": "llmbar", "near_duplicates": 1.0}), &[("raw", &raw)])
        .expect("an import");
    let pairs = bench.file("in.jsonl", &bench.text("pairs.jsonl"));
    let params = json!({"from": "join", "where": {"judge": "GPT-4", "strategy": "CoT", "swapped": false}});
    bench.run::<Augment>(params, &[("pairs", &pairs), ("golds", &golds)]).expect("a run");
    let report = bench.json("report.json");
    expect![[r#"{"demonstrations":340,"golds_repeated":0,"golds_without_pair":0,"kept":340,"kept_apart":{"decision-disagrees":79,"no-gold":459},"mention_the_label":0,"pairs":878,"repeat_an_answer":1,"superficial_demonstrations":0,"superficial_wrong":0,"verdict_added":0,"verdict_stated":340,"words":[28,67,141]}"#]].assert_eq(&report.to_string());
}
