//! Tokens per CPU-second of generation and training against Python's torch, same model, batch, dtype and one thread:
//! each is measured five times in alternation, so that another load on the machine meets both.
//!
//! `cargo bench -p plumb-torch --bench speed -- MODEL_FOLDER PYTHON [generate|train]` (a Python with torch and
//! transformers).

use std::io::Write;
use std::path::Path;
use std::process::Command;

use plumb_engine::io::Manner;
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Request, Sampling, Schedule, Sequence};
use plumb_torch::language_model::LanguageModel;

const ROUNDS: usize = 5;
const PROMPT: usize = 64;
const NEW: usize = 32;
const BATCH: usize = 8;
const TRAIN: (usize, usize) = (4, 256);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder, python, only @ ..] = arguments.as_slice() else {
        tell("usage: speed MODEL_FOLDER PYTHON [generate|train]");
        return;
    };
    plumb_torch::device::keep_memory();
    plumb_torch::device::load_cuda();
    for (what, ours) in [("generate", generate as fn(&Path) -> f64), ("train", train)] {
        if only.first().is_some_and(|only| only != what) {
            continue;
        }
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(ours(Path::new(folder)));
            theirs.push(reference(python, folder, what));
            tell(&format!(
                "{what}: plumb {:.1} python {:.1} tokens/cpu-s",
                own[own.len() - 1],
                theirs[theirs.len() - 1]
            ));
        }
        let ratio = median(&mut own) / median(&mut theirs);
        tell(&format!(
            "{what}: median plumb {:.1} python {:.1} ratio {ratio:.3}",
            median(&mut own),
            median(&mut theirs)
        ));
    }
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the one struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn tell(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output is open");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn open(folder: &Path) -> LanguageModel {
    let manner = Manner { device: "cpu".into(), threads: 1 };
    LanguageModel::open(folder, Dtype::Float32, &manner).expect("a model folder")
}

fn token(row: usize, place: usize) -> u32 {
    (100 + (row * 7919 + place * 104_729) % 40_000) as u32
}

fn generate(folder: &Path) -> f64 {
    let mut model = open(folder);
    let request = |row: usize| Request {
        prompt: (0..PROMPT).map(|place| token(row, place)).collect(),
        samples: 1,
        stream: row as u64,
    };
    let requests: Vec<Request> = (0..BATCH).map(request).collect();
    let mut sampling = Sampling { max_new_tokens: 4, ..Sampling::default() };
    model.generate(&requests, &sampling, &mut |_| {}).expect("generates");
    sampling.max_new_tokens = NEW;
    let start = cpu_seconds();
    let completions = model.generate(&requests, &sampling, &mut |_| {}).expect("generates");
    let drawn: usize = completions.iter().flatten().map(|completion| completion.tokens.len()).sum();
    drawn as f64 / (cpu_seconds() - start)
}

fn train(folder: &Path) -> f64 {
    let mut model = open(folder);
    let optimizer = Optimizer {
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
    };
    model.prepare_training(&optimizer.into()).expect("prepares");
    let (rows, length) = TRAIN;
    // Every token but the first is learnt, as in the reference.
    let sequence = |row: usize| Sequence {
        prompt: vec![token(row, 0)],
        completion: (1..length).map(|place| token(row, place)).collect(),
    };
    let sequences: Vec<Sequence> = (0..rows).map(sequence).collect();
    model.sft_step(&sequences, Cut::Rows(0)).expect("steps");
    let start = cpu_seconds();
    for _ in 0..2 {
        model.sft_step(&sequences, Cut::Rows(0)).expect("steps");
    }
    (2 * rows * length) as f64 / (cpu_seconds() - start)
}

fn reference(python: &str, folder: &str, what: &str) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference.py");
    // The program's own libtorch must not be found by Python's.
    let output = Command::new(python).arg(script).args([folder, what]).env_remove("LD_LIBRARY_PATH").output();
    let output = output.expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("python said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
