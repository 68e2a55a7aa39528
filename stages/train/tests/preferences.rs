//! Learning from pairs over the table of words.

use super::pair;
use super::table::Bench;
use crate::jsonl;
use crate::judging::template::Template;
use crate::rows::{Pair, Side};
use crate::train::dpo;
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
