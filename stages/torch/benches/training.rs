//! Training steps beside Python's: seconds and peak memory of an SFT step (against PyTorch eager with fused AdamW) and of
//! a GRPO step with its generation (against TRL's GRPOTrainer), same model, batch, dtype and threads; how long the worker
//! takes to its first step; and on a GPU the share of its peak that training reaches. Every measurement is a fresh process,
//! ours and Python's in turn.
//!
//! `… --bench training -- child parts float32 MODEL_FOLDER 1` says where the time of an SFT step goes.
//!
//! `cargo bench -p plumb-torch --bench training -- MODEL_FOLDER PYTHON [sft|grpo|start …] [THREADS=1] [ROUNDS=5]`
//! (`SFT=4x256`, `GRPO=8x8x128` in the environment make other batches), and
//! `… --bench training -- mfu LAYERSxHIDDENxFEEDxHEADSxKEYSxVOCABULARY ROWSxTOKENS PEAK_TFLOPS`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark's output is its purpose"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use plumb_engine::io::Manner;
use plumb_stages::maths::grpo::{GrpoLoss, ScaleRewards, advantages};
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Request, Rollout, Sampling, Schedule, Sequence, Training};
use plumb_stages::train::tokens;
use plumb_torch::adamw::AdamW;
use plumb_torch::batch::targets;
use plumb_torch::config::Config;
use plumb_torch::head::{self, Head};
use plumb_torch::language_model::LanguageModel;
use plumb_torch::learner::Learner;
use plumb_torch::losses::cross_entropy::CrossEntropy;
use plumb_torch::pass::Pass;
use plumb_torch::step::{Keep, Step};
use plumb_torch::transformer::Transformer;
use plumb_torch::weights;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

const STEPS: usize = 3;
const PROMPT: usize = 64;
const WORDS: [&str; 8] = ["the", "cat", "dog", "sun", "sea", "day", "man", "car"];

/// What a fresh process measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measured {
    /// Seconds a step.
    wall: f64,
    /// CPU-seconds a step.
    cpu: f64,
    /// Resident MiB at most.
    peak: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    plumb_torch::device::keep_memory();
    plumb_torch::device::load_cuda();
    match words.as_slice() {
        ["child", what, dtype, folder, threads] => child(what, dtype, Path::new(folder), threads.parse().unwrap()),
        ["mfu", shape, rows, peak] => mfu(&numbers(shape), &numbers(rows), peak.parse().unwrap()),
        [folder, python, rest @ ..] if Path::new(folder).is_dir() => compare(folder, python, rest),
        _ => println!("usage: training MODEL_FOLDER PYTHON [sft|grpo|start …] [THREADS=1] [ROUNDS=5]"),
    }
}

fn compare(folder: &str, python: &str, rest: &[&str]) {
    let setting = |name: &str, plain: &str| {
        let found = rest.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or(plain).to_string()
    };
    let (threads, rounds) = (setting("THREADS", "1"), setting("ROUNDS", "5").parse().unwrap());
    let asked: Vec<&str> = rest.iter().copied().filter(|one| !one.contains('=')).collect();
    let wanted = |what: &str| asked.is_empty() || asked.contains(&what);
    let own = |what: &str, dtype: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", what, dtype, folder, &threads]);
        told(command)
    };
    if wanted("start") {
        let mut all: Vec<f64> = (0..rounds).map(|_| own("start", "float32").wall).collect();
        println!("start to first step: {:.2} s", median(&mut all));
    }
    let pairs = ["sft", "grpo"].iter().flat_map(|what| ["float32", "bfloat16"].map(|dtype| (*what, dtype)));
    for (what, dtype) in pairs.filter(|(what, _)| wanted(what)) {
        let theirs = || {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/training.py");
            let mut command = Command::new(python);
            // The program's own libtorch must not be found by Python's.
            command.arg(script).args([what, dtype, folder, &threads]).env_remove("LD_LIBRARY_PATH");
            told(command)
        };
        let runs: Vec<[Measured; 2]> = (0..rounds).map(|_| [own(what, dtype), theirs()]).collect();
        report(what, dtype, &runs);
    }
}

// Ratios above 1 are ours: faster, or smaller.
fn report(what: &str, dtype: &str, runs: &[[Measured; 2]]) {
    let figure = |name: &str, get: fn(&Measured) -> f64| {
        let of = |side: usize| median(&mut runs.iter().map(|run| get(&run[side])).collect::<Vec<_>>());
        let (own, theirs) = (of(0), of(1));
        println!("{what} {dtype}: {name} a step: plumb {own:.2} python {theirs:.2} python/plumb {:.3}", theirs / own);
    };
    figure("wall s", |one| one.wall);
    figure("cpu s", |one| one.cpu);
    figure("peak MiB", |one| one.peak);
}

