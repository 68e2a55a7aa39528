//! `plumb verify` on real trainings, through both programs: on one machine they are reproduced bit for bit, step
//! by step, and where a CPU's other instructions round otherwise, it is told from which step on.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

mod programs;

use std::path::Path;
use std::process::Command;

use programs::{command, plumb};
use serde_json::Value;
use tempfile::TempDir;

/// Supervised and reinforcement learning.
const TRAININGS: [&str; 2] = ["warm", "train@arm=r-align"];

/// What a command says that ends well.
fn told(mut command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn json(command: Command) -> Value {
    serde_json::from_slice(&told(command)).unwrap()
}

/// Both trainings, made; their cache.
fn trained(plumb: &Path) -> TempDir {
    let cache = tempfile::tempdir().unwrap();
    told(command(plumb, "run", cache.path(), &TRAININGS));
    cache
}

fn verify(plumb: &Path, cache: &Path, training: &str) -> Command {
    let certificate = cache.join("certificate.json");
    command(plumb, "verify", cache, &[training, "--certificate", certificate.to_str().unwrap()])
}

/// The verdicts of metrics, model and steps.
fn verdicts(repetition: &Value) -> Vec<&str> {
    repetition["outputs"].as_object().unwrap().values().map(|one| one["verdict"].as_str().unwrap()).collect()
}

#[test]
fn a_training_is_reproduced_bit_for_bit_and_its_chain_has_a_link_for_every_step() {
    let Some(plumb) = plumb() else { return };
    let cache = trained(&plumb);
    for (training, steps) in TRAININGS.into_iter().zip([20, 2]) {
        let told = json(verify(&plumb, cache.path(), training));
        let again = &told["repetitions"][0];
        assert_eq!(verdicts(again), ["bit-equal"; 3], "{training}\n{told:#}");
        assert_eq!((&again["first_diverging_step"], &again["witness"]), (&Value::Null, &false.into()));
        assert_eq!(told["determinism"], "seeded");

        let chain = json(command(&plumb, "open", cache.path(), &[&format!("{training}.chain")]));
        let chain = std::fs::read_to_string(chain["path"].as_str().unwrap()).unwrap();
        let links: Vec<Value> = chain.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<u64> = links.iter().map(|link| link["step"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=steps).collect::<Vec<_>>(), "{training}");
        assert!(links.iter().all(|link| link["chain"].as_str().unwrap().len() == 64));
        assert!(links.last().unwrap()["weights"].is_string(), "the last step's weights are digested");
    }
}

#[test]
fn other_instructions_of_the_cpu_are_within_tolerance_and_their_first_step_is_told() {
    let Some(plumb) = plumb() else { return };
    let cache = trained(&plumb);
    for (training, steps) in TRAININGS.into_iter().zip([20, 2]) {
        let mut verify = verify(&plumb, cache.path(), training);
        // libtorch's and MKL's own settings; on a CPU that has nothing newer they change nothing.
        verify.envs([("ATEN_CPU_CAPABILITY", "default"), ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2")]);
        let told = json(verify);
        let again = &told["repetitions"][0];
        let differs = verdicts(again).iter().any(|verdict| *verdict != "bit-equal");
        assert!(!verdicts(again).contains(&"diverged"), "{training}\n{told:#}");
        assert_eq!(again["witness"], differs, "{training}");
        let parted = again["first_diverging_step"].as_u64();
        assert_eq!(parted.is_some(), differs, "{training}\n{told:#}");
        assert!(parted.is_none_or(|step| (1..=steps).contains(&step)), "{training}\n{told:#}");
    }
}
