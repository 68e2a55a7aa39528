//! Ways of making a step that must not change what is learnt (packing, gradient checkpointing, micro-batches), the
//! running mean of weights, a reference that moves, and what a step says when a number is not finite.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::StageError;
use plumb_stages::maths::grpo::GrpoLoss;
use plumb_stages::model::{
    Backend as _, Cut, Dtype, Model, Optimizer, Rollout, Schedule, Sequence, StepReport, Training,
};
use plumb_stages::train::sft;
use plumb_torch::language_model::{LanguageModel, Torch};
use plumb_torch::weights::Files;
use serde_json::{Value, json};
use tch::Tensor;

fn llama() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn open_as(folder: &Path, dtype: Dtype) -> LanguageModel {
    LanguageModel::open(folder, dtype, &Manner { device: "cpu".into(), threads: 1 }).unwrap()
}

fn training() -> Training {
    Optimizer {
        learning_rate: 1e-2,
        adam_beta1: 0.9,
        adam_beta2: 0.95,
        adam_epsilon: 1e-8,
        weight_decay: 0.1,
        max_grad_norm: 1.0,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: 10,
    }
    .into()
}

fn prepared(training: &Training, dtype: Dtype) -> LanguageModel {
    let mut model = open_as(&llama(), dtype);
    model.prepare_training(training).unwrap();
    model
}

// Unlike lengths, so that rows are padded where nothing is packed.
fn sequences() -> Vec<Sequence> {
    let row = |number: u32| Sequence {
        prompt: (0..1 + number % 4).map(|place| (number * 7 + place * 5) % 48).collect(),
        completion: (0..1 + (number * 3) % 8).map(|place| (number * 11 + place * 3) % 48).collect(),
    };
    (0..9).map(row).collect()
}

fn rollouts() -> Vec<Rollout> {
    let rollout = |(index, mut sequence): (usize, Sequence)| {
        // Three prompts, each of three completions: computed once.
        sequence.prompt = vec![index as u32 / 3 + 4; index / 3 + 1];
        Rollout {
            advantage: [1.2, -0.7, 0.3][index % 3],
            old_logprobs: sequence.completion.iter().map(|token| -3.5 - (*token as f32) / 90.0).collect(),
            ref_logprobs: Vec::new(),
            counted: true,
            sequence,
        }
    };
    sequences().into_iter().enumerate().map(rollout).collect()
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * (1.0 + other.abs())
}

fn weights(model: &dyn Model) -> Vec<(String, Tensor)> {
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let mut tensors = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    tensors
}

fn furthest(one: &[(String, Tensor)], other: &[(String, Tensor)]) -> f64 {
    let other: BTreeMap<&str, &Tensor> = other.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let apart = |(name, tensor): &(String, Tensor)| (tensor - other[name.as_str()]).abs().max().double_value(&[]);
    one.iter().map(apart).fold(0.0, f64::max)
}

#[test]
fn packed_sequences_teach_what_separate_ones_do() {
    let step = |cut: Cut| {
        let mut model = prepared(&training(), Dtype::Float32);
        let report = model.sft_step(&sequences(), cut).unwrap();
        (report, weights(&model))
    };
    let (plain, learnt) = step(Cut::Rows(1));
    for cut in [Cut::Packed(1000), Cut::Packed(20), Cut::Packed(1), Cut::Rows(0)] {
        let (report, found) = step(cut);
        assert!(near(report.loss, plain.loss), "{cut:?}: {} is not {}", report.loss, plain.loss);
        assert!(near(report.grad_norm, plain.grad_norm), "{cut:?}: {} is not {}", report.grad_norm, plain.grad_norm);
        assert!(near(report.entropy, plain.entropy) && report.num_tokens == plain.num_tokens, "{cut:?}");
        // Adam's first update is the gradient's sign: its size is the rate where a gradient is not tiny.
        assert!(furthest(&found, &learnt) < 1e-3, "{cut:?}: {}", furthest(&found, &learnt));
    }
}

#[test]
fn a_packed_sequence_sees_only_itself() {
    let mut alone = prepared(&training(), Dtype::Float32);
    let mut beside = prepared(&training(), Dtype::Float32);
    let one = sequences().remove(3);
    let frozen = Training { optimizer: Optimizer { learning_rate: 0.0, ..training().optimizer }, ..training() };
    alone.prepare_training(&frozen).unwrap();
    beside.prepare_training(&frozen).unwrap();
    let expected = alone.sft_step(std::slice::from_ref(&one), Cut::Rows(0)).unwrap().loss;
    let other = |token: u32| Sequence { prompt: vec![token; 9], completion: vec![] };
    for token in [1, 40] {
        // What stands before it in the row changes nothing: not even its positions.
        let found = beside.sft_step(&[other(token), one.clone()], Cut::Packed(1000)).unwrap().loss;
        assert!(near(found, expected), "{found} is not {expected}");
    }
}