fn told(mut command: Command) -> Measured {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.trim().lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn numbers(text: &str) -> Vec<i64> {
    text.split('x').map(|number| number.parse().unwrap()).collect()
}

fn batch(name: &str, plain: &str) -> Vec<usize> {
    let text = std::env::var(name).unwrap_or(plain.into());
    numbers(&text).into_iter().map(|number| number as usize).collect()
}

fn child(what: &str, dtype: &str, folder: &Path, threads: usize) {
    let started = Instant::now();
    let dtype = if dtype == "bfloat16" { Dtype::Bfloat16 } else { Dtype::Float32 };
    let manner = Manner { device: "cpu".into(), threads };
    let held = tempfile::tempdir().unwrap();
    let folder = if what == "grpo" { endless(folder, held.path()) } else { folder.to_path_buf() };
    let mut model = LanguageModel::open(&folder, dtype, &manner).unwrap();
    model.prepare_training(&training()).unwrap();
    let measured = match what {
        "start" => Measured { wall: started.elapsed().as_secs_f64(), cpu: cpu_seconds(), peak: peak() },
        "sft" => sft(&mut model),
        "parts" => return parts(&model),
        _ => grpo(&mut model),
    };
    println!("{}", serde_json::to_string(&measured).unwrap());
}

// Completion lengths are forced: the end token is one that is never drawn.
fn endless(folder: &Path, place: &Path) -> PathBuf {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        std::os::unix::fs::symlink(std::path::absolute(entry.path()).unwrap(), place.join(entry.file_name())).unwrap();
    }
    let _ = std::fs::remove_file(place.join("generation_config.json"));
    std::fs::write(place.join("generation_config.json"), json!({"eos_token_id": 49_000}).to_string()).unwrap();
    place.to_path_buf()
}

fn training() -> Training {
    Optimizer {
        learning_rate: 1e-5,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: 10,
    }
    .into()
}

fn token(row: usize, place: usize) -> u32 {
    (100 + (row * 7919 + place * 104_729) % 40_000) as u32
}

// Every token but the first is learnt, as in the reference.
fn rows(rows: usize, length: usize, vocabulary: u32) -> Vec<Sequence> {
    let sequence = |row: usize| Sequence {
        prompt: vec![token(row, 0) % vocabulary],
        completion: (1..length).map(|place| token(row, place) % vocabulary).collect(),
    };
    (0..rows).map(sequence).collect()
}

fn timed(mut step: impl FnMut()) -> Measured {
    step();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    (0..STEPS).for_each(|_| step());
    let steps = STEPS as f64;
    Measured { wall: start.elapsed().as_secs_f64() / steps, cpu: (cpu_seconds() - cpu) / steps, peak: peak() }
}

fn sft(model: &mut LanguageModel) -> Measured {
    let shape = batch("SFT", "4x256");
    let sequences = rows(shape[0], shape[1], u32::MAX);
    timed(|| drop(model.sft_step(&sequences, Cut::Rows(0)).unwrap()))
}

// Where the time of an SFT step goes: CPU-seconds of its parts, each by itself.
fn parts(model: &LanguageModel) {
    let shape = batch("SFT", "4x256");
    let sequences = rows(shape[0], shape[1], u32::MAX);
    let transformer = model.transformer();
    let places = Learner::places(transformer, None);
    let masters: Vec<Tensor> = places.iter().map(|place| transformer.weights[*place].to_kind(Kind::Float)).collect();
    let mut adamw = AdamW::new(&masters, masters.len(), &training().optimizer, None);
    let shapes: Vec<Vec<i64>> = masters.iter().map(Tensor::size).collect();
    let targets = targets(&sequences, transformer.device);
    let count = targets.numel() as f64;
    let loss = CrossEntropy { tokens: count };
    let weight = transformer.weights[transformer.head()].to_kind(Kind::Float);
    let hidden = Tensor::randn([count as i64, transformer.config.hidden_size], (Kind::Float, transformer.device));
    let step = || Step::new(transformer, &places, adamw.leaves(&shapes), Keep::Activations);
    let forward = timed(|| drop(Pass::new(&step().model, &sequences, 0, None).run(&step().model)));
    let head = timed(|| {
        let mut learns = weight.zeros_like();
        drop(head::pass(&hidden, &targets, Head { weight: &weight, cap: None }, Some(&mut learns), &loss));
    });
    let whole = timed(|| {
        let mut step = step();
        let pass = Pass::new(&step.model, &sequences, 0, None);
        step.add(pass, &targets, &loss);
    });
    let gradients: Vec<Tensor> = masters.iter().map(|master| master.ones_like() * 1e-3).collect();
    let update = timed(|| _ = adamw.step(&gradients, 0.5));
    let backward = whole.cpu - forward.cpu - head.cpu;
    println!(
        "cpu s: blocks forward {:.2}, head forward and backward {:.2}, blocks backward {backward:.2}, AdamW {:.2}",
        forward.cpu, head.cpu, update.cpu
    );
}

