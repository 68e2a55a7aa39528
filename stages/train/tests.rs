//! The loops over a model that is one distribution over words, learnt by plain gradient steps: what ran, what was
//! written, and that a run continues where it was cut.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::{Declare as _, Problem, StageError};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::log::StepRow;
use super::{generate, genrm, judge, rlhf, sft};
use crate::jsonl;
use crate::judging::template::Template;
use crate::maths::grpo::GrpoLoss;
use crate::maths::reward::RewardKind;
use crate::model::{Backend, Completion, Dtype, Model, Optimizer, Request, Rollout, Sampling, Sequence, StepReport};
use crate::rows::{Demonstration, Judgment, Message, Order, Origin, Pair, Response, Side, Task};

const WORDS: [&str; 6] = ["<eos>", "[A]", "[B]", "red", "blue", "<unk>"];

// Draws one word, then the end token.
struct Words {
    tokenizer: Tokenizer,
    logits: Vec<f64>,
    rate: f64,
    steps_left: Rc<Cell<u64>>,
}

struct Table {
    steps_left: Rc<Cell<u64>>,
}

impl Backend for Table {
    fn load(&self, folder: &Path, _dtype: Dtype, _manner: &Manner) -> Result<Box<dyn Model>, StageError> {
        let ids: BTreeMap<&str, usize> = WORDS.into_iter().zip(0..).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "added_tokens": [{"id": 0, "content": "<eos>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
        });
        let tokenizer = tokenizer.to_string().parse().expect("a tokenizer");
        let logits = jsonl::read_json(&folder.join("logits.json"))?;
        Ok(Box::new(Words { tokenizer, logits, rate: 0.0, steps_left: Rc::clone(&self.steps_left) }))
    }
}

impl Words {
    fn logprob(&self, word: usize) -> f64 {
        self.logits[word] - self.logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
    }

    // Adds the gradient of `weight * log p(word)`.
    fn learn(&mut self, word: usize, weight: f64) {
        let shares: Vec<f64> = (0..WORDS.len()).map(|other| self.logprob(other).exp()).collect();
        for (other, share) in shares.iter().enumerate() {
            self.logits[other] += self.rate * weight * (f64::from(u8::from(other == word)) - share);
        }
    }

    // The power fails after so many steps.
    fn spend(&self) -> Result<(), StageError> {
        let left = self.steps_left.get();
        self.steps_left.set(left.saturating_sub(1));
        if left == 0 { Err(StageError::new("killed")) } else { Ok(()) }
    }
}

impl Model for Words {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    fn eos_token_ids(&self) -> &[u32] {
        &[0]
    }
    fn chat_template(&self) -> Option<&str> {
        None
    }
    fn generate(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        _progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Vec<Completion>>, StageError> {
        let draw = |request: &Request, sample: usize| {
            let best = (1..WORDS.len()).max_by(|one, other| self.logits[*one].total_cmp(&self.logits[*other]));
            // Samples go round the words, so that every group has spread.
            let word = if sampling.temperature > 0.0 { 1 + (request.stream as usize + sample) % 4 } else { best? };
            let logprobs = vec![self.logprob(word) as f32, 0.0];
            Some(Completion { tokens: vec![word as u32, 0], logprobs, finished: true })
        };
        Ok(requests.iter().map(|request| (0..request.samples).filter_map(|one| draw(request, one)).collect()).collect())
    }
    fn log_probabilities(&mut self, sequences: &[Sequence], _: f64) -> Result<Vec<Vec<f32>>, StageError> {
        let score = |one: &Sequence| one.completion.iter().map(|word| self.logprob(*word as usize) as f32).collect();
        Ok(sequences.iter().map(score).collect())
    }
    fn prepare_training(&mut self, optimizer: &Optimizer, _: Option<usize>) -> Result<(), StageError> {
        self.rate = optimizer.learning_rate;
        Ok(())
    }
    fn sft_step(&mut self, sequences: &[Sequence], _: usize) -> Result<StepReport, StageError> {
        self.spend()?;
        let loss = -sequences.iter().map(|one| self.logprob(one.completion[0] as usize)).sum::<f64>();
        sequences.iter().for_each(|one| self.learn(one.completion[0] as usize, 1.0));
        Ok(StepReport { loss, num_tokens: sequences.len() as u64, ..StepReport::default() })
    }
    fn grpo_step(&mut self, rollouts: &[Rollout], _: &GrpoLoss, _: usize) -> Result<StepReport, StageError> {
        self.spend()?;
        for rollout in rollouts.iter().filter(|rollout| rollout.counted) {
            self.learn(rollout.sequence.completion[0] as usize, rollout.advantage);
        }
        Ok(StepReport::default())
    }
    fn save(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).expect("a folder");
        jsonl::write_json(&folder.join("logits.json"), &self.logits)
    }
    fn save_checkpoint(&self, folder: &Path) -> Result<(), StageError> {
        self.save(folder)
    }
    fn resume(&mut self, folder: &Path) -> Result<(), StageError> {
        self.logits = jsonl::read_json(&folder.join("logits.json"))?;
        Ok(())
    }
    fn weights_digest(&self) -> String {
        format!("{:?}", self.logits)
    }
}

