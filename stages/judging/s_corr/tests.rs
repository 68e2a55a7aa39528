//! The stage on fixtures small enough to check by hand.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use plumb_engine::io::{InputPlace, Manner};

use super::*;
use crate::rows::{Message, Order, Origin, Pair, Side};

const GOLD: &str = "A 4 B 3 but max 4 [A]";

fn judged(id: &str, text: Option<&str>) -> Judgment {
    let pair = Pair {
        id: id.into(),
        conversations: vec![Message { role: "user".into(), content: "max 4 3".into() }],
        response_a: "ans 4".into(),
        response_b: "sure ! ans 3".into(),
        gt_label: Side::A,
        gt_judgment: Some(GOLD.into()),
        source: Origin { dataset: "miniature".into(), subset: "stem".into() },
        prompt_id: format!("prompt of {id}"),
        swapped: false,
        cue: Some(Side::B),
    };
    Judgment { pair, order: Order::Original, model_judgment: text.map(String::from), finished: true }
}

fn swapped(id: &str, text: &str) -> Judgment {
    let mut judgment = judged(id, Some(text));
    let pair = &mut judgment.pair;
    std::mem::swap(&mut pair.response_a, &mut pair.response_b);
    (pair.gt_label, pair.cue, pair.swapped) = (Side::B, Some(Side::A), true);
    pair.gt_judgment = Some("A 3 B 4 but max 4 [B]".into());
    judgment.order = Order::Swapped;
    judgment
}

fn run(judgments: &[Judgment], both_orders: &str) -> Result<[String; 3], StageError> {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("judgments.jsonl");
    jsonl::write(&input, judgments).unwrap();
    let names = ["items", "rows", "metrics"];
    let outputs: BTreeMap<_, _> = names.map(|name| (name.to_string(), folder.path().join(name))).into();
    let inputs = BTreeMap::from([("judgments".to_string(), InputPlace::One(input))]);
    let io = Io::new(inputs, outputs.clone(), folder.path().into(), Manner::default(), None).unwrap();
    let params = serde_json::json!({
        "template": "miniature", "meta": { "kind": "rubric" }, "bootstrap_samples": 200, "both_orders": both_orders,
    });
    SCorr::run(serde_json::from_value(params).unwrap(), &io)?;
    Ok(names.map(|name| std::fs::read_to_string(&outputs[name]).unwrap()))
}

