//! PPO's losses, gradients and estimates against plain PyTorch's, recorded by make_ppo.py, and a policy that learns.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::maths::gae::{estimate, whiten};
use plumb_stages::maths::ppo::{KlEstimator, PpoLoss, token_rewards};
use plumb_stages::model::{Dtype, Estimated, Model, Optimizer, Request, Sampling, Schedule, Sequence, Training};
use plumb_torch::language_model::LanguageModel;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Tensor;

#[derive(Deserialize)]
struct Reference {
    rows: Vec<(Vec<u32>, Vec<u32>)>,
    loss: PpoLoss,
    scores: Vec<f64>,
    kl_coef: f64,
    gamma: f64,
    lam: f64,
    score: Vec<f32>,
    old: Vec<Vec<f32>>,
    r#ref: Vec<Vec<f32>>,
    old_values: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    returns: Vec<Vec<f32>>,
    advantages: Vec<Vec<f32>>,
    policy: Told,
    value: Told,
}

#[derive(Deserialize)]
struct Told {
    loss: f64,
    #[serde(default)]
    approxkl: f64,
    clipfrac: f64,
    /// Norm and projection on a wave, by parameter.
    gradients: BTreeMap<String, [f64; 2]>,
}

impl Told {
    fn norm(&self) -> f64 {
        self.gradients.values().map(|[norm, _]| norm * norm).sum::<f64>().sqrt()
    }
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ppo.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn llama() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn manner() -> Manner {
    Manner { device: "cpu".into(), threads: 1 }
}

fn near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-5 * (0.1 + expected.abs()), "{what}: {found} is not {expected}");
}

fn near_all(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(found, expected)| near(what, f64::from(*found), f64::from(*expected)));
}

// The small llama with the recorded score head.
fn critic(score: &[f32], learning_rate: f64) -> LanguageModel {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(llama().join("model.safetensors")).unwrap();
    tensors.retain(|(name, _)| name != "lm_head.weight");
    tensors.push(("score.weight".into(), Tensor::from_slice(score).view([1, -1])));
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    std::fs::copy(llama().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(llama().join("config.json")).unwrap()).unwrap();
    config["architectures"] = json!(["LlamaForSequenceClassification"]);
    config["id2label"] = json!({"0": "LABEL_0"});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut model = LanguageModel::open_to_score(folder.path(), Dtype::Float32, &manner(), None).unwrap();
    model.prepare_training(&training(learning_rate)).unwrap();
    model
}

fn policy(learning_rate: f64) -> LanguageModel {
    let mut model = LanguageModel::open(&llama(), Dtype::Float32, &manner()).unwrap();
    model.prepare_training(&training(learning_rate)).unwrap();
    model
}

fn training(learning_rate: f64) -> Training {
    Optimizer {
        learning_rate,
        adam_beta1: 0.9,
        adam_beta2: 0.95,
        adam_epsilon: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: 1000,
    }
    .into()
}

fn rows(reference: &Reference) -> Vec<Estimated> {
    let row = |(number, (prompt, completion)): (usize, &(Vec<u32>, Vec<u32>))| Estimated {
        sequence: Sequence { prompt: prompt.clone(), completion: completion.clone() },
        advantages: reference.advantages[number].clone(),
        old_logprobs: reference.old[number].clone(),
        old_values: reference.old_values[number].clone(),
        returns: reference.returns[number].clone(),
    };
    reference.rows.iter().enumerate().map(row).collect()
}