#[test]
fn gradient_checkpointing_learns_the_same_bits() {
    type Steps<'a> = &'a dyn Fn(&mut LanguageModel) -> StepReport;
    let loss = GrpoLoss { epsilon_high: 0.28, ..GrpoLoss::default() };
    let cases: [(&str, Steps); 3] = [
        ("rows", &|model| model.sft_step(&sequences(), Cut::Rows(4)).unwrap()),
        ("packed", &|model| model.sft_step(&sequences(), Cut::Packed(30)).unwrap()),
        ("groups", &|model| model.grpo_step(&rollouts(), &loss, 6).unwrap()),
    ];
    for (name, step) in cases {
        for (trainable_layers, dtype) in
            [(None, Dtype::Float32), (Some(1), Dtype::Float32), (None, Dtype::Bfloat16), (Some(2), Dtype::Bfloat16)]
        {
            let [plain, again] = [false, true].map(|gradient_checkpointing| {
                let mut model = prepared(&Training { gradient_checkpointing, trainable_layers, ..training() }, dtype);
                let reports = [step(&mut model), step(&mut model)];
                (reports, model.weights_digest())
            });
            assert_eq!(plain, again, "{name} {trainable_layers:?} {dtype:?}");
        }
    }
}

#[test]
fn a_running_mean_is_saved_and_goes_on_after_a_kill() {
    let with = |ema_decay| Training { ema_decay, ..training() };
    let steps = |model: &mut LanguageModel, count: usize| {
        (0..count).for_each(|_| drop(model.sft_step(&sequences(), Cut::Rows(0)).unwrap()));
    };
    let mut last = Vec::new();
    let mut mean = weights(&prepared(&training(), Dtype::Float32));
    let mut plain = prepared(&training(), Dtype::Float32);
    for _ in 0..4 {
        steps(&mut plain, 1);
        last = weights(&plain);
        for ((_, mean), (_, now)) in mean.iter_mut().zip(&last) {
            *mean = &*mean * 0.75 + now * 0.25;
        }
    }
    let mut whole = prepared(&with(Some(0.75)), Dtype::Float32);
    steps(&mut whole, 4);
    assert!(furthest(&weights(&whole), &mean) < 1e-6, "the mean of the weights after each step");
    assert_eq!(whole.weights_digest(), plain.weights_digest(), "learning goes on from the last weights");
    assert!(furthest(&mean, &last) > 1e-3);

    let state = tempfile::tempdir().unwrap();
    let mut cut = prepared(&with(Some(0.75)), Dtype::Float32);
    steps(&mut cut, 2);
    cut.save_checkpoint(state.path()).unwrap();
    let mut resumed = prepared(&with(Some(0.75)), Dtype::Float32);
    resumed.resume(state.path()).unwrap();
    steps(&mut resumed, 2);
    assert_eq!(furthest(&weights(&resumed), &weights(&whole)), 0.0);
}