// A step's folder, its inputs written as files.
struct Bench {
    folder: tempfile::TempDir,
    backend: Table,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().expect("a folder"),
            backend: Table { steps_left: Rc::new(Cell::new(u64::MAX)) },
        };
        bench.model("model", &[0.0; 6]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self, name: &str, logits: &[f64; 6]) {
        std::fs::create_dir_all(self.path(name)).expect("a folder");
        jsonl::write_json(&self.path(name).join("logits.json"), &logits.to_vec()).expect("writes");
    }

    fn io(&self, inputs: &[&str]) -> Io {
        let inputs = inputs.iter().map(|name| ((*name).to_string(), InputPlace::One(self.path(name)))).collect();
        let names = ["model", "metrics", "steps", "completions", "trainer_state", "judgments", "responses"];
        let outputs = names.map(|name| (name.to_string(), self.path(&format!("out-{name}")))).into();
        Io::new(inputs, outputs, self.path("state"), Manner::default(), None).expect("an io")
    }

    fn steps(&self) -> Vec<StepRow> {
        jsonl::read(&self.path("out-steps")).expect("steps")
    }

    fn logits(&self) -> Vec<f64> {
        jsonl::read_json(&self.path("out-model").join("logits.json")).expect("logits")
    }
}

fn pair(id: &str, label: Side, gold: Option<&str>) -> Pair {
    Pair {
        id: id.into(),
        conversations: vec![Message { role: "user".into(), content: "red".into() }],
        response_a: "red".into(),
        response_b: "blue".into(),
        gt_label: label,
        gt_judgment: gold.map(str::to_string),
        source: Origin::default(),
        prompt_id: id.into(),
        swapped: false,
        cue: None,
    }
}

fn task(id: &str) -> Task {
    Task {
        id: id.into(),
        domain: "colours".into(),
        conversations: vec![Message { role: "user".into(), content: "red".into() }],
        reference: Some("blue".into()),
        checker: None,
        target: Value::Null,
    }
}

fn genrm_params() -> genrm::Params {
    genrm::Params {
        reward: RewardKind::Label,
        template: Template::Miniature,
        max_steps: 20,
        prompts_per_step: 2,
        num_generations: 4,
        learning_rate: 0.1,
        digest_steps: 5,
        ..genrm::Params::default()
    }
}

#[test]
fn a_judge_that_is_rewarded_for_labels_learns_them() {
    let bench = Bench::new();
    jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None), pair("two", Side::B, None)]).expect("writes");
    genrm::run(&bench.backend, &genrm_params(), &bench.io(&["model", "pairs"])).expect("runs");
    let logits = bench.logits();
    assert!(logits[2] > 1.0 && logits[1] < 0.0, "{logits:?}");
    let steps = bench.steps();
    assert_eq!(steps.len(), 20);
    assert_eq!(steps[0].metrics["reward"], 0.25);
    assert_eq!(steps[0].metrics["rewards/label/mean"], 0.25);
    assert_eq!(steps[0].metrics["verdict_parsed"], 0.5);
    assert_eq!(steps[0].metrics["frac_reward_zero_std"], 0.0);
    assert_eq!(steps[19].metrics["num_tokens"], 20.0 * 8.0 * 2.0);
    let digests: Vec<u64> = steps.iter().filter(|row| row.weights.is_some()).map(|row| row.step).collect();
    assert_eq!(digests, [5, 10, 15, 20]);
    let state: Value = jsonl::read_json(&bench.path("out-trainer_state")).expect("a state");
    assert_eq!(state["log_history"][19]["step"], 20);
}

#[test]
fn swapping_moves_labels_with_the_answers() {
    let bench = Bench::new();
    let pairs: Vec<Pair> = (0..40).map(|number| pair(&format!("row-{number}"), Side::A, None)).collect();
    jsonl::write(&bench.path("pairs"), pairs).expect("writes");
    let params = genrm::Params { swap: genrm::Swap::Random, prompts_per_step: 40, max_steps: 1, ..genrm_params() };
    genrm::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    // Every group holds one [A] and one [B]: each label is met once, whichever side it moved to.
    assert_eq!(bench.steps()[0].metrics["reward"], 0.25);
    let logits = bench.logits();
    assert!((logits[1] - logits[2]).abs() < logits[1], "both sides are rewarded: {logits:?}");
}

