//! Losses, gradients and whole training steps against TRL's own, recorded by make_training.py. Relative error at most
//! 1e-5 in f32.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::maths::grpo::GrpoLoss;
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Rollout, Schedule, Sequence, Training};
use plumb_stages::rows::Demonstration;
use plumb_stages::train::tokens;
use plumb_torch::batch::targets;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::learner::Learner;
use plumb_torch::losses::grpo::{Grpo, Share};
use plumb_torch::pass::Pass;
use plumb_torch::step::{Keep, Step};
use plumb_torch::weights;
use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

// Of float32 after a handful of steps; 1.3e-5 was seen between processors with and without AVX-512.
const APART: f64 = 5e-5;

#[derive(Deserialize)]
struct Reference {
    prompts: Vec<Vec<u32>>,
    completions: Vec<Vec<u32>>,
    advantages: Vec<f64>,
    masked: usize,
    old: Vec<Vec<f32>>,
    r#ref: Vec<Vec<f32>>,
    grpo: Vec<Case>,
    rows: Vec<Value>,
    sft: Vec<Run>,
}

/// Norm and projection on a wave, by parameter.
type Told = BTreeMap<String, [f64; 2]>;

#[derive(Deserialize)]
struct Case {
    name: String,
    on_policy: bool,
    options: BTreeMap<String, Value>,
    loss: f64,
    metrics: BTreeMap<String, f64>,
    gradients: Told,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    options: BTreeMap<String, Value>,
    steps: Vec<BTreeMap<String, f64>>,
    weights: Told,
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/training.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn open() -> LanguageModel {
    LanguageModel::open(&folder(), Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }).unwrap()
}

fn near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= APART * (0.1 + expected.abs()), "{what}: {found} is not {expected}");
}

fn near_all(what: &str, found: &Told, expected: &Told) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, [norm, wave]) in found {
        let [expected_norm, expected_wave] = expected[name];
        let most = APART * expected_norm.max(1e-3);
        assert!((norm - expected_norm).abs() <= most, "{what}, norm of {name}: {norm} is not {expected_norm}");
        // A projection is as precise as the whole is long.
        let most = most * 4.0;
        assert!((wave - expected_wave).abs() <= most, "{what}, wave of {name}: {wave} is not {expected_wave}");
    }
}

fn told(tensors: impl Iterator<Item = (String, Tensor)>) -> Told {
    let of = |(name, tensor): (String, Tensor)| {
        let flat = tensor.to_kind(Kind::Double).reshape([-1]);
        let wave = Tensor::arange(flat.numel() as i64, (Kind::Double, Device::Cpu)).cos();
        (name, [flat.norm().double_value(&[]), flat.dot(&wave).double_value(&[])])
    };
    tensors.map(of).collect()
}

fn rollouts(reference: &Reference, on_policy: bool) -> Vec<Rollout> {
    let pairs = reference.prompts.iter().flat_map(|prompt| reference.completions.iter().map(move |one| (prompt, one)));
    let rollout = |(row, (prompt, completion)): (usize, (&Vec<u32>, &Vec<u32>))| Rollout {
        sequence: Sequence { prompt: prompt.clone(), completion: completion.clone() },
        advantage: reference.advantages[row % reference.advantages.len()],
        old_logprobs: if on_policy { Vec::new() } else { reference.old[row][..completion.len()].to_vec() },
        ref_logprobs: reference.r#ref[row][..completion.len()].to_vec(),
        counted: row != reference.masked,
    };
    pairs.enumerate().map(rollout).collect()
}

fn settings(options: &BTreeMap<String, Value>) -> GrpoLoss {
    let number = |name: &str| options.get(name).and_then(Value::as_f64);
    let plain = GrpoLoss::default();
    let epsilon = number("epsilon").unwrap_or(plain.epsilon);
    GrpoLoss {
        epsilon,
        epsilon_high: number("epsilon_high").unwrap_or(epsilon),
        delta: number("delta"),
        beta: number("beta").unwrap_or_default(),
        use_bias_correction_kl: options.get("use_bias_correction_kl") == Some(&Value::Bool(true)),
        loss_type: serde_json::from_value(options["loss_type"].clone()).unwrap(),
        importance_sampling_level: options
            .get("importance_sampling_level")
            .map_or(plain.importance_sampling_level, |level| serde_json::from_value(level.clone()).unwrap()),
        sapo_temperature_pos: number("sapo_temperature_pos").unwrap_or(plain.sapo_temperature_pos),
        sapo_temperature_neg: number("sapo_temperature_neg").unwrap_or(plain.sapo_temperature_neg),
        temperature: number("temperature").unwrap(),
        max_completion_length: number("max_completion_length").unwrap() as usize,
    }
}

