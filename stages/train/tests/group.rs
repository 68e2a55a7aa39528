//! The loop of reinforcement learning over a task whose rewards are given: which groups are learnt from, when a run
//! stops, and that a reference follows its policy through a kill.

use plumb_engine::stage::StageError;

use super::super::genrm;
use super::super::group::{self, Graded, Task};
use super::super::log::{self, CompletionRow};
use super::genrm_params;
use super::table::Bench;
use crate::jsonl;
use crate::model::Backend as _;

/// Prompts of one token; `worth` of (prompt, sample).
struct Given<'a> {
    ids: Vec<String>,
    worth: &'a dyn Fn(usize, usize) -> Option<f64>,
}

impl<'a> Given<'a> {
    fn new(prompts: usize, worth: &'a dyn Fn(usize, usize) -> Option<f64>) -> Self {
        Self { ids: (0..prompts).map(|number| format!("prompt-{number}")).collect(), worth }
    }
}

impl Task for Given<'_> {
    fn prompts(&self) -> usize {
        self.ids.len()
    }
    fn id(&self, item: usize) -> &str {
        &self.ids[item]
    }
    fn tokens(&self, _item: usize) -> &[u32] {
        &[3]
    }
    fn text(&self, _item: usize) -> &str {
        "red"
    }
    fn grade(&mut self, _step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError> {
        let group =
            |(item, texts): (&usize, &Vec<String>)| (0..texts.len()).map(|one| (self.worth)(*item, one)).collect();
        Ok(Graded { rewards: items.iter().zip(texts).map(group).collect(), metrics: log::Values::new() })
    }
}

fn run(bench: &Bench, params: &genrm::Params, task: &mut Given) -> Result<(), StageError> {
    let io = bench.io(&["model"]);
    let folder = bench.path("model");
    let policy = bench.backend.load(&folder, params.dtype, io.manner()).expect("opens");
    group::run(&bench.backend, (&folder, policy), task, params, &io)
}

#[test]
fn a_step_without_a_reward_stops_and_names_its_items() {
    for worth in [None, Some(f64::NAN)] {
        let bench = Bench::new();
        let error = run(&bench, &genrm_params(), &mut Given::new(2, &|_, _| worth)).expect_err("nothing to learn from");
        assert!(error.message.starts_with("step 1: none of 8 completions has a reward"), "{error}");
        assert!(error.message.contains("prompt-0") && error.message.contains("prompt-1"), "{error}");
        assert!(!bench.path("out-model").exists(), "nothing is written");
    }
}

#[test]
fn a_reward_that_is_no_number_takes_no_part() {
    let learnt = |odd: Option<f64>| {
        let bench = Bench::new();
        let worth = |_, sample| if sample == 3 { odd } else { Some(f64::from(u8::from(sample == 1))) };
        run(&bench, &genrm_params(), &mut Given::new(2, &worth)).expect("runs");
        assert_eq!(bench.steps()[0].metrics["frac_reward_masked"], 0.25);
        bench.logits()
    };
    assert_eq!(learnt(Some(f64::NAN)), learnt(None));
}

#[test]
fn flat_groups_are_left_out_and_other_prompts_drawn_in_their_place() {
    // Prompts 0 to 5 teach nothing; a step holds two groups.
    let worth = |item, sample| Some(f64::from(u8::from(item >= 6 && sample == 1)));
    let params = genrm::Params { dynamic_filtering: true, ..genrm_params() };
    let whole = Bench::new();
    run(&whole, &params, &mut Given::new(8, &worth)).expect("runs");
    let rows: Vec<CompletionRow> = jsonl::read(&whole.path("out-completions")).expect("rows");
    assert!(rows.iter().all(|row| ["prompt-6", "prompt-7"].contains(&row.id.as_str())), "{rows:?}");
    let steps = whole.steps();
    assert!(steps.iter().any(|step| step.metrics["dynamic_filtering/batches"] > 1.0));
    assert!(steps.iter().all(|step| step.metrics["frac_reward_zero_std"] < 1.0));
    let drawn: f64 = steps.iter().map(|step| step.metrics["dynamic_filtering/batches"] * 2.0).sum();
    assert_eq!(steps[19].metrics["epoch"], drawn / 8.0);
    let plain = Bench::new();
    run(&plain, &genrm_params(), &mut Given::new(8, &worth)).expect("runs");
    assert!(whole.logits() != plain.logits(), "without filtering most steps hold flat groups");
    // A run that was cut goes on at the prompt that was next.
    let cut = Bench::new();
    for steps in [7, u64::MAX] {
        cut.backend.faults.power.set(steps);
        assert_eq!(run(&cut, &params, &mut Given::new(8, &worth)).is_ok(), steps == u64::MAX);
    }
    assert_eq!((cut.steps(), cut.chain(), cut.logits()), (whole.steps(), whole.chain(), whole.logits()));
}

#[test]
fn a_step_in_which_no_group_differs_stops_after_so_many_batches() {
    let bench = Bench::new();
    let params = genrm::Params { dynamic_filtering: true, dynamic_filtering_batches: 3, ..genrm_params() };
    let error = run(&bench, &params, &mut Given::new(4, &|_, _| Some(1.0))).expect_err("nothing to learn from");
    assert_eq!(error.message, "step 1: in none of 6 groups (3 batches of prompts) do rewards differ");
}

#[test]
fn a_reference_follows_its_policy_through_a_kill() {
    let worth = |_, sample| Some(f64::from(u8::from(sample == 1)));
    let staying = genrm::Params { beta: 0.1, ..genrm_params() };
    let following =
        genrm::Params { sync_ref_model: true, ref_model_mixup_alpha: 0.5, ref_model_sync_steps: 3, ..staying.clone() };
    let losses = |bench: &Bench| bench.steps().iter().map(|step| step.metrics["loss"]).collect::<Vec<_>>();
    let [stays, follows] = [&staying, &following].map(|params| {
        let bench = Bench::new();
        run(&bench, params, &mut Given::new(4, &worth)).expect("runs");
        bench
    });
    // The loss of the table holds what the reference says: the same up to the first time it follows.
    assert_eq!(losses(&stays)[..3], losses(&follows)[..3]);
    assert!(losses(&stays)[3..].iter().zip(&losses(&follows)[3..]).all(|(one, other)| one != other));
    let cut = Bench::new();
    for steps in [8, 4, u64::MAX] {
        cut.backend.faults.power.set(steps);
        assert_eq!(run(&cut, &following, &mut Given::new(4, &worth)).is_ok(), steps == u64::MAX);
    }
    assert_eq!((cut.steps(), cut.chain()), (follows.steps(), follows.chain()));
    assert!(!cut.path("state/followed").exists());
}
