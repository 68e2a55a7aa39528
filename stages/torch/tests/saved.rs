//! What is saved after training opens in transformers as the same model: `PLUMB_REAL_PYTHON` names a Python that has it;
//! without it that test says so and passes. And weights of sixteen bits load as what they are.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic or a line on stderr is the report")]

use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_engine::io::Manner;
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Schedule, Sequence};
use plumb_torch::batch::Padded;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::transformer::Attend;
use tch::{Kind, Tensor, no_grad_guard};
use tempfile::TempDir;

const FAMILIES: [&str; 7] = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"];
const TOKENS: [u32; 13] = [3, 9, 12, 7, 33, 21, 5, 18, 40, 11, 6, 29, 14];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A copy of a family's folder, with a tokenizer.
fn checkpoint(name: &str) -> TempDir {
    let source = if name == "llama" { tests().join(name) } else { tests().join("models").join(name) };
    let folder = tempfile::tempdir().unwrap();
    let place = |from: PathBuf| std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    place(source.join("config.json"));
    place(source.join("model.safetensors"));
    place(tests().join("llama/tokenizer.json"));
    folder
}

fn open(folder: &Path) -> LanguageModel {
    let manner = Manner { device: "cpu".into(), threads: 1 };
    LanguageModel::open(folder, Dtype::Float32, &manner).unwrap()
}

fn logits(model: &LanguageModel) -> Tensor {
    let _guard = no_grad_guard();
    let model = model.transformer();
    let padded = Padded::new(&[&TOKENS], model.device);
    let (angles, all) = (model.angles_from_zero(padded.width), 0..model.config.num_hidden_layers);
    model.logits(&model.blocks(all, model.embed(&padded.tokens), &angles, &mut Attend::Causal(None))).get(0)
}

fn apart(one: &Tensor, other: &Tensor) -> f64 {
    (one - other).abs().max().double_value(&[])
}

fn optimizer() -> Optimizer {
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
}

#[test]
fn a_trained_model_of_each_family_opens_in_transformers() {
    let Ok(python) = std::env::var("PLUMB_REAL_PYTHON") else {
        eprintln!("skipped: PLUMB_REAL_PYTHON names no Python with transformers");
        return;
    };
    let saved = FAMILIES.map(|name| {
        let (source, folder) = (checkpoint(name), tempfile::tempdir().unwrap());
        let mut model = open(source.path());
        let before = logits(&model);
        model.prepare_training(&optimizer().into()).unwrap();
        let sequence = Sequence { prompt: TOKENS[..6].to_vec(), completion: TOKENS[6..].to_vec() };
        model.sft_step(&[sequence], Cut::Rows(0)).unwrap();
        assert!(apart(&logits(&model), &before) > 1e-3, "{name}: a step changes the model");
        model.save(folder.path()).unwrap();
        std::fs::write(folder.path().join("tokens.json"), serde_json::to_vec(&TOKENS).unwrap()).unwrap();
        (name, model, folder)
    });
    let folders = saved.iter().map(|(_, _, folder)| folder.path());
    assert!(Command::new(python).arg(tests().join("read_saved.py")).args(folders).status().unwrap().success());
    for (name, model, folder) in &saved {
        let theirs = Tensor::read_safetensors(folder.path().join("logits.safetensors")).unwrap().remove(0).1;
        assert!(apart(&logits(model), &theirs) < 1e-4, "{name}: transformers computes something else");
        assert!(apart(&logits(model), &logits(&open(folder.path()))) < 1e-6, "{name}: reopened");
    }
}

#[test]
fn weights_of_sixteen_bits_load_as_what_they_are() {
    for name in ["llama", "gemma3"] {
        let exact = logits(&open(checkpoint(name).path()));
        for kind in [Kind::BFloat16, Kind::Half] {
            let folder = checkpoint(name);
            let path = folder.path().join("model.safetensors");
            let rounded = |kind: Kind| -> Vec<(String, Tensor)> {
                let all = Tensor::read_safetensors(&path).unwrap().into_iter();
                all.map(|(name, tensor)| (name, tensor.to_kind(kind))).collect()
            };
            let (short, long) = (rounded(kind), rounded(kind).into_iter().map(|(n, t)| (n, t.to_kind(Kind::Float))));
            let long: Vec<(String, Tensor)> = long.collect();
            Tensor::write_safetensors(&short, &path).unwrap();
            let found = logits(&open(folder.path()));
            Tensor::write_safetensors(&long, &path).unwrap();
            assert_eq!(apart(&found, &logits(&open(folder.path()))), 0.0, "{name}, {kind:?}: not the rounded weights");
            let far = apart(&found, &exact);
            assert!(far > 0.0 && far < 1.0, "{name}, {kind:?}: {far}");
        }
    }
}