#[test]
fn a_reward_for_rationales_needs_golds() {
    let bench = Bench::new();
    jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None)]).expect("writes");
    let params = genrm::Params { reward: RewardKind::LabelAndRationale, ..genrm_params() };
    let error = genrm::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect_err("has no gold");
    assert!(error.message.ends_with("pair `one` has no `gt_judgment`"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("gold.augment")));
}

#[test]
fn a_killed_run_continues_to_the_same_bytes() {
    let pairs = [pair("one", Side::B, None), pair("two", Side::A, None), pair("three", Side::B, None)];
    let params = genrm_params();
    let whole = Bench::new();
    jsonl::write(&whole.path("pairs"), &pairs).expect("writes");
    genrm::run(&whole.backend, &params, &whole.io(&["model", "pairs"])).expect("runs");
    let cut = Bench::new();
    jsonl::write(&cut.path("pairs"), &pairs).expect("writes");
    for steps in [0, 5, 8, u64::MAX] {
        cut.backend.steps_left.set(steps);
        let result = genrm::run(&cut.backend, &params, &cut.io(&["model", "pairs"]));
        assert_eq!(result.is_ok(), steps == u64::MAX);
    }
    assert_eq!(cut.steps(), whole.steps());
    assert_eq!(cut.logits(), whole.logits());
}

#[test]
fn an_actor_learns_what_its_judge_prefers() {
    for (judge, expected) in [([0.0, 5.0, 0.0, 0.0, 0.0, 0.0], 0.0), ([0.0, 0.0, 0.0, 5.0, 0.0, 0.0], 0.0)] {
        let bench = Bench::new();
        bench.model("policy", &[0.0; 6]);
        bench.model("genrm", &judge);
        jsonl::write(&bench.path("tasks"), (0..8).map(|number| task(&format!("task-{number}")))).expect("writes");
        let params = rlhf::Params {
            template: Template::Miniature,
            both_orders: true,
            max_steps: 2,
            prompts_per_step: 8,
            num_generations: 4,
            ..rlhf::Params::default()
        };
        rlhf::run(&bench.backend, &params, &bench.io(&["policy", "genrm", "tasks"])).expect("runs");
        let metrics = &bench.steps()[1].metrics;
        // A judge that always says [A] contradicts itself in the other order; one that says neither cannot be read.
        assert_eq!(metrics["reward"], expected);
        assert_eq!(metrics["order_disagreement"], f64::from(u8::from(judge[1] > 0.0)));
        assert_eq!(metrics["verdict_parsed"], f64::from(u8::from(judge[1] > 0.0)));
    }
}