#[test]
fn a_reference_moves_towards_its_policy_and_is_saved_where_it_is() {
    let mut policy = prepared(&training(), Dtype::Float32);
    policy.sft_step(&sequences(), Cut::Rows(0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    policy.save(folder.path()).unwrap();
    let mut reference = open_as(&llama(), Dtype::Float32);
    let before = weights(&reference);
    reference.move_towards(folder.path(), 0.6).unwrap();
    let expected: Vec<(String, Tensor)> = before
        .iter()
        .zip(weights(&policy))
        .map(|((name, own), (_, there))| (name.clone(), own * 0.4 + there * 0.6))
        .collect();
    assert!(furthest(&weights(&reference), &expected) < 1e-7);
    // All the way is a copy, bit for bit.
    reference.move_towards(folder.path(), 1.0).unwrap();
    assert_eq!(furthest(&weights(&reference), &weights(&policy)), 0.0);
}

/// A copy of the model folder with a weight that is no number.
fn poisoned(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    open_as(&llama(), Dtype::Float32).save(folder.path()).unwrap();
    let file = folder.path().join("model.safetensors");
    let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&file).unwrap();
    let (_, weight) = tensors.iter().find(|(found, _)| found == name).unwrap();
    let _ = weight.view([-1]).get(3).fill_(f64::NAN);
    Tensor::write_safetensors(&tensors, &file).unwrap();
    folder
}

#[test]
fn a_weight_that_is_no_number_is_named_as_the_file_names_it() {
    for name in ["model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.v_proj.weight"] {
        let folder = poisoned(name);
        for trainable_layers in [None, Some(1)] {
            let mut model = open_as(folder.path(), Dtype::Float32);
            model.prepare_training(&Training { trainable_layers, ..training() }).unwrap();
            let before = model.weights_digest();
            let report = model.sft_step(&sequences(), Cut::Rows(0)).unwrap();
            assert_eq!(report.fault.as_deref(), Some(format!("weight `{name}` not finite").as_str()));
            assert_eq!(model.weights_digest(), before, "no update was made");
            let refused = model.save_checkpoint(folder.path()).unwrap_err();
            assert!(refused.message.contains(name), "{refused}");
        }
    }
}

#[test]
fn a_gradient_that_is_no_number_is_named() {
    let mut model = prepared(&training(), Dtype::Float32);
    let mut rollouts = rollouts();
    rollouts[4].advantage = f64::NAN;
    let report = model.grpo_step(&rollouts, &GrpoLoss::default(), 0).unwrap();
    let fault = report.fault.unwrap();
    assert!(
        fault.starts_with("the gradient of `model.embed_tokens.weight` and of ") && fault.ends_with("not finite"),
        "{fault}"
    );
}

/// `lm.sft` on the recorded model, in a folder of its own.
fn run_sft(place: &Path, model: &Path, params: &sft::Params) -> Result<(), StageError> {
    let input = |name: &str, path: PathBuf| (name.to_string(), InputPlace::One(path));
    let inputs = [input("model", model.into()), input("demonstrations", place.join("rows.jsonl"))].into();
    let names = ["model", "metrics", "steps", "chain", "trainer_state", "tensorboard"];
    let outputs = names.map(|name| (name.to_string(), place.join(name))).into();
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let io = Io::new(inputs, outputs, place.join("state"), manner, None).unwrap();
    sft::run(&Torch, params, &io)
}

fn rows(place: &Path, completion: &str) {
    let row =
        |number: usize| json!({"id": format!("row-{number}"), "prompt": "t3 t4", "completion": completion}).to_string();
    std::fs::write(place.join("rows.jsonl"), (0..4).map(row).collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn a_loss_that_is_no_number_stops_with_its_items_and_keeps_the_last_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    rows(place.path(), "t5 t6");
    // So far does one update go that no later loss is a number.
    let params =
        sft::Params { max_steps: 10, learning_rate: 1e30, per_device_train_batch_size: 2, ..sft::Params::default() };
    let error = run_sft(place.path(), &llama(), &params).unwrap_err();
    assert!(error.message.starts_with("step ") && error.message.contains("not finite"), "{error}");
    assert!(error.message.contains("; items row-"), "{error}");
    assert!(error.hint.unwrap().contains("the last checkpoint is kept"));
    assert!(!place.path().join("model").exists(), "nothing is published");
    let kept: Vec<String> = std::fs::read_dir(place.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept, ["checkpoint-1"]);
    Files::of(&place.path().join("state/checkpoint-1/optimizer.safetensors")).unwrap();
}

#[test]
fn pythons_tensorboard_and_transformers_read_the_log() {
    let Some(python) = std::env::var_os("PLUMB_PARITY_PYTHON") else {
        eprintln!("skipped: PLUMB_PARITY_PYTHON names no python with tensorboard and transformers");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    rows(place.path(), "t5 t6");
    run_sft(place.path(), &llama(), &sft::Params { max_steps: 3, ..sft::Params::default() }).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_log.py");
    // The worker's own libtorch must not be found by Python's.
    let output = Command::new(python).arg(script).arg(place.path()).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let read: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(read["state"], json!([3, 3, 3]));
    let steps = std::fs::read_to_string(place.path().join("steps")).unwrap();
    let mut expected = 0;
    for row in steps.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        for (name, value) in row["metrics"].as_object().unwrap() {
            let scalar = json!([format!("train/{name}"), row["step"], f64::from(value.as_f64().unwrap() as f32)]);
            assert!(read["scalars"].as_array().unwrap().contains(&scalar), "{scalar}");
            expected += 1;
        }
    }
    assert_eq!(read["scalars"].as_array().unwrap().len(), expected);
}

#[test]
fn a_row_beyond_the_models_context_is_named() {
    let place = tempfile::tempdir().unwrap();
    rows(place.path(), &"t5 ".repeat(400));
    let error = run_sft(place.path(), &llama(), &sft::Params::default()).unwrap_err();
    let context = Torch.load(&llama(), Dtype::Float32, &Manner::default()).unwrap().context();
    assert!(error.message.contains(&format!("is {context}")) && error.message.starts_with("`row-0` takes "), "{error}");
    assert_eq!(error.hint.unwrap(), format!("with.max_length = {context}"));
}
