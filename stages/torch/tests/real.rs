//! Real weights against transformers, where they are at hand: `PLUMB_REAL_MODELS` names a folder of GGUF files and
//! `PLUMB_REAL_PYTHON` a Python with torch, transformers and gguf. Each file is imported; GGML's own reader must give
//! the very numbers that were imported, transformers must load the folder, and its logits at all positions of ten texts
//! and its greedy continuations must be ours (real_reference.py). Without the variables the test says so and passes.
//!
//! Logits are compared with transformers' in f64: within 1e-4, or, where transformers' own f32 is further than that from
//! them (Gemma's logits reach 50, and its two attentions are 9e-4 apart), no further than that.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic or a line on stderr is the report")]

use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_engine::io::Manner;
use plumb_stages::model::{Dtype, Model, Request, Sampling};
use plumb_torch::batch::Padded;
use plumb_torch::gguf;
use plumb_torch::language_model::LanguageModel;
use plumb_torch::transformer::{Attend, Transformer};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad_guard};

const TEXTS: [&str; 10] = [
    "The capital of France is",
    "Question: Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many \
     clips did Natalia sell altogether in April and May?\nAnswer:",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "In 1969, the first humans walked on the Moon. Twelve people have done so since; the last of them in December 1972.",
    "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller staatlichen Gewalt.",
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89,",
    "こんにちは、世界。今日はとても良い天気ですね。",
    "<html>\n  <head>\n    <title>Hello &amp; welcome</title>\n  </head>\n</html>",
    "Both answers name the right city. A gives a reason for it, B repeats the question. The better answer is \\boxed{A}.",
    "x",
];

/// So many of the texts are continued.
const CONTINUED: usize = 4;
const STEPS: usize = 64;
const CLOSE: f64 = 1e-4;

fn ggufs() -> Option<(Vec<PathBuf>, String)> {
    let (Some(folder), Ok(python)) = (std::env::var_os("PLUMB_REAL_MODELS"), std::env::var("PLUMB_REAL_PYTHON")) else {
        eprintln!("skipped: PLUMB_REAL_MODELS names no folder of GGUF files, or PLUMB_REAL_PYTHON no Python");
        return None;
    };
    let listed = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = listed.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    assert!(!files.is_empty(), "PLUMB_REAL_MODELS has no GGUF file");
    Some((files, python))
}

fn imported(file: &Path, python: &str) -> (tempfile::TempDir, LanguageModel, Vec<Vec<u32>>) {
    let folder = tempfile::tempdir().unwrap();
    gguf::import(file, folder.path()).unwrap();
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let model = LanguageModel::open(folder.path(), Dtype::Float32, &manner).unwrap();
    let ids: Vec<Vec<u32>> =
        TEXTS.iter().map(|text| model.tokenizer().encode(*text, false).unwrap().get_ids().to_vec()).collect();
    let texts = json!({"texts": TEXTS, "ids": ids, "continued": CONTINUED}).to_string();
    std::fs::write(folder.path().join("texts.json"), texts).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_reference.py");
    let ran = Command::new(python).arg(script).arg(folder.path()).arg(file).status().unwrap();
    assert!(ran.success(), "real_reference.py failed on {}", file.display());
    (folder, model, ids)
}

fn stream(model: &Transformer, rows: &[&[u32]]) -> Tensor {
    let padded = Padded::new(rows, model.device);
    let angles = model.angles_from_zero(padded.width);
    let all = 0..model.config.num_hidden_layers;
    model.blocks(all, model.embed(&padded.tokens), &angles, &mut Attend::Causal(None))
}

// The largest difference, at any position of any text.
fn apart(model: &Transformer, folder: &Path, stream: &Tensor, rows: &[(usize, usize)]) -> f64 {
    let of = |(row, (text, length)): (i64, &(usize, usize))| {
        let logits = model.logits(&stream.get(row).narrow(0, 0, *length as i64));
        let path = folder.join(format!("logits.{text}.safetensors"));
        let expected = Tensor::read_safetensors(path).unwrap().remove(0).1;
        (logits - expected).abs().max().double_value(&[])
    };
    (0i64..).zip(rows).map(of).fold(0.0, f64::max)
}

