//! Losses, gradients and whole steps on preference pairs against TRL's own, recorded by make_preferences.py. Relative
//! error at most 1e-5 in f32.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::maths::preference::DpoLoss;
use plumb_stages::model::{Backend as _, Contrast, Dtype, Model, Optimizer, Preference, Schedule, Sequence};
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

// Of float32 after a handful of steps; 1.3e-5 was seen between processors with and without AVX-512.
const APART: f64 = 5e-5;

#[derive(Deserialize)]
struct Reference {
    pairs: Vec<BTreeMap<String, String>>,
    reference: Vec<[f64; 2]>,
    dpo: Vec<Case>,
    dpo_steps: Run,
    reward: Vec<Rewarded>,
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

#[derive(Deserialize)]
struct Rewarded {
    name: String,
    options: BTreeMap<String, Value>,
    margins: Option<Vec<f64>>,
    score: Vec<f32>,
    loss: f64,
    gradients: Told,
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

// The small llama's folder with a score head, as transformers writes one.
fn scorer(score: &[f32]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(llama().join("model.safetensors")).unwrap();
    tensors.retain(|(name, _)| name != "lm_head.weight");
    tensors.push(("score.weight".into(), Tensor::from_slice(score).view([1, -1])));
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    std::fs::copy(llama().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let config = std::fs::read(llama().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["architectures"] = serde_json::json!(["LlamaForSequenceClassification"]);
    config["id2label"] = serde_json::json!({"0": "LABEL_0"});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn open_to_score(folder: &Path, seed: Option<u64>) -> Result<LanguageModel, plumb_engine::stage::StageError> {
    LanguageModel::open_to_score(folder, Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }, seed)
}

fn contrasts(model: &LanguageModel, reference: &Reference, margins: Option<&Vec<f64>>) -> Vec<Contrast> {
    let contrast = |(number, pair): (usize, &BTreeMap<String, String>)| Contrast {
        chosen: sequence(model, pair, "chosen").whole(),
        rejected: sequence(model, pair, "rejected").whole(),
        margin: margins.map_or(0.0, |margins| margins[number]),
    };
    reference.pairs.iter().enumerate().map(contrast).collect()
}

#[test]
fn five_steps_of_a_reward_model_end_where_trls_trainer_ends() {
    let reference = reference();
    for run in &reference.reward {
        let folder = scorer(&run.score);
        for (at_once, gradient_checkpointing) in [(0, false), (1, false), (3, true)] {
            let mut model = open_to_score(folder.path(), None).unwrap();
            let contrasts = contrasts(&model, &reference, run.margins.as_ref());
            let training = plumb_stages::model::Training { gradient_checkpointing, ..optimizer(&run.options).into() };
            model.prepare_training(&training).unwrap();
            let centre = run.options.get("center_rewards_coefficient").and_then(Value::as_f64).unwrap_or_default();
            for (number, expected) in run.steps.iter().enumerate() {
                let report = model.reward_step(&contrasts, centre, at_once).unwrap();
                let what = |name: &str| format!("{}, {at_once} at once, step {}: {name}", run.name, number + 1);
                near(&what("loss"), report.loss, expected["loss"]);
                near(&what("grad_norm"), report.grad_norm, expected["grad_norm"]);
                for (name, found) in &report.more {
                    near(&what(name), *found, expected[name]);
                }
                if number == 0 {
                    let norm = run.gradients.values().map(|[norm, _]| norm * norm).sum::<f64>().sqrt();
                    near(&what("gradient norm"), report.grad_norm, norm);
                    near(&what("loss"), report.loss, run.loss);
                }
            }
            let saved = tempfile::tempdir().unwrap();
            model.save(saved.path()).unwrap();
            let found = told(Tensor::read_safetensors(saved.path().join("model.safetensors")).unwrap().into_iter());
            near_all(&run.name, &found, &run.weights);
        }
    }
}

#[test]
fn a_reward_model_opens_as_one_and_gives_the_same_rewards() {
    let reference = reference();
    let mut drawn = open_to_score(&llama(), Some(3)).unwrap();
    let texts: Vec<Vec<u32>> = contrasts(&drawn, &reference, None).into_iter().map(|one| one.chosen).collect();
    let rewards = drawn.rewards(&texts).unwrap();
    assert!(rewards.iter().all(|reward| reward.abs() > 1e-3), "a drawn head is not nothing: {rewards:?}");
    assert_ne!(open_to_score(&llama(), Some(4)).unwrap().rewards(&texts).unwrap(), rewards);
    let saved = tempfile::tempdir().unwrap();
    drawn.save(saved.path()).unwrap();
    assert_eq!(open_to_score(saved.path(), None).unwrap().rewards(&texts).unwrap(), rewards);
    // Alone as in a batch.
    let alone = open_to_score(saved.path(), None).unwrap().rewards(&texts[3..]).unwrap();
    assert!((alone[0] - rewards[3]).abs() < 1e-5);
    let error = open_to_score(&llama(), None).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("is no reward model: it has no score head"), "{error}");
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let error = plumb_torch::language_model::Torch.load(saved.path(), Dtype::Float32, &manner).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("is a reward model: it writes no text"), "{error}");
}

#[test]
fn transformers_opens_a_reward_model_and_gives_the_same_rewards() {
    let Some(python) = std::env::var_os("PLUMB_PARITY_PYTHON") else {
        eprintln!("skipped: PLUMB_PARITY_PYTHON names no python with torch, transformers and trl");
        return;
    };
    let reference = reference();
    let mut model = open_to_score(&llama(), Some(3)).unwrap();
    let contrasts = contrasts(&model, &reference, None);
    model.prepare_training(&optimizer(&reference.reward[0].options).into()).unwrap();
    (0..3).for_each(|_| drop(model.reward_step(&contrasts, 0.0, 0).unwrap()));
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/make_preferences.py");
    // The worker's own libtorch must not be found by Python's.
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(saved.path())
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let expected: Vec<f64> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let texts: Vec<Vec<u32>> =
        contrasts.iter().map(|one| &one.chosen).chain(contrasts.iter().map(|one| &one.rejected)).cloned().collect();
    let found = model.rewards(&texts).unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(found, expected)| near("a reward", *found, expected));
}