fn check_metrics(judgments: &[Judgment], both_orders: &str, expected: Expect) {
    let [_, _, metrics] = run(judgments, both_orders).unwrap();
    let metrics: Metrics = serde_json::from_str(&metrics).unwrap();
    let shown = |value: &Option<f64>| value.map_or("null".into(), |value| format!("{value:.3}"));
    let lines: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {}", shown(value))).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn each_fate_of_a_judgment_is_scored_and_counted() {
    let mut without_gold = judged("no-gold", Some(GOLD));
    without_gold.pair.gt_judgment = None;
    let judgments = [
        judged("grounded", Some(GOLD)),
        judged("superficial", Some("A longer [A]")),
        judged("misread", Some("A 4 B 4 but max 4 [A]")),
        judged("wrong", Some("B longer polite [B]")),
        judged("silent", Some("A longer")),
        judged("failed", None),
        without_gold,
    ];
    let [items, rows, _] = run(&judgments, "debias").unwrap();
    expect![[r#"
        {"id":"grounded","cluster":"prompt of grounded","domain":"stem","values":{"faithful":1.0,"label_correct":1.0,"spurious":0.0}}
        {"id":"superficial","cluster":"prompt of superficial","domain":"stem","values":{"faithful":0.0,"label_correct":1.0,"spurious":1.0}}
        {"id":"misread","cluster":"prompt of misread","domain":"stem","values":{"faithful":0.0,"label_correct":1.0,"spurious":1.0}}
        {"id":"wrong","cluster":"prompt of wrong","domain":"stem","values":{"faithful":0.0,"label_correct":0.0,"spurious":0.0}}
        {"id":"silent","cluster":"prompt of silent","domain":"stem","values":{"faithful":0.0,"label_correct":0.0,"spurious":0.0}}
        {"id":"failed","cluster":"prompt of failed","domain":"stem","values":{"faithful":0.0,"label_correct":0.0,"spurious":0.0}}
        {"id":"no-gold","cluster":"prompt of no-gold","domain":"stem","values":{"faithful":null,"label_correct":1.0,"spurious":null}}
    "#]].assert_eq(&items);
    expect![[r#"
        {"id":"grounded","order":"original","subset":"stem","gt_label":"A","model_pred":"A","metarm_verdict":"Correct","metarm_score":1.0,"agreement":1.0,"metarm_analysis":"all four fields match"}
        {"id":"superficial","order":"original","subset":"stem","gt_label":"A","model_pred":"A","metarm_verdict":"Incorrect","metarm_score":0.0,"agreement":0.0,"metarm_analysis":"the rationale has not the grounded shape"}
        {"id":"misread","order":"original","subset":"stem","gt_label":"A","model_pred":"A","metarm_verdict":"Incorrect","metarm_score":0.0,"agreement":0.75,"metarm_analysis":"claim B is `4`, gold says `3`"}
        {"id":"wrong","order":"original","subset":"stem","gt_label":"A","model_pred":"B","metarm_verdict":"SkippedLabelMismatch","metarm_score":null,"agreement":null,"metarm_analysis":""}
        {"id":"silent","order":"original","subset":"stem","gt_label":"A","model_pred":null,"metarm_verdict":"SkippedLabelMismatch","metarm_score":null,"agreement":null,"metarm_analysis":""}
        {"id":"failed","order":"original","subset":"stem","gt_label":"A","model_pred":null,"metarm_verdict":"SkippedLabelMismatch","metarm_score":null,"agreement":null,"metarm_analysis":""}
        {"id":"no-gold","order":"original","subset":"stem","gt_label":"A","model_pred":"A","metarm_verdict":"CallFail","metarm_score":null,"agreement":null,"metarm_analysis":"there is no gold judgment to compare with"}
    "#]].assert_eq(&rows);
    check_metrics(
        &judgments,
        "debias",
        expect![[r#"
            call_fail 1.000
            coverage 0.750
            cue_followed 0.200
            f_score 0.167
            f_score/better-shorter 0.167
            f_score/cue-wrong 0.167
            f_score/stem 0.167
            f_score_high 0.500
            f_score_low 0.000
            l_acc 0.571
            l_acc/better-shorter 0.571
            l_acc/cue-wrong 0.571
            l_acc/gold-a 0.571
            l_acc/stem 0.571
            l_acc_high 0.857
            l_acc_low 0.282
            label_correct 4.000
            n 7.000
            n/better-shorter 7.000
            n/cue-wrong 7.000
            n/stem 7.000
            p_choose_a 0.800
            parse_fail 0.000
            s_corr 0.667
            s_corr/better-shorter 0.667
            s_corr/cue-wrong 0.667
            s_corr/stem 0.667
            s_corr_high 1.000
            s_corr_low 0.000
            verdict_missing 2.000"#]],
    );
}

#[test]
fn two_orders_are_one_decision_that_holds_only_where_they_agree() {
    let judgments = [
        judged("agreed", Some(GOLD)),
        swapped("agreed", "A 3 B 4 but max 4 [B]"),
        judged("position", Some(GOLD)),
        swapped("position", "A longer [A]"),
        judged("half", Some(GOLD)),
        swapped("half", "B longer [B]"),
    ];
    check_metrics(
        &judgments,
        "debias",
        expect![[r#"
            aligned_blind 0.000
            call_fail 0.000
            coverage 1.000
            cue_followed 0.167
            f_score 0.333
            f_score/better-shorter 0.333
            f_score/cue-wrong 0.333
            f_score/stem 0.333
            f_score_high 1.000
            f_score_low 0.000
            l_acc 0.667
            l_acc/better-shorter 0.667
            l_acc/cue-wrong 0.667
            l_acc/gold-a 1.000
            l_acc/gold-b 0.667
            l_acc/stem 0.667
            l_acc_high 1.000
            l_acc_low 0.000
            label_correct 2.000
            length_correlation -0.707
            meta_sound 1.000
            n 3.000
            n/better-shorter 3.000
            n/cue-wrong 3.000
            n/stem 3.000
            n_blind 2.000
            order_consistency 0.667
            p_choose_a 0.667
            parse_fail 0.000
            s_corr 0.500
            s_corr/better-shorter 0.500
            s_corr/cue-wrong 0.500
            s_corr/stem 0.500
            s_corr_blind 1.000
            s_corr_high 1.000
            s_corr_low 0.000
            verdict_missing 0.000"#]],
    );
    check_metrics(
        &judgments,
        "each",
        expect![[r#"
            aligned_blind 0.000
            call_fail 0.000
            coverage 1.000
            cue_followed 0.167
            f_score 0.667
            f_score/better-shorter 0.667
            f_score/cue-wrong 0.667
            f_score/stem 0.667
            f_score_high 1.000
            f_score_low 0.500
            l_acc 0.833
            l_acc/better-shorter 0.833
            l_acc/cue-wrong 0.833
            l_acc/gold-a 1.000
            l_acc/gold-b 0.667
            l_acc/stem 0.833
            l_acc_high 1.000
            l_acc_low 0.500
            label_correct 5.000
            length_correlation -0.707
            meta_sound 1.000
            n 6.000
            n/better-shorter 6.000
            n/cue-wrong 6.000
            n/stem 6.000
            n_blind 2.000
            order_consistency 0.667
            p_choose_a 0.667
            parse_fail 0.000
            s_corr 0.200
            s_corr/better-shorter 0.200
            s_corr/cue-wrong 0.200
            s_corr/stem 0.200
            s_corr_blind 1.000
            s_corr_high 0.500
            s_corr_low 0.000
            verdict_missing 0.000"#]],
    );
}

#[test]
fn one_pair_judged_twice_in_one_order_is_an_error_that_names_it() {
    let error = run(&[judged("x", None), judged("x", None)], "each").unwrap_err();
    expect!["judgment 2: `x` is judged twice in the same order"].assert_eq(&error.message);
}

#[test]
fn parameters_out_of_range_are_all_told_at_once() {
    let params = serde_json::json!({
        "meta": { "kind": "overlap", "threshold": 1.5 }, "bootstrap_samples": 0, "interval": 95.0,
    });
    let problems = SCorr::check(&serde_json::from_value(params).unwrap());
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["meta.threshold", "bootstrap_samples", "interval"]);
}

/// Sixty label-correct judgments, each of which repeats its own gold.
fn own_golds(gold: impl Fn(usize) -> String) -> Vec<Judgment> {
    let one = |number: usize| {
        let gold = gold(number);
        let mut judgment = judged(&number.to_string(), Some(&gold));
        judgment.pair.gt_judgment = Some(gold);
        judgment
    };
    (0..60).map(one).collect()
}

fn soundness(judgments: &[Judgment], meta: serde_json::Value) -> (Metrics, String) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("judgments.jsonl");
    jsonl::write(&input, judgments).unwrap();
    let outputs = ["items", "rows", "metrics"].map(|name| (name.to_string(), folder.path().join(name)));
    let inputs = BTreeMap::from([("judgments".to_string(), InputPlace::One(input))]);
    let events = folder.path().join("events");
    let io = Io::new(inputs, outputs.into(), folder.path().into(), Manner::default(), Some(&events)).unwrap();
    let params = serde_json::json!({ "template": "miniature", "meta": meta, "bootstrap_samples": 20 });
    SCorr::run(serde_json::from_value(params).unwrap(), &io).unwrap();
    (jsonl::read_json(&folder.path().join("metrics")).unwrap(), std::fs::read_to_string(events).unwrap())
}

#[test]
fn a_meta_judge_that_knows_golds_apart_is_sound() {
    let golds = |number| format!("A {number} B 3 but max {number} [A]");
    let (metrics, events) = soundness(&own_golds(golds), serde_json::json!({ "kind": "rubric" }));
    assert_eq!(
        [metrics["f_score"], metrics["aligned_blind"], metrics["meta_sound"]],
        [Some(1.0), Some(0.0), Some(1.0)]
    );
    assert_eq!([metrics["n_blind"], metrics["s_corr_blind"]], [Some(60.0), Some(1.0)]);
    assert!(!events.contains("unsound"), "{events}");
}

#[test]
fn a_meta_judge_that_agrees_with_the_golds_of_other_items_is_reported_as_unsound() {
    let lenient = serde_json::json!({ "kind": "overlap", "threshold": 0.1 });
    let golds = |number| format!("Answer {number} adds wrongly. [A]");
    let (metrics, events) = soundness(&own_golds(golds), lenient);
    assert_eq!(
        [metrics["f_score"], metrics["aligned_blind"], metrics["meta_sound"]],
        [Some(1.0), Some(1.0), Some(0.0)]
    );
    assert!(events.contains("the meta-judge is unsound here: with golds of other items it still calls 100 % Correct"));
}

#[test]
fn the_gold_of_ones_own_prompt_is_no_control() {
    let both = [judged("x", Some(GOLD)), swapped("x", "A 3 B 4 but max 4 [B]")];
    let (metrics, _) = soundness(&both, serde_json::json!({ "kind": "rubric" }));
    assert!(!metrics.contains_key("meta_sound") && !metrics.contains_key("s_corr_blind"), "{metrics:?}");
}

#[test]
fn richer_answers_are_told_from_plainer_ones() {
    let text = "# Title\n- one\n2. two\nplain **bold** 3.5 and - no\n```";
    assert_eq!([probes::marks(text), probes::marks("plain. 3 - 2 * 4")], [5, 0]);
}
