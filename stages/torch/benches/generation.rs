//! Generation beside transformers' `generate`: the same prompts, lengths, dtype and threads, greedy, each measurement a
//! fresh process, ours and Python's in turn. All sequences write the same number of tokens: what a freed slot saves is not
//! in it.
//!
//! `cargo bench -p plumb-torch --bench generation -- MODEL_FOLDER PYTHON [DTYPE=float32] [THREADS=1] [ROUNDS=3] [NEW=64]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use plumb_engine::io::Manner;
use plumb_stages::model::{Dtype, Model, Request, Sampling, Watch};
use plumb_torch::generate::{Ends, generate_in};
use plumb_torch::language_model::LanguageModel;

const PROMPT: usize = 64;
const BATCHES: [usize; 3] = [1, 8, 32];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    plumb_torch::device::keep_memory();
    plumb_torch::device::load_cuda();
    match words.as_slice() {
        ["child", folder, dtype, threads, batch, new] => {
            child(Path::new(folder), dtype, threads.parse().unwrap(), batch.parse().unwrap(), new.parse().unwrap());
        }
        [folder, python, rest @ ..] if Path::new(folder).is_dir() => compare(folder, python, rest),
        _ => println!("usage: generation MODEL_FOLDER PYTHON [DTYPE=float32] [THREADS=1] [ROUNDS=3] [NEW=64]"),
    }
}

fn compare(folder: &str, python: &str, rest: &[&str]) {
    let setting = |name: &str, plain: &str| {
        let found = rest.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or(plain).to_string()
    };
    let (dtype, threads, new) = (setting("DTYPE", "float32"), setting("THREADS", "1"), setting("NEW", "64"));
    let rounds: usize = setting("ROUNDS", "3").parse().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/generation.py");
    for batch in BATCHES {
        let batch = batch.to_string();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut command = Command::new(std::env::current_exe().unwrap());
            ours.push(took(command.args(["child", folder, &dtype, &threads, &batch, &new])));
            let mut command = Command::new(python);
            command.arg(&script).args([folder, &dtype, &threads, &batch, &PROMPT.to_string(), &new]);
            theirs.push(took(command.env("OMP_NUM_THREADS", &threads)));
        }
        let (own, other) = (median(&ours), median(&theirs));
        println!(
            "{dtype} batch {batch}: plumb {:.2} s, transformers {:.2} s: {:.2} times wall, {:.2} times CPU",
            own.0,
            other.0,
            other.0 / own.0,
            other.1 / own.1
        );
    }
}

fn took(command: &mut Command) -> (f64, f64) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    match (numbers.next(), numbers.next()) {
        (Some(wall), Some(cpu)) => (wall, cpu),
        _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn median(times: &[(f64, f64)]) -> (f64, f64) {
    let middle = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    (middle(times.iter().map(|time| time.0).collect()), middle(times.iter().map(|time| time.1).collect()))
}

fn child(folder: &Path, dtype: &str, threads: usize, batch: usize, new: usize) {
    let dtype = if dtype == "bfloat16" { Dtype::Bfloat16 } else { Dtype::Float32 };
    let model = LanguageModel::open(folder, dtype, &Manner { device: "cpu".into(), threads }).unwrap();
    let token = |row: usize, place: usize| (100 + (row * 7919 + place * 104_729) % 40_000) as u32;
    let request = |row: usize| Request {
        prompt: (0..PROMPT).map(|place| token(row, place)).collect(),
        samples: 1,
        stream: row as u64,
    };
    let requests: Vec<Request> = (0..batch).map(request).collect();
    let ends = Ends { eos: &[], tokenizer: model.tokenizer() };
    let run = |requests: &[Request], max_new_tokens: usize| {
        let sampling = Sampling { max_new_tokens, ..Sampling::default() };
        let most = i64::try_from(batch).unwrap();
        generate_in(model.transformer(), &ends, requests, &sampling, most, &mut Silent).unwrap();
    };
    run(&requests[..1], 2);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    run(&requests, new);
    println!("{} {}", began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
}

struct Silent;

impl Watch for Silent {
    fn drawn(&mut self, _tokens: u64) {}
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the one struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