#[test]
fn one_order_rewards_by_the_side_of_the_rollout() {
    let bench = Bench::new();
    bench.model("policy", &[0.0; 6]);
    bench.model("genrm", &[0.0, 5.0, 0.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("tasks"), (0..400).map(|number| task(&format!("task-{number}")))).expect("writes");
    let params = rlhf::Params {
        template: Template::Miniature,
        max_steps: 1,
        prompts_per_step: 400,
        num_generations: 2,
        ..rlhf::Params::default()
    };
    rlhf::run(&bench.backend, &params, &bench.io(&["policy", "genrm", "tasks"])).expect("runs");
    let metrics = &bench.steps()[0].metrics;
    assert!((metrics["win_rate"] - 0.5).abs() < 0.1, "a judge that always says A wins for one side: {metrics:?}");
    assert_eq!(metrics["frac_reward_zero_std"], 1.0, "a group stands on one side");
    assert!(!metrics.contains_key("accuracy"), "nobody knows the right answer of these tasks: {metrics:?}");
}

fn demonstration(id: &str, completion: &str) -> Demonstration {
    Demonstration { id: id.into(), prompt: "red".into(), completion: completion.into() }
}

#[test]
fn judgments_take_their_share_of_every_batch() {
    let bench = Bench::new();
    jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red")]).expect("writes");
    jsonl::write(&bench.path("judgments"), [demonstration("j", "[A]")]).expect("writes");
    let params = sft::Params { max_steps: 500, judgment_share: 0.75, learning_rate: 0.02, ..sft::Params::default() };
    let io = bench.io(&["model", "demonstrations", "judgments"]);
    sft::run(&bench.backend, &params, &io).expect("runs");
    let logits = bench.logits();
    assert!((logits[1] - logits[3] - 3f64.ln()).abs() < 0.2, "three to one: {logits:?}");
}

#[test]
fn a_loss_that_is_not_finite_names_step_and_items() {
    let bench = Bench::new();
    bench.model("model", &[1e300, 0.0, 0.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("demonstrations"), [demonstration("bad-row", "red")]).expect("writes");
    let params = sft::Params { per_device_train_batch_size: 1, ..sft::Params::default() };
    let error = sft::run(&bench.backend, &params, &bench.io(&["model", "demonstrations"])).expect_err("is not finite");
    assert!(error.message.starts_with("step 1: loss ") && error.message.ends_with("items bad-row"), "{error}");
}

#[test]
fn judging_both_orders_writes_both_as_they_were_shown() {
    let bench = Bench::new();
    bench.model("model", &[0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("pairs"), [pair("one", Side::A, Some("red [A]"))]).expect("writes");
    let params = judge::Params { template: Template::Miniature, both_orders: true, ..judge::Params::default() };
    judge::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    let rows: Vec<Judgment> = jsonl::read(&bench.path("out-judgments")).expect("rows");
    let told: Vec<_> = rows.iter().map(|row| (row.order, row.pair.gt_label, row.pair.response_a.as_str())).collect();
    assert_eq!(told, [(Order::Original, Side::A, "red"), (Order::Swapped, Side::B, "blue")]);
    assert!(rows.iter().all(|row| row.finished && row.model_judgment.as_deref() == Some("[B]")));
}

#[test]
fn answers_are_greedy_first_and_then_sampled() {
    let bench = Bench::new();
    bench.model("model", &[0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    jsonl::write(&bench.path("tasks"), [task("one"), task("two")]).expect("writes");
    let params = generate::Params { template: Template::Miniature, samples: 2, ..generate::Params::default() };
    generate::run(&bench.backend, &params, &bench.io(&["model", "tasks"])).expect("runs");
    let rows: Vec<Response> = jsonl::read(&bench.path("out-responses")).expect("rows");
    let told: Vec<_> = rows.iter().map(|row| (row.task.id.as_str(), row.decoding.as_str(), row.sample)).collect();
    let expected = [("one", "greedy", 0), ("one", "sampled", 0), ("one", "sampled", 1), ("two", "greedy", 0)];
    assert_eq!(told[..4], expected);
    assert_eq!((rows[0].text.as_str(), rows[0].tokens), ("red", 2));
}

#[test]
fn no_steps_hand_the_model_on_whatever_the_kind() {
    let started = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let handed_on = |inputs: &[&str], run: &dyn Fn(&Table, &Io) -> Result<(), StageError>| {
        let bench = Bench::new();
        ["model", "policy", "genrm"].iter().for_each(|name| bench.model(name, &started));
        jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red")]).expect("writes");
        jsonl::write(&bench.path("pairs"), [pair("one", Side::A, None)]).expect("writes");
        jsonl::write(&bench.path("tasks"), [task("one")]).expect("writes");
        run(&bench.backend, &bench.io(inputs)).expect("runs");
        assert_eq!(bench.logits(), started);
        assert_eq!(bench.steps(), []);
        assert_eq!(jsonl::read_json::<Value>(&bench.path("out-metrics")).expect("metrics"), json!({}));
    };
    let params = sft::Params { max_steps: 0, ..sft::Params::default() };
    assert_eq!(sft::Sft::check(&params), []);
    handed_on(&["model", "demonstrations"], &|backend, io| sft::run(backend, &params, io));
    let params = genrm::Params { max_steps: 0, ..genrm_params() };
    assert_eq!(genrm::GenrmTrain::check(&params), []);
    handed_on(&["model", "pairs"], &|backend, io| genrm::run(backend, &params, io));
    let params = rlhf::Params { max_steps: 0, template: Template::Miniature, ..rlhf::Params::default() };
    assert_eq!(rlhf::ActorRlhf::check(&params), []);
    handed_on(&["policy", "genrm", "tasks"], &|backend, io| rlhf::run(backend, &params, io));
}

#[test]
fn what_no_loop_can_use_is_told_at_the_field() {
    let fields = |problems: Vec<Problem>| -> Vec<String> { problems.iter().map(|one| one.field.clone()).collect() };
    let params = genrm::Params { num_generations: 0, temperature: 0.0, min_lr_ratio: 2.0, ..genrm_params() };
    assert_eq!(fields(genrm::GenrmTrain::check(&params)), ["num_generations", "min_lr_ratio", "temperature"]);
    let params = rlhf::Params { num_iterations: 0, ..rlhf::Params::default() };
    assert_eq!(fields(rlhf::ActorRlhf::check(&params)), ["num_iterations"]);
    let params = sft::Params { max_length: 0, min_lr_ratio: -1.0, ..sft::Params::default() };
    assert_eq!(fields(sft::Sft::check(&params)), ["max_length", "min_lr_ratio"]);
}