// Through the same pass, head and objective as a training step: the loss, and the gradients under HF's names.
fn gradients(rollouts: &[Rollout], loss: &GrpoLoss, keep: Keep) -> (f64, Told) {
    let model = open();
    let transformer = model.transformer();
    let places = Learner::places(transformer, None);
    let leaf = |place: &usize| transformer.weights[*place].copy().set_requires_grad(true);
    let mut step = Step::new(transformer, &places, places.iter().map(leaf).collect(), keep);
    let sequences: Vec<Sequence> = rollouts.iter().map(|rollout| rollout.sequence.clone()).collect();
    let grpo = Grpo::new(rollouts, loss, &Share::new(rollouts, 1), Device::Cpu);
    let pass = Pass::new(&step.model, &sequences, 0, None);
    step.add(pass, &targets(&sequences, Device::Cpu), &grpo);
    let parts = weights::parts(&transformer.config);
    let named = places.iter().zip(step.gradients).flat_map(|(place, gradient)| {
        let names = parts[*place].sources(&transformer.config).into_iter().map(|(name, _)| name);
        names.zip(parts[*place].split(&transformer.config, &gradient.unwrap())).collect::<Vec<_>>()
    });
    (step.sums.unwrap().double_value(&[0]), told(named))
}

#[test]
fn every_loss_and_its_gradients_are_trls() {
    let reference = reference();
    for case in &reference.grpo {
        for keep in [Keep::Activations, Keep::Inputs] {
            let (loss, found) = gradients(&rollouts(&reference, case.on_policy), &settings(&case.options), keep);
            near(&case.name, loss, case.loss);
            near_all(&case.name, &found, &case.gradients);
        }
    }
}

#[test]
fn what_a_step_reports_is_what_trl_reports() {
    let reference = reference();
    for case in &reference.grpo {
        let mut model = open();
        let loss = settings(&case.options);
        model.prepare_training(&optimizer(&BTreeMap::new()).into()).unwrap();
        let report = model.grpo_step(&rollouts(&reference, case.on_policy), &loss, 0).unwrap();
        let norm = case.gradients.values().map(|[norm, _]| norm * norm).sum::<f64>().sqrt();
        near(&format!("{}: gradient norm", case.name), report.grad_norm, norm);
        let found = [
            ("entropy", report.entropy),
            ("kl", report.kl),
            ("clip_ratio/low_mean", report.clip_low),
            ("clip_ratio/high_mean", report.clip_high),
            ("clip_ratio/region_mean", report.clip_low + report.clip_high),
            ("cispo_clip_ratio", report.clip_high),
            ("clip_ratio/low_min", report.more["clip_ratio/low_min"]),
            ("clip_ratio/high_max", report.more["clip_ratio/high_max"]),
        ];
        for (name, found) in found {
            let Some(expected) = case.metrics.get(name) else { continue };
            near(&format!("{}: {name}", case.name), found, *expected);
        }
    }
}

fn optimizer(options: &BTreeMap<String, Value>) -> Optimizer {
    let number = |name: &str| options.get(name).and_then(Value::as_f64);
    let schedule = options.get("lr_scheduler_type");
    let least = options.get("lr_scheduler_kwargs").and_then(|more| more["min_lr_rate"].as_f64());
    Optimizer {
        learning_rate: number("learning_rate").unwrap_or_default(),
        adam_beta1: 0.9,
        adam_beta2: number("adam_beta2").unwrap_or(0.999),
        adam_epsilon: 1e-8,
        weight_decay: number("weight_decay").unwrap_or_default(),
        max_grad_norm: number("max_grad_norm").unwrap_or_default(),
        lr_scheduler_type: schedule
            .map_or(Schedule::Linear, |schedule| serde_json::from_value(schedule.clone()).unwrap()),
        warmup_steps: number("warmup_steps").unwrap_or_default() as u64,
        warmup_ratio: 0.0,
        min_lr_ratio: least.unwrap_or_default(),
        max_steps: number("max_steps").unwrap_or(1.0) as u64,
    }
}

#[test]
fn six_steps_of_supervised_learning_end_where_trls_trainer_ends() {
    let reference = reference();
    for run in &reference.sft {
        let mut model = open();
        model.prepare_training(&Training { ..optimizer(&run.options).into() }).unwrap();
        let row = |row: &Value| {
            let text = |name: &str| row[name].as_str().unwrap().to_string();
            let row = Demonstration { id: String::new(), prompt: text("prompt"), completion: text("completion") };
            tokens::sequence(&model, &row, 1024).unwrap().unwrap()
        };
        let sequences: Vec<Sequence> = reference.rows.iter().map(row).collect();
        let rows = run.options["per_device_train_batch_size"].as_u64().unwrap() as usize;
        for (number, expected) in run.steps.iter().enumerate() {
            let report = model.sft_step(&sequences, Cut::Rows(rows)).unwrap();
            let what = |name: &str| format!("{}, step {}: {name}", run.name, number + 1);
            near(&what("loss"), report.loss, expected["loss"]);
            near(&what("grad_norm"), report.grad_norm, expected["grad_norm"]);
            near(&what("learning_rate"), report.learning_rate, expected["learning_rate"]);
            // TRL's means over accumulated passes weigh passes, ours tokens.
            if rows == sequences.len() {
                near(&what("entropy"), report.entropy, expected["entropy"]);
                near(&what("mean_token_accuracy"), report.mean_token_accuracy, expected["mean_token_accuracy"]);
            }
        }
        let saved = tempfile::tempdir().unwrap();
        model.save(saved.path()).unwrap();
        let found = told(Tensor::read_safetensors(saved.path().join("model.safetensors")).unwrap().into_iter());
        near_all(&run.name, &found, &run.weights);
    }
}