// Bytes, of the kernel's own count of this process.
fn resident(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

#[test]
fn opening_holds_the_weights_once() {
    let Some(folder) = std::env::var_os("PLUMB_REAL_FOLDER").map(PathBuf::from) else {
        eprintln!("skipped: PLUMB_REAL_FOLDER names no model folder");
        return;
    };
    let weights = std::fs::metadata(folder.join("model.safetensors")).unwrap().len() as f64;
    let before = resident("VmRSS");
    let model = LanguageModel::open(&folder, Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }).unwrap();
    let peak = (resident("VmHWM") - before) / weights;
    eprintln!("{peak:.2} times the {weights} bytes of {} weights at most", model.transformer().weights.len());
    // The tokenizer, and one matrix that is fused.
    assert!(peak < 1.3, "{peak}");
}

#[test]
fn real_weights_give_the_logits_and_the_greedy_texts_of_transformers() {
    let Some((files, python)) = ggufs() else { return };
    let _guard = no_grad_guard();
    for file in files {
        let (folder, mut model, ids) = imported(&file, &python);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let lengths: Vec<(usize, usize)> = ids.iter().map(Vec::len).enumerate().collect();
        let transformer = model.transformer();
        let mut alone = 0f64;
        for (row, length) in ids.iter().zip(&lengths) {
            alone = alone.max(apart(transformer, folder.path(), &stream(transformer, &[row]), &[*length]));
        }
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let padded = apart(transformer, folder.path(), &stream(transformer, &rows), &lengths);
        let reference = std::fs::read(folder.path().join("greedy.json")).unwrap();
        let reference: Value = serde_json::from_slice(&reference).unwrap();
        let (noise, largest) = (reference["noise"].as_f64().unwrap(), reference["largest"].as_f64().unwrap());
        let positions: usize = ids.iter().map(Vec::len).sum();
        eprintln!(
            "{name}: logits up to {largest:.1} over {positions} positions: {alone:e} apart alone, {padded:e} padded in a \
             batch; transformers' own f32 {noise:e}"
        );
        let close = CLOSE.max(noise);
        assert!(alone <= close && padded <= close, "{name}: {alone:e} alone, {padded:e} padded");

        let requests: Vec<Request> = (0u64..)
            .zip(&ids[..CONTINUED])
            .map(|(stream, prompt)| Request { prompt: prompt.clone(), samples: 1, stream })
            .collect();
        let sampling = Sampling { max_new_tokens: STEPS, ..Sampling::default() };
        let drawn = model.generate(&requests, &sampling, &mut |_| {}).unwrap();
        let found: Vec<&[u32]> = drawn.iter().map(|completions| completions[0].tokens.as_slice()).collect();
        let expected: Vec<Vec<u32>> = serde_json::from_value(reference["greedy"].clone()).unwrap();
        assert_eq!(found, expected, "{name}: greedy");
        // What the cache says of each token is what the whole sequence says.
        for (request, completions) in requests.iter().zip(&drawn) {
            let whole = [request.prompt.as_slice(), &completions[0].tokens].concat();
            let logits = model.transformer().logits(&stream(model.transformer(), &[&whole]).get(0));
            let first = request.prompt.len() as i64 - 1;
            for (place, (token, logprob)) in (first..).zip(completions[0].tokens.iter().zip(&completions[0].logprobs)) {
                let scored = logits.get(place).log_softmax(-1, Kind::Float).double_value(&[i64::from(*token)]);
                assert!((scored - f64::from(*logprob)).abs() < 1e-3, "{name}: {scored} {logprob} at {place}");
            }
        }
        let steps: usize = found.iter().map(|tokens| tokens.len()).sum();
        eprintln!("{name}: {CONTINUED} greedy texts are the same over {steps} tokens");
    }
}
