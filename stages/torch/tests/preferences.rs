//! Losses, gradients and whole steps on preference pairs against TRL's own, recorded by make_preferences.py. Relative
//! error at most 1e-5 in f32.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::maths::preference::DpoLoss;
use plumb_stages::model::{Dtype, Model, Optimizer, Preference, Schedule, Sequence};
use plumb_stages::rows::Demonstration;
use plumb_stages::train::tokens;
use plumb_torch::batch::targets;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::learner::Learner;
use plumb_torch::losses::dpo::Dpo;
use plumb_torch::pass::Pass;
use plumb_torch::step::{Keep, Step};
use plumb_torch::weights;
use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const APART: f64 = 1e-5;

#[derive(Deserialize)]
struct Reference {
    pairs: Vec<BTreeMap<String, String>>,
    reference: Vec<[f64; 2]>,
    dpo: Vec<Case>,
    dpo_steps: Run,
}

/// Norm and projection on a wave, by parameter.
type Told = BTreeMap<String, [f64; 2]>;

#[derive(Deserialize)]
struct Case {
    name: String,
    options: BTreeMap<String, Value>,
    loss: f64,
    metrics: BTreeMap<String, f64>,
    gradients: Told,
}

#[derive(Deserialize)]
struct Run {
    options: BTreeMap<String, Value>,
    steps: Vec<BTreeMap<String, f64>>,
    weights: Told,
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preferences.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn llama() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn open(folder: &Path) -> LanguageModel {
    LanguageModel::open(folder, Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }).unwrap()
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

fn sequence(model: &LanguageModel, pair: &BTreeMap<String, String>, answer: &str) -> Sequence {
    let row = Demonstration { id: String::new(), prompt: pair["prompt"].clone(), completion: pair[answer].clone() };
    tokens::sequence(model, &row, 1024).unwrap().unwrap()
}

fn pairs(model: &LanguageModel, reference: &Reference) -> Vec<Preference> {
    let pair = |(pair, reference): (&BTreeMap<String, String>, &[f64; 2])| Preference {
        chosen: sequence(model, pair, "chosen"),
        rejected: sequence(model, pair, "rejected"),
        reference: *reference,
    };
    reference.pairs.iter().zip(&reference.reference).map(pair).collect()
}

fn loss(options: &BTreeMap<String, Value>) -> DpoLoss {
    let number = |name: &str| options.get(name).and_then(Value::as_f64);
    DpoLoss {
        loss_type: options
            .get("loss_type")
            .map(|kind| serde_json::from_value(kind.clone()).unwrap())
            .unwrap_or_default(),
        beta: number("beta").unwrap_or(0.1),
        label_smoothing: number("label_smoothing").unwrap_or_default(),
    }
}

fn optimizer(options: &BTreeMap<String, Value>) -> Optimizer {
    let number = |name: &str| options.get(name).and_then(Value::as_f64).unwrap_or_default();
    Optimizer {
        learning_rate: number("learning_rate"),
        adam_beta1: 0.9,
        adam_beta2: number("adam_beta2"),
        adam_epsilon: 1e-8,
        weight_decay: number("weight_decay"),
        max_grad_norm: number("max_grad_norm"),
        lr_scheduler_type: Schedule::Linear,
        warmup_steps: number("warmup_steps") as u64,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: (number("max_steps") as u64).max(1),
    }
}

// Through the same pass, head and objective as a training step: the loss, and the gradients under HF's names.
fn gradients(pairs: &[Preference], loss: &DpoLoss, keep: Keep) -> (f64, Told) {
    let model = open(&llama());
    let transformer = model.transformer();
    let places = Learner::places(transformer, None);
    let leaf = |place: &usize| transformer.weights[*place].copy().set_requires_grad(true);
    let mut step = Step::new(transformer, &places, places.iter().map(leaf).collect(), keep);
    let sequences: Vec<Sequence> = pairs.iter().flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()]).collect();
    let dpo = Dpo::new(pairs, loss, pairs.len(), Device::Cpu);
    let pass = Pass::new(&step.model, &sequences, 0, None);
    step.add(pass, &targets(&sequences, Device::Cpu), &dpo);
    let parts = weights::parts(&transformer.config);
    let named = places.iter().zip(step.gradients).flat_map(|(place, gradient)| {
        let names = parts[*place].sources(&transformer.config).into_iter().map(|(name, _)| name);
        names.zip(parts[*place].split(&transformer.config, &gradient.unwrap())).collect::<Vec<_>>()
    });
    (step.sums.unwrap().double_value(&[0]), told(named))
}

#[test]
fn every_dpo_loss_and_its_gradients_are_trls() {
    let reference = reference();
    let pairs = pairs(&open(&llama()), &reference);
    for case in &reference.dpo {
        for keep in [Keep::Activations, Keep::Inputs] {
            let (loss, found) = gradients(&pairs, &loss(&case.options), keep);
            near(&case.name, loss, case.loss);
            near_all(&case.name, &found, &case.gradients);
        }
    }
}

#[test]
fn what_a_dpo_step_reports_is_what_trl_reports_however_the_pairs_are_cut() {
    let reference = reference();
    for case in &reference.dpo {
        for at_once in [0, 1, 3] {
            let mut model = open(&llama());
            let pairs = pairs(&model, &reference);
            model.prepare_training(&optimizer(&BTreeMap::new()).into()).unwrap();
            let report = model.dpo_step(&pairs, &loss(&case.options), at_once).unwrap();
            let norm = case.gradients.values().map(|[norm, _]| norm * norm).sum::<f64>().sqrt();
            near(&format!("{}: loss", case.name), report.loss, case.loss);
            near(&format!("{}: gradient norm", case.name), report.grad_norm, norm);
            for (name, expected) in &case.metrics {
                let found = report.more.get(name).copied().unwrap_or(report.entropy);
                near(&format!("{}, {at_once} at once: {name}", case.name), found, *expected);
            }
        }
    }
}

#[test]
fn five_steps_of_dpo_end_where_trls_trainer_ends() {
    let reference = reference();
    let run = &reference.dpo_steps;
    let mut model = open(&llama());
    let mut pairs = pairs(&model, &reference);
    for pair in &mut pairs {
        let scored = model.log_probabilities(&[pair.chosen.clone(), pair.rejected.clone()], 1.0).unwrap();
        pair.reference = [0, 1].map(|side| scored[side].iter().copied().map(f64::from).sum());
    }
    model.prepare_training(&optimizer(&run.options).into()).unwrap();
    for (number, expected) in run.steps.iter().enumerate() {
        let report = model.dpo_step(&pairs, &loss(&run.options), 0).unwrap();
        let what = |name: &str| format!("step {}: {name}", number + 1);
        near(&what("loss"), report.loss, expected["loss"]);
        near(&what("grad_norm"), report.grad_norm, expected["grad_norm"]);
        near(&what("learning_rate"), report.learning_rate, expected["learning_rate"]);
        near(&what("entropy"), report.entropy, expected["entropy"]);
        for (name, found) in &report.more {
            // Of a first step, whose reference is the policy, the sign of a margin is rounding.
            if number > 1 || !name.starts_with("rewards/") {
                near(&what(name), *found, expected[name]);
            }
        }
    }
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    let found = told(Tensor::read_safetensors(saved.path().join("model.safetensors")).unwrap().into_iter());
    near_all("the weights", &found, &run.weights);
}