#[test]
fn estimates_are_those_of_the_plain_loop() {
    let reference = reference();
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
    let mut advantages = Vec::new();
    for (row, score) in reference.scores.iter().enumerate() {
        let (old, base) = (&reference.old[row], &reference.r#ref[row]);
        let rewards = token_rewards(old, base, *score, reference.kl_coef, KlEstimator::K1);
        let found = estimate(&rewards, &wide(&reference.old_values[row]), reference.gamma, reference.lam);
        let returns: Vec<f32> = found.returns.iter().map(|one| *one as f32).collect();
        near_all("returns", &returns, &reference.returns[row]);
        advantages.extend(found.advantages);
    }
    let white: Vec<f32> = whiten(&advantages).into_iter().map(|one| one as f32).collect();
    near_all("advantages", &white, &reference.advantages.concat());
}

#[test]
fn both_losses_and_their_gradients_are_those_of_plain_pytorch_however_rows_are_cut() {
    let reference = reference();
    assert!(reference.policy.clipfrac > 0.0 && reference.value.clipfrac > 0.0, "the fixture clips");
    let tokens = reference.rows.iter().map(|(_, completion)| completion.len()).sum::<usize>() as u64;
    for at_once in [0, 1, 3] {
        let report = policy(0.0).ppo_step(&rows(&reference), &reference.loss, at_once).unwrap();
        near("the policy's loss", report.loss, reference.policy.loss);
        near("the policy's gradient", report.grad_norm, reference.policy.norm());
        near("approxkl", report.kl, reference.policy.approxkl);
        near("clipfrac", report.clip_low + report.clip_high, reference.policy.clipfrac);
        assert_eq!(report.num_tokens, tokens);
        let mut critic = critic(&reference.score, 0.0);
        let sequences: Vec<Sequence> = rows(&reference).into_iter().map(|row| row.sequence).collect();
        near_all("values", &critic.values(&sequences).unwrap().concat(), &reference.values.concat());
        let report = critic.value_step(&rows(&reference), &reference.loss, at_once).unwrap();
        near("the value loss", report.loss, reference.value.loss * reference.loss.vf_coef);
        near("the value's gradient", report.grad_norm, reference.value.norm());
        near("clipped values", report.clip_high, reference.value.clipfrac);
    }
}

// Rewarded for one token: its share of what the policy writes.
#[test]
fn a_policy_comes_to_write_what_is_rewarded() {
    let (mut policy, loss) = (policy(1e-2), PpoLoss { temperature: 1.0, ..reference().loss });
    let mut critic = critic(&[0.0; 24], 1e-2);
    let request = |stream: u64| Request { prompt: vec![3, 9, 12], samples: 8, stream };
    let share = |written: &[Vec<u32>]| {
        let all = written.concat();
        all.iter().filter(|token| **token == 40).count() as f64 / all.len() as f64
    };
    let mut shares = Vec::new();
    for step in 0..30 {
        let sampling = Sampling { temperature: 1.0, max_new_tokens: 6, seed: 11, ..Sampling::default() };
        let drawn = policy.generate(&[request(2 * step), request(2 * step + 1)], &sampling, &mut |_| {}).unwrap();
        let written: Vec<Vec<u32>> = drawn.concat().into_iter().map(|one| one.tokens).collect();
        shares.push(share(&written));
        let sequence = |completion: &Vec<u32>| Sequence { prompt: vec![3, 9, 12], completion: completion.clone() };
        let sequences: Vec<Sequence> = written.iter().map(sequence).collect();
        let logprobs = policy.log_probabilities(&sequences, 1.0).unwrap();
        let values = critic.values(&sequences).unwrap();
        let estimates = sequences.iter().zip(&values).map(|(sequence, values)| {
            let rewards: Vec<f64> = sequence.completion.iter().map(|token| f64::from(u8::from(*token == 40))).collect();
            estimate(&rewards, &values.iter().copied().map(f64::from).collect::<Vec<f64>>(), 1.0, 0.95)
        });
        let estimates: Vec<_> = estimates.collect();
        let white = whiten(&estimates.iter().flat_map(|one| one.advantages.clone()).collect::<Vec<f64>>());
        let mut white = white.into_iter().map(|one| one as f32);
        let batch: Vec<Estimated> = sequences
            .iter()
            .enumerate()
            .map(|(row, sequence)| Estimated {
                sequence: sequence.clone(),
                advantages: white.by_ref().take(sequence.completion.len()).collect(),
                old_logprobs: logprobs[row].clone(),
                old_values: values[row].clone(),
                returns: estimates[row].returns.iter().map(|one| *one as f32).collect(),
            })
            .collect();
        for _ in 0..2 {
            policy.ppo_step(&batch, &loss, 0).unwrap();
            critic.value_step(&batch, &loss, 0).unwrap();
        }
    }
    let (first, last) = (shares[..3].iter().sum::<f64>() / 3.0, shares[27..].iter().sum::<f64>() / 3.0);
    assert!(last > first + 0.3, "{shares:?}");
}