fn grpo(model: &mut LanguageModel) -> Measured {
    let shape = batch("GRPO", "8x8x128");
    let (prompts, group, length) = (shape[0], shape[1], shape[2]);
    let text = |number: usize| format!(" {}", WORDS[number % WORDS.len()]).repeat(PROMPT);
    let encoded: Vec<Vec<u32>> = (0..prompts).map(|number| tokens::encode(model, &text(number)).unwrap()).collect();
    let sampling = Sampling { temperature: 1.0, max_new_tokens: length, seed: 1, ..Sampling::default() };
    let loss = GrpoLoss { max_completion_length: length, ..GrpoLoss::default() };
    let mut stream = 0;
    timed(|| {
        let request = |prompt: &Vec<u32>| {
            stream += 1;
            Request { prompt: prompt.clone(), samples: group, stream }
        };
        let requests: Vec<Request> = encoded.iter().map(request).collect();
        let drawn = model.generate(&requests, &sampling, &mut |_| {}).unwrap();
        assert!(drawn.iter().flatten().all(|one| one.tokens.len() == length), "a completion ended early");
        let rewards: Vec<Option<f64>> = (0..prompts * group).map(|number| Some((number % 2) as f64)).collect();
        let advantages = advantages(&rewards, group, ScaleRewards::Group);
        let pairs =
            requests.iter().zip(&drawn).flat_map(|(request, group)| group.iter().map(move |one| (request, one)));
        let rollouts: Vec<Rollout> = pairs
            .zip(advantages)
            .map(|((request, one), advantage)| Rollout {
                sequence: Sequence { prompt: request.prompt.clone(), completion: one.tokens.clone() },
                advantage,
                old_logprobs: Vec::new(),
                ref_logprobs: Vec::new(),
                counted: true,
            })
            .collect();
        model.grpo_step(&rollouts, &loss, group).unwrap();
    })
}

/// Model FLOPs a token of a training step, forward and backward: 6 for each weight of a matrix product (the head's among
/// them, the embedding's look-up not), and 6 · layers · queries · tokens for causal attention (half of the square).
fn flops_a_token(config: &Config, length: i64) -> f64 {
    let (hidden, feed) = (config.hidden_size as f64, config.intermediate_size as f64);
    let (queries, keys) = (config.num_attention_heads as f64, config.num_key_value_heads as f64);
    let head = config.head_dim as f64;
    let block = hidden * head * (2.0 * queries + 2.0 * keys) + 3.0 * hidden * feed;
    let layers = config.num_hidden_layers as f64;
    6.0 * (layers * block + hidden * config.vocab_size as f64) + 6.0 * layers * queries * head * length as f64
}

// Random weights made where they are used; bf16 blocks, f32 masters.
fn mfu(shape: &[i64], batch: &[i64], peak_tflops: f64) {
    let &[layers, hidden, feed, heads, keys, vocabulary] = shape else { return println!("six numbers make a shape") };
    let &[count, length] = batch else { return println!("a batch is ROWSxTOKENS") };
    let config = Config::from_json(json!({"model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": feed, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": keys, "max_position_embeddings": length, "tie_word_embeddings": true}))
    .unwrap();
    let device = if tch::Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let drawn = |part: &weights::Part| {
        let rows: i64 = part.sources(&config).iter().map(|(_, shape)| shape[0]).sum();
        let size: Vec<i64> = match part.sources(&config)[0].1.as_slice() {
            [_, columns] => vec![rows, *columns],
            _ => vec![rows],
        };
        let kind = if part.layer().is_some() { Kind::BFloat16 } else { Kind::Float };
        (Tensor::randn(size.as_slice(), (Kind::Float, device)) * 0.02).to_kind(kind)
    };
    let all: Vec<Tensor> = weights::parts(&config).iter().map(drawn).collect();
    let flops = flops_a_token(&config, length);
    let mut transformer = Transformer::new(config, all, Kind::BFloat16, device);
    let places = Learner::places(&transformer, None);
    let masters: Vec<Tensor> = places.iter().map(|place| transformer.weights[*place].to_kind(Kind::Float)).collect();
    let mut learner = Learner::new(&mut transformer, places, &masters, &training());
    drop(masters);
    let sequences = rows(count as usize, length as usize, vocabulary as u32);
    // Reading the report waits for the device.
    let measured = timed(|| drop(learner.sft_step(&mut transformer, &sequences, Cut::Rows(0))));
    let tokens = (count * length) as f64 / measured.wall;
    let share = tokens * flops / (peak_tflops * 1e12);
    println!(
        "{device:?}: {tokens:.0} tokens/s, {:.3e} FLOPs a token, {:.1} % of {peak_tflops} TFLOP/s",
        flops,
        share * 100.0
    );
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the one struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

// MiB resident at most so far.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
}
