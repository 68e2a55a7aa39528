//! What gradient checkpointing is for: the memory of a step. Alone in its file, for the peak is the whole process's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

use plumb_stages::model::{Cut, Optimizer, Schedule, Sequence, Training};
use plumb_torch::config::Config;
use plumb_torch::learner::Learner;
use plumb_torch::transformer::Transformer;
use plumb_torch::weights;
use serde_json::json;
use tch::{Device, Kind, Tensor};

const ROWS: u32 = 8;
const LENGTH: u32 = 256;

fn step(gradient_checkpointing: bool) -> String {
    let config = Config::from_json(json!({"model_type": "llama", "vocab_size": 64, "hidden_size": 64,
        "intermediate_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "tie_word_embeddings": true}))
    .unwrap();
    let weight = |part: weights::Part| {
        let sources: Vec<Tensor> = part
            .sources(&config)
            .iter()
            .map(|(_, shape)| {
                let size = shape.iter().product::<i64>();
                (Tensor::arange(size, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape(shape) * 0.1
            })
            .collect();
        part.fuse(&config, &sources)
    };
    let all: Vec<Tensor> = weights::parts(&config).into_iter().map(weight).collect();
    let mut model = Transformer::new(config, all, Kind::Float, Device::Cpu);
    let places = Learner::places(&model, None);
    let masters: Vec<Tensor> = places.iter().map(|place| model.weights[*place].copy()).collect();
    let optimizer = Optimizer {
        learning_rate: 1e-3,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: 1,
    };
    let training = Training { gradient_checkpointing, ..optimizer.into() };
    let mut learner = Learner::new(&mut model, places, &masters, &training);
    let row = |row: u32| Sequence {
        prompt: vec![row],
        completion: (1..LENGTH).map(|place| (row * 7 + place * 5) % 64).collect(),
    };
    let report = learner.sft_step(&mut model, &(0..ROWS).map(row).collect::<Vec<_>>(), Cut::Rows(0));
    assert!(report.loss.is_finite());
    learner.digest()
}

// MiB that a step takes at most beyond what was there; `None` where the kernel keeps no such peak.
fn peak_of(work: impl FnOnce()) -> Option<f64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let line = |name: &str| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name).map(str::to_string))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    let before = line("VmRSS:")?;
    work();
    Some((line("VmHWM:")? - before) / 1024.0)
}

#[test]
fn gradient_checkpointing_takes_less_than_half_the_memory() {
    tch::set_num_threads(1);
    // Once before, so that libtorch's own pools are there.
    let expected = step(true);
    let Some(again) = peak_of(|| assert_eq!(step(true), expected)) else {
        eprintln!("skipped: this kernel does not reset a process's peak memory");
        return;
    };
    let plain = peak_of(|| assert_eq!(step(false), expected)).unwrap();
    eprintln!("peak of a step: {plain:.0} MiB, with gradient checkpointing {again:.0} MiB");
    assert!(again < plain / 2.0, "{again:.0} MiB against {plain:.0} MiB");
}
