//! PPO over the table of words: what it learns, and that a run continues where it was cut.

use plumb_engine::stage::Declare as _;

use super::table::Bench;
use super::task;
use crate::jsonl;
use crate::judging::template::Template;
use crate::rows::Task;
use crate::train::log::CompletionRow;
use crate::train::ppo;

fn params() -> ppo::Params {
    ppo::Params {
        template: Template::Miniature,
        max_steps: 20,
        prompts_per_step: 4,
        num_ppo_epochs: 2,
        learning_rate: 0.05,
        digest_steps: 5,
        kl_coef: 0.0,
        ..ppo::Params::default()
    }
}

// The reward model likes `blue`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.model("policy", &[0.0; 6]);
    bench.model("reward", &[0.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
    let tasks: Vec<Task> = (0..8).map(|number| task(&format!("task-{number}"))).collect();
    jsonl::write(&bench.path("tasks"), tasks).expect("writes");
    bench
}

const INPUTS: [&str; 3] = ["policy", "reward", "tasks"];

#[test]
fn a_policy_learns_what_its_reward_model_likes() {
    let bench = bench();
    ppo::run(&bench.backend, &params(), &bench.io(&INPUTS)).expect("runs");
    let logits = bench.logits();
    assert!(logits[4] > 1.0 && logits[3] < logits[4] - 1.0, "{logits:?}");
    let steps = bench.steps();
    // The table's samples go round four words, of which one is liked.
    assert_eq!(steps[0].metrics["objective/scores"], 0.5);
    assert_eq!(steps[0].metrics["objective/kl"], 0.0);
    assert_eq!((steps[1].metrics["episode"], steps[1].metrics["epoch"]), (8.0, 1.0));
    assert!(steps[19].metrics["objective/kl"].abs() > 0.1, "the policy left its reference: {:?}", steps[19]);
    let rows: Vec<CompletionRow> = jsonl::read(&bench.path("out-completions")).expect("rows");
    assert!(rows.iter().filter(|row| row.reward == Some(2.0)).all(|row| row.completion == "blue"));
}

#[test]
fn what_divergence_costs_is_taken_off_the_score() {
    let bench = bench();
    let params = ppo::Params { kl_coef: 0.5, ..params() };
    ppo::run(&bench.backend, &params, &bench.io(&INPUTS)).expect("runs");
    for metrics in bench.steps().iter().map(|row| &row.metrics) {
        let cost = metrics["objective/rlhf_reward"] - metrics["objective/scores"];
        assert!((cost - metrics["objective/non_score_reward"]).abs() < 1e-9);
        assert!((cost + 0.5 * metrics["objective/kl"]).abs() < 1e-6, "{metrics:?}");
    }
}

#[test]
fn a_killed_ppo_run_continues_to_the_same_bytes() {
    let whole = bench();
    ppo::run(&whole.backend, &params(), &whole.io(&INPUTS)).expect("runs");
    let cut = bench();
    for steps in [0, 9, 13, u64::MAX] {
        cut.backend.faults.power.set(steps);
        let result = ppo::run(&cut.backend, &params(), &cut.io(&INPUTS));
        assert_eq!(result.is_ok(), steps == u64::MAX);
    }
    assert_eq!(cut.steps(), whole.steps());
    assert_eq!(cut.chain(), whole.chain());
    assert_eq!(cut.logits(), whole.logits());
}

#[test]
fn what_ppo_cannot_use_is_told_at_the_field() {
    let wrong = ppo::Params { num_ppo_epochs: 0, gamma: 1.5, temperature: 0.0, ..params() };
    let fields: Vec<String> = ppo::ActorPpo::check(&wrong).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["num_ppo_epochs", "gamma", "temperature"]);
}
