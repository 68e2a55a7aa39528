//! Low-rank adapters against PEFT's own, recorded by make_adapters.py, and what a training run with them leaves behind.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_stages::maths::grpo::GrpoLoss;
use plumb_stages::model::{
    Contrast, Cut, Dtype, Lora, Model, Optimizer, Request, Rollout, Sampling, Schedule, Sequence, Target, Training,
};
use plumb_torch::config::Config;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::losses::cross_entropy::CrossEntropy;
use plumb_torch::pass::{Pass, predicting};
use plumb_torch::step::{Keep, Step};
use plumb_torch::transformer::Transformer;
use plumb_torch::weights::{self, Files, Part};
use plumb_torch::{batch, import, learner, lora};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<Vec<u32>>,
    prompt: usize,
    cases: Vec<Case>,
}

/// Norm and projection on a wave, by parameter.
type Told = BTreeMap<String, [f64; 2]>;

#[derive(Deserialize)]
struct Case {
    name: String,
    r: i64,
    alpha: f64,
    targets: Vec<Target>,
    loss: f64,
    logits: Vec<Vec<f64>>,
    gradients: Told,
    merged: Told,
    folder: String,
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn reference() -> Reference {
    serde_json::from_slice(&std::fs::read(tests().join("adapters.json")).unwrap()).unwrap()
}

fn open(folder: &Path, dtype: Dtype) -> LanguageModel {
    LanguageModel::open(folder, dtype, &Manner { device: "cpu".into(), threads: 1 }).unwrap()
}

fn llama() -> LanguageModel {
    open(&tests().join("llama"), Dtype::Float32)
}

fn near(what: &str, found: f64, expected: f64, size: f64) {
    assert!((found - expected).abs() <= 1e-5 * size.max(1e-2), "{what}: {found} is not {expected}");
}

fn near_all(what: &str, found: &Told, expected: &Told) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, [norm, wave]) in found {
        let [expected_norm, expected_wave] = expected[name];
        near(&format!("{what}, norm of {name}"), *norm, expected_norm, expected_norm);
        // A projection is as precise as the whole is long.
        near(&format!("{what}, wave of {name}"), *wave, expected_wave, expected_norm * 4.0);
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

fn sequences(reference: &Reference) -> Vec<Sequence> {
    let cut = |row: &Vec<u32>| Sequence {
        prompt: row[..reference.prompt].to_vec(),
        completion: row[reference.prompt..].to_vec(),
    };
    reference.tokens.iter().map(cut).collect()
}

// The small llama with PEFT's adapter beside it.
fn beside(case: &Case) -> Transformer {
    let model = llama();
    let plain = model.transformer();
    let asked = Lora { rank: case.r as usize, alpha: case.alpha, targets: case.targets.clone(), seed: 0 };
    // The second case divides alpha by the rank's root.
    let shape = lora::Lora { rank_stabilised: case.name == "some", ..lora::Lora::of(&asked) };
    let config = plain.config.with_lora(shape);
    let files = Files::of(&tests().join(&case.folder).join("adapter_model.safetensors")).unwrap();
    let adapters = lora::parts(&config).into_iter().map(|part| files.part(&config, part).unwrap());
    let weights = plain.weights.iter().map(Tensor::shallow_clone).chain(adapters).collect();
    Transformer::new(config, weights, Kind::Float, Device::Cpu)
}

#[test]
fn logits_and_gradients_of_adapters_are_pefts() {
    let reference = reference();
    let whole: Vec<Sequence> =
        reference.tokens.iter().map(|row| Sequence { prompt: row.clone(), completion: vec![0] }).collect();
    for case in &reference.cases {
        let model = beside(case);
        let logits: Vec<Vec<f64>> = Vec::try_from(model.logits(&predicting(&model, &whole, 0, None))).unwrap();
        for (found, expected) in logits.iter().flatten().zip(case.logits.iter().flatten()) {
            near(&format!("{}: a logit", case.name), *found, *expected, 10.0);
        }
        let sequences = sequences(&reference);
        let tokens = sequences.iter().map(|one| one.completion.len() as f64).sum();
        for keep in [Keep::Activations, Keep::Inputs] {
            let places = learner::Learner::places(&model, None);
            let parts = weights::parts(&model.config);
            assert!(places.iter().all(|place| parts[*place].adapts()), "only adapters learn");
            let leaf = |place: &usize| model.weights[*place].copy().set_requires_grad(true);
            let mut step = Step::new(&model, &places, places.iter().map(leaf).collect(), keep);
            let pass = Pass::new(&step.model, &sequences, 0, None);
            step.add(pass, &batch::targets(&sequences, Device::Cpu), &CrossEntropy { tokens });
            near(&case.name, step.sums.unwrap().double_value(&[0]), case.loss, case.loss);
            let named = places.iter().zip(step.gradients).map(|(place, gradient)| {
                let part = parts[*place];
                (part.sources(&model.config).remove(0).0, part.split(&model.config, &gradient.unwrap()).remove(0))
            });
            near_all(&case.name, &told(named), &case.gradients);
        }
    }
}

fn import_with(adapter: &Path) -> Result<tempfile::TempDir, plumb_engine::stage::StageError> {
    let place = tempfile::tempdir().unwrap();
    let input = |name: &str, path: &Path| (name.to_string(), InputPlace::One(path.to_path_buf()));
    let inputs = [input("checkpoint", &tests().join("llama")), input("adapter", adapter)].into();
    let outputs = [("model".to_string(), place.path().join("model"))].into();
    let manner = Manner { device: "cpu".into(), threads: 1 };
    import::run(&Io::new(inputs, outputs, place.path().join("state"), manner, None).unwrap()).map(|()| place)
}

#[test]
fn an_imported_adapter_is_merged_as_peft_merges_it() {
    for case in &reference().cases {
        let place = import_with(&tests().join(&case.folder)).unwrap();
        let merged = Tensor::read_safetensors(place.path().join("model/model.safetensors")).unwrap();
        near_all(&case.name, &told(merged.into_iter()), &case.merged);
        open(&place.path().join("model"), Dtype::Float32);
    }
}

#[test]
fn an_adapter_that_does_more_than_plumb_follows_is_refused_by_the_field() {
    let folder = tests().join("adapters/all");
    let plain: Value = serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    let cases = [
        ("use_dora", json!(true), "`use_dora` is true: it is not supported"),
        ("rank_pattern", json!({"q_proj": 8}), "`rank_pattern` is {\"q_proj\":8}: it is not supported"),
        ("bias", json!("all"), "`bias` is \"all\": only \"none\" is supported"),
        ("peft_type", json!("IA3"), "`peft_type` is \"IA3\": only \"LORA\" is supported"),
        (
            "target_modules",
            json!(["lm_head"]),
            "`target_modules` holds \"lm_head\": expected names of a block's projections",
        ),
        ("r", json!(0), "`r` is 0, expected a rank"),
        ("r", json!(3), "has shape [4, 24], expected [3, 24]"),
    ];
    for (field, value, expected) in cases {
        let place = tempfile::tempdir().unwrap();
        let mut document = plain.clone();
        document[field] = value;
        std::fs::write(place.path().join("adapter_config.json"), document.to_string()).unwrap();
        let weights = place.path().join("adapter_model.safetensors");
        std::fs::copy(folder.join("adapter_model.safetensors"), weights).unwrap();
        let error = import_with(place.path()).map(|_| ()).unwrap_err();
        assert!(error.message.contains(expected), "{error} does not say {expected}");
    }
}

fn training(targets: &[Target]) -> Training {
    let optimizer = Optimizer {
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
    };
    let lora = Lora { rank: 4, alpha: 8.0, targets: targets.to_vec(), seed: 5 };
    Training { lora: Some(lora), ..optimizer.into() }
}

fn trained(targets: &[Target], dtype: Dtype, steps: usize) -> LanguageModel {
    let mut model = open(&tests().join("llama"), dtype);
    model.prepare_training(&training(targets)).unwrap();
    (0..steps).for_each(|_| drop(model.sft_step(&sequences(&reference()), Cut::Rows(0)).unwrap()));
    model
}

fn scores(model: &mut LanguageModel) -> Vec<f32> {
    model.log_probabilities(&sequences(&reference()), 1.0).unwrap().concat()
}

fn apart(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

#[test]
fn a_new_adapter_changes_nothing_and_a_trained_one_is_saved_merged_and_by_itself() {
    let base = scores(&mut llama());
    for targets in [&[Target::AllLinear][..], &[], &[Target::KProj, Target::DownProj]] {
        assert_eq!(scores(&mut trained(targets, Dtype::Float32, 0)), base);
        let mut model = trained(targets, Dtype::Float32, 5);
        let learnt = scores(&mut model);
        assert!(apart(&learnt, &base) > 0.1, "it learns");
        let without = model.log_probabilities_of_base(&sequences(&reference()), 1.0).unwrap().concat();
        assert_eq!(without, base, "without its adapters it is what it was");
        assert_eq!(scores(&mut model), learnt);
        let saved = tempfile::tempdir().unwrap();
        model.save(saved.path()).unwrap();
        assert!(apart(&scores(&mut open(saved.path(), Dtype::Float32)), &learnt) < 1e-4);
        let place = import_with(&saved.path().join("adapter")).unwrap();
        assert!(apart(&scores(&mut open(&place.path().join("model"), Dtype::Float32)), &learnt) < 1e-4);
    }
}

#[test]
fn a_checkpoint_holds_the_adapters_alone_and_continues_bit_for_bit() {
    let mut whole = trained(&[Target::QProj, Target::UpProj], Dtype::Bfloat16, 3);
    let folder = tempfile::tempdir().unwrap();
    whole.save_checkpoint(folder.path()).unwrap();
    let held = Tensor::read_safetensors(folder.path().join("optimizer.safetensors")).unwrap();
    // Two blocks; A (4, in) and B (out, 4) of a 24 × 24 and a 40 × 24 projection.
    let expected = 2 * (4 * 24 + 24 * 4 + 4 * 24 + 40 * 4);
    assert!(held.iter().all(|(_, tensor)| tensor.numel() == expected), "{held:?}");
    let mut resumed = trained(&[Target::QProj, Target::UpProj], Dtype::Bfloat16, 0);
    resumed.resume(folder.path()).unwrap();
    for model in [&mut whole, &mut resumed] {
        (0..2).for_each(|_| drop(model.sft_step(&sequences(&reference()), Cut::Rows(1)).unwrap()));
    }
    assert_eq!(whole.weights_digest(), resumed.weights_digest());
    assert_eq!(scores(&mut whole), scores(&mut resumed));
    // A frozen base in bf16 is saved from the file, not from what training rounded it to.
    let saved = tempfile::tempdir().unwrap();
    whole.save(saved.path()).unwrap();
    let (plain, merged) = (Files::open(&tests().join("llama")).unwrap(), Files::open(saved.path()).unwrap());
    let config = Config::read(&tests().join("llama")).unwrap();
    let same = |part: Part| plain.part(&config, part).unwrap() == merged.part(&config, part).unwrap();
    assert!(same(Part::Down(0)) && same(Part::AttentionOut(1)) && same(Part::Embedding) && !same(Part::Qkv(0)));
}

#[test]
fn what_is_generated_through_an_adapter_scores_as_what_is_written() {
    let mut model = trained(&[Target::AllLinear], Dtype::Float32, 5);
    let request = Request { prompt: reference().tokens[0][..4].to_vec(), samples: 2, stream: 1 };
    let sampling = Sampling { temperature: 1.0, max_new_tokens: 6, seed: 2, ..Sampling::default() };
    let written = model.generate(std::slice::from_ref(&request), &sampling, &mut |_| {}).unwrap().remove(0);
    for completion in written {
        let sequence = Sequence { prompt: request.prompt.clone(), completion: completion.tokens };
        let scored = model.log_probabilities(&[sequence], 1.0).unwrap().remove(0);
        assert!(apart(&scored, &completion.logprobs) < 1e-4);
    }
}

#[test]
fn a_policy_gradient_moves_adapters_too() {
    let mut model = trained(&[Target::AllLinear], Dtype::Float32, 0);
    let base = scores(&mut model);
    let rollout = |(sequence, advantage): (Sequence, f64)| Rollout {
        sequence,
        advantage,
        old_logprobs: Vec::new(),
        ref_logprobs: Vec::new(),
        counted: true,
    };
    let rollouts: Vec<Rollout> = sequences(&reference()).into_iter().zip([1.0, -1.0]).map(rollout).collect();
    let report = model.grpo_step(&rollouts, &GrpoLoss::default(), 0).unwrap();
    assert!(report.grad_norm > 0.0 && apart(&scores(&mut model), &base) > 0.0);
}

#[test]
fn peft_opens_a_saved_adapter_and_gives_the_same_logits() {
    let Some(python) = std::env::var_os("PLUMB_PARITY_PYTHON") else {
        eprintln!("skipped: PLUMB_PARITY_PYTHON names no python with torch, transformers and peft");
        return;
    };
    let reference = reference();
    let whole: Vec<Sequence> =
        reference.tokens.iter().map(|row| Sequence { prompt: row.clone(), completion: vec![0] }).collect();
    for targets in [&[Target::AllLinear][..], &[]] {
        let model = trained(targets, Dtype::Float32, 5);
        let saved = tempfile::tempdir().unwrap();
        model.save(saved.path()).unwrap();
        let mut command = std::process::Command::new(&python);
        command.arg(tests().join("make_adapters.py")).arg(tests().join("llama")).arg(saved.path().join("adapter"));
        // The worker's own libtorch must not be found by Python's.
        let output = command.env_remove("LD_LIBRARY_PATH").output().unwrap();
        let expected: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let found = model.transformer().logits(&predicting(model.transformer(), &whole, 0, None));
        let found: Vec<Vec<f64>> = Vec::try_from(found).unwrap();
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            near("a logit", *found, *expected, 10.0);
        }
    }
}

#[test]
fn a_reward_model_learns_its_head_beside_its_adapters() {
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let open = |folder: &Path, seed: Option<u64>| LanguageModel::open_to_score(folder, Dtype::Float32, &manner, seed);
    let mut model = open(&tests().join("llama"), Some(1)).unwrap();
    model.prepare_training(&training(&[Target::AllLinear])).unwrap();
    let tokens = reference().tokens;
    let contrast = Contrast { chosen: tokens[0].clone(), rejected: tokens[1].clone(), margin: 0.0 };
    let before = model.rewards(&tokens).unwrap();
    (0..5).for_each(|_| drop(model.reward_step(std::slice::from_ref(&contrast), 0.0, 0).unwrap()));
    let rewards = model.rewards(&tokens).unwrap();
    assert!(rewards[0] - rewards[1] > before[0] - before[1] + 0.1, "{before:?} {rewards:?}");
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    let merged = open(saved.path(), None).unwrap().rewards(&tokens).unwrap();
    assert!(merged.iter().zip(&rewards).all(|(one, other)| (one - other).abs() < 1e-4), "{merged:?} {rewards:?}");
    let adapter = Tensor::read_safetensors(saved.path().join("adapter/adapter_model.safetensors")).unwrap();
    assert!(adapter.iter().any(|(name, _)| name == "base_model.model.score.weight"));
}
