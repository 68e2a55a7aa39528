//! Each family of models against what Hugging Face transformers recorded of a small random one (make_models.py):
//! logits at all positions, alone and padded in a batch; greedy continuations through the cache; the loss of completions
//! that share a prompt, and its gradient by every weight. Sliding windows are shorter than the texts.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Request, Sampling, Schedule, Sequence};
use plumb_torch::batch::Padded;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::pass::{Pass, predicting};
use plumb_torch::transformer::{Attend, Transformer};
use plumb_torch::weights::parts;
use tch::{Kind, Tensor};
use tempfile::TempDir;

const FAMILIES: [&str; 6] = ["llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"];

/// As make_models.py has them.
const PROMPTS: [&[u32]; 2] = [&[3, 9, 12, 7, 33, 21, 5, 18, 40, 11, 6, 29, 14], &[5, 6, 44, 17, 23, 8]];
const COMPLETIONS: [&[u32]; 4] = [&[8, 4, 40, 2], &[11], &[9, 2], &[17, 18, 19, 20, 21, 35, 26, 2]];

struct Fixture {
    name: &'static str,
    model: LanguageModel,
    recorded: BTreeMap<String, Tensor>,
    _folder: TempDir,
}

fn fixtures() -> impl Iterator<Item = Fixture> {
    FAMILIES.into_iter().map(|name| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let (source, folder) = (tests.join("models").join(name), tempfile::tempdir().unwrap());
        let place = |from: PathBuf| std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
        place(source.join("config.json"));
        place(source.join("model.safetensors"));
        place(tests.join("llama/tokenizer.json"));
        let recorded = Tensor::read_safetensors(source.join("reference.safetensors")).unwrap().into_iter().collect();
        let manner = Manner { device: "cpu".into(), threads: 1 };
        let model = LanguageModel::open(folder.path(), Dtype::Float32, &manner).unwrap();
        Fixture { name, model, recorded, _folder: folder }
    })
}

fn apart(one: &Tensor, other: &Tensor) -> f64 {
    assert_eq!(one.size(), other.size());
    (one - other).abs().max().double_value(&[])
}

fn logits(model: &Transformer, rows: &[&[u32]]) -> Tensor {
    let padded = Padded::new(rows, model.device);
    let angles = model.angles_from_zero(padded.width);
    let all = 0..model.config.num_hidden_layers;
    model.logits(&model.blocks(all, model.embed(&padded.tokens), &angles, &mut Attend::Causal(None)))
}

/// Completions of the first prompt.
fn sequences() -> Vec<Sequence> {
    COMPLETIONS.map(|completion| Sequence { prompt: PROMPTS[0].to_vec(), completion: completion.to_vec() }).to_vec()
}

fn loss(model: &Transformer, stream: &Tensor, sequences: &[Sequence]) -> Tensor {
    let targets: Vec<i64> = sequences.iter().flat_map(|s| s.completion.clone()).map(i64::from).collect();
    model.logits(stream).cross_entropy_for_logits(&Tensor::from_slice(&targets))
}

#[test]
fn logits_are_those_of_transformers_alone_and_padded_in_a_batch() {
    for Fixture { name, model, recorded, .. } in fixtures() {
        let together = logits(model.transformer(), &PROMPTS);
        for (row, prompt) in PROMPTS.iter().enumerate() {
            let expected = &recorded[&format!("logits.{row}")];
            let alone = logits(model.transformer(), &[prompt]).get(0);
            let padded = together.get(row as i64).narrow(0, 0, prompt.len() as i64);
            let far = (apart(&alone, expected), apart(&padded, expected));
            assert!(far.0 < 1e-4 && far.1 < 1e-4, "{name}, prompt {row}: {far:?}");
        }
    }
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for Fixture { name, mut model, recorded, .. } in fixtures() {
        let request = |(stream, prompt): (u64, &&[u32])| Request { prompt: prompt.to_vec(), samples: 1, stream };
        let requests: Vec<Request> = (0u64..).zip(&PROMPTS).map(request).collect();
        let sampling = Sampling { max_new_tokens: 12, ..Sampling::default() };
        let drawn = model.generate(&requests, &sampling, &mut |_| {}).unwrap();
        for (row, completions) in drawn.iter().enumerate() {
            let expected: Vec<i64> = Vec::try_from(&recorded[&format!("greedy.{row}")]).unwrap();
            let found: Vec<i64> = completions[0].tokens.iter().map(|token| i64::from(*token)).collect();
            assert_eq!(found, expected, "{name}, prompt {row}");
        }
    }
}

#[test]
fn gradients_through_a_shared_prompt_are_those_of_transformers() {
    for Fixture { name, model, recorded, .. } in fixtures() {
        let config = model.transformer().config.clone();
        let weights = model.transformer().weights.iter().map(|w| w.copy().set_requires_grad(true)).collect();
        let learning = Transformer::new(config.clone(), weights, Kind::Float, tch::Device::Cpu);
        let loss = loss(&learning, &predicting(&learning, &sequences(), 0, None), &sequences());
        assert!(apart(&loss.reshape([1]), &recorded["loss"]) < 1e-5, "{name}: {loss}");
        loss.backward();
        for (part, weight) in parts(&config).into_iter().zip(&learning.weights) {
            for ((source, _), gradient) in part.sources(&config).iter().zip(part.split(&config, &weight.grad())) {
                let expected = &recorded[&format!("gradient.{source}")];
                let scale = expected.abs().max().double_value(&[]).max(0.1);
                let far = apart(&gradient, expected) / scale;
                assert!(far < 1e-4, "{name}: gradient of `{source}` is {far} away");
            }
        }
    }
}

#[test]
fn packed_sequences_score_as_transformers_has_them() {
    for Fixture { name, model, recorded, .. } in fixtures() {
        let model = model.transformer();
        let pass = Pass::packed(model, &sequences(), 0);
        let loss = loss(model, &pass.run(model), &sequences());
        assert!(apart(&loss.reshape([1]), &recorded["loss"]) < 1e-5, "{name}: {loss}");
    }
}

#[test]
fn a_training_step_reports_the_loss_and_the_norm_of_transformers_gradient() {
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
    for Fixture { name, mut model, recorded, .. } in fixtures() {
        let squares = recorded.iter().filter(|(key, _)| key.starts_with("gradient."));
        let norm =
            squares.map(|(_, gradient)| gradient.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
        model.prepare_training(&optimizer.clone().into()).unwrap();
        let report = model.sft_step(&sequences(), Cut::Rows(0)).unwrap();
        assert!((report.loss - recorded["loss"].double_value(&[0])).abs() < 1e-5, "{name}: {}", report.loss);
        assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{name}: {} is not {norm}", report.grad_norm);
    }
}
