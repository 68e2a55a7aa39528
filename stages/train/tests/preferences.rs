//! Learning from pairs over the table of words.

use super::pair;
use super::table::Bench;
use crate::jsonl;
use crate::judging::template::Template;
use crate::rows::{Pair, Side};
use crate::train::{bench_reward, dpo, reward};
use plumb_engine::stage::Declare as _;

fn params() -> dpo::Params {
    dpo::Params {
        template: Template::Miniature,
        max_steps: 20,
        per_device_train_batch_size: 2,
        learning_rate: 0.5,
        digest_steps: 5,
        ..dpo::Params::default()
    }
}

// `red` is A and `blue` B.
fn bench(labels: &[Side]) -> Bench {
    let bench = Bench::new();
    let row = |(number, label): (usize, &Side)| pair(&format!("row-{number}"), *label, None);
    let rows: Vec<Pair> = labels.iter().enumerate().map(row).collect();
    jsonl::write(&bench.path("pairs"), rows).expect("writes");
    bench
}

#[test]
fn a_policy_moves_to_the_chosen_answers_and_stays_near_its_reference() {
    let moved = [0.1, 2.0].map(|beta| {
        let bench = bench(&[Side::B, Side::B, Side::B]);
        let params = dpo::Params { beta, max_steps: 400, ..params() };
        dpo::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
        let logits = bench.logits();
        let steps = bench.steps();
        assert!((steps[0].metrics["loss"] - 2f64.ln()).abs() < 1e-6, "the reference is where training starts");
        assert!(steps[399].metrics["loss"] < 0.3, "{:?}", steps[399]);
        assert_eq!(steps[2].metrics["epoch"], 2.0);
        assert_eq!(steps[399].metrics["num_tokens"], 400.0 * 2.0 * 2.0 * (3.0 + 2.0));
        logits[4] - logits[3]
    });
    assert!(moved[0] > moved[1] && moved[1] > 1.0, "a stronger hold moves less: {moved:?}");
}

#[test]
fn answers_that_contradict_each_other_teach_nothing() {
    let bench = bench(&[Side::A, Side::B]);
    dpo::run(&bench.backend, &params(), &bench.io(&["model", "pairs"])).expect("runs");
    let logits = bench.logits();
    // Each pair of a step is learnt from after the other: what is left of that is small.
    assert!((logits[3] - logits[4]).abs() < 1e-2 * logits[3].abs(), "{logits:?}");
}

#[test]
fn a_killed_preference_run_continues_to_the_same_bytes() {
    let labels = [Side::B, Side::A, Side::B];
    let whole = bench(&labels);
    dpo::run(&whole.backend, &params(), &whole.io(&["model", "pairs"])).expect("runs");
    let cut = bench(&labels);
    for steps in [0, 5, 8, u64::MAX] {
        cut.backend.faults.power.set(steps);
        let result = dpo::run(&cut.backend, &params(), &cut.io(&["model", "pairs"]));
        assert_eq!(result.is_ok(), steps == u64::MAX);
    }
    assert_eq!(cut.steps(), whole.steps());
    assert_eq!(cut.chain(), whole.chain());
    assert_eq!(cut.logits(), whole.logits());
}

#[test]
fn pairs_without_room_for_an_answer_are_left_out() {
    let bench = bench(&[Side::A]);
    let params = dpo::Params { max_length: 3, ..params() };
    let error = dpo::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect_err("nothing is left");
    assert!(error.message.ends_with("pairs` has no pair to learn from"), "{error}");
}

#[test]
fn what_no_preference_loss_can_use_is_told_at_the_field() {
    let wrong = dpo::Params { beta: 0.0, label_smoothing: 0.5, per_device_train_batch_size: 0, ..params() };
    let fields: Vec<String> = dpo::Dpo::check(&wrong).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["per_device_train_batch_size", "beta", "label_smoothing"]);
    assert_eq!(dpo::Dpo::check(&dpo::Params::default()), []);
}

#[test]
fn a_reward_model_puts_the_chosen_answer_above_the_other_by_its_margin() {
    let params = reward::Params {
        template: Template::Miniature,
        max_steps: 400,
        per_device_train_batch_size: 2,
        learning_rate: 0.1,
        ..reward::Params::default()
    };
    let gaps = [0.0, 3.0].map(|margin| {
        let bench = bench(&[Side::B, Side::B]);
        let rows: Vec<Pair> = jsonl::read(&bench.path("pairs")).expect("pairs");
        let with_margin = |row: &Pair| {
            let mut row = serde_json::to_value(row).expect("a row");
            row["margin"] = serde_json::json!(margin);
            row
        };
        jsonl::write(&bench.path("pairs"), rows.iter().map(with_margin)).expect("writes");
        reward::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
        let (logits, last) = (bench.logits(), &bench.steps()[399].metrics);
        assert!(last["loss"] < 0.1 && !last.contains_key("entropy"), "{last:?}");
        logits[4] - logits[3]
    });
    assert!(gaps[0] > 2.0 && gaps[1] > gaps[0] + 2.0, "{gaps:?}");
}

#[test]
fn a_benchmark_of_rewards_counts_the_pairs_whose_better_answer_is_above() {
    let bench = bench(&[Side::B, Side::A, Side::B]);
    bench.model("model", &[0.0, 0.0, 0.0, 1.0, 3.0, 0.0]);
    let params = bench_reward::Params { template: Template::Miniature, ..bench_reward::Params::default() };
    bench_reward::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    let metrics: serde_json::Value = jsonl::read_json(&bench.path("out-metrics")).expect("metrics");
    assert!((metrics["l_acc"].as_f64().expect("a number") - 2.0 / 3.0).abs() < 1e-9, "{metrics}");
    let items: Vec<crate::stats::items::ItemRow> = jsonl::read(&bench.path("out-items")).expect("items");
    let told: Vec<_> = items.iter().map(|item| (item.id.as_str(), item.values["label_correct"])).collect();
    assert_eq!(told, [("row-0", Some(1.0)), ("row-1", Some(0.0)), ("row-2", Some(1.0))]);
    let scores: Vec<bench_reward::Scored> = jsonl::read(&bench.path("out-scores")).expect("scores");
    assert_eq!((scores[1].chosen, scores[1].rejected), (1.0, 3.0));
    // A tie is no decision for the better one.
    bench.model("model", &[0.0; 6]);
    bench_reward::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    let metrics: serde_json::Value = jsonl::read_json(&bench.path("out-metrics")).expect("metrics");
    assert_eq!(metrics["l_acc"], 0.0);
}
