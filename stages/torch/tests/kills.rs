//! Training killed at random steps, through both programs: what comes out in the end is what comes out undisturbed, bit
//! for bit, the chain of step digests with it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

mod programs;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use programs::{command_on, plumb};
use serde_json::Value;

/// The trainings of kills.toml: each writes a checkpoint every step or two.
const TRAININGS: [&str; 9] =
    ["plain", "packed", "prefer", "reward", "adapted", "judge", "judge-twice", "actor", "proximal"];

fn command(plumb: &Path, verb: &str, cache: &Path, more: &[&str]) -> Command {
    command_on("tests/kills.toml", plumb, verb, cache, more)
}

fn run(plumb: &Path, cache: &Path) -> Child {
    let mut command = command(plumb, "run", cache, &["--jobs", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn events(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// Runs to the end; what the steps said.
fn finish(plumb: &Path, cache: &Path) -> Vec<Value> {
    let mut child = run(plumb, cache);
    let told: Vec<Value> = events(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{told:#?}");
    told
}

fn digests(plumb: &Path, cache: &Path) -> Vec<String> {
    let digest = |artifact: String| {
        let told = command(plumb, "open", cache, &[&artifact]).output().unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        told["digest"].as_str().unwrap().to_string()
    };
    TRAININGS.iter().flat_map(|step| [format!("{step}.model"), format!("{step}.chain")]).map(digest).collect()
}

/// Where a training step stands, if the event tells it.
fn step(event: &Value) -> Option<u64> {
    (event["event"]["event"] == "progress" && event["event"]["unit"] == "steps")
        .then(|| event["event"]["done"].as_u64())?
}

/// Numbers from a seed, the same on every machine (Knuth's generator).
fn moments(seed: u64) -> impl Iterator<Item = u64> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(seed), next).skip(1).map(|state| state >> 33)
}

/// The training that says that it goes on from a checkpoint.
fn continued(event: &Value) -> Option<String> {
    let message = event["event"]["message"].as_str()?;
    message.starts_with("continuing").then(|| event["step"].as_str().unwrap_or_default().to_string())
}

#[test]
fn training_killed_at_random_steps_gives_the_weights_of_an_undisturbed_run() {
    let Some(plumb) = plumb() else { return };
    let undisturbed = tempfile::tempdir().unwrap();
    finish(&plumb, undisturbed.path());
    let expected = digests(&plumb, undisturbed.path());
    let mut resumed: BTreeSet<String> = BTreeSet::new();
    // Until every kind of training has gone on from a checkpoint somewhere.
    for seed in 0..8 {
        if seed >= 3 && resumed.len() == TRAININGS.len() {
            break;
        }
        let cache = tempfile::tempdir().unwrap();
        for moment in moments(seed).take(4) {
            let mut child = run(&plumb, cache.path());
            let after = usize::try_from(moment % 32).unwrap();
            // So many training steps, and then in the midst of the next one.
            let told = events(&mut child).inspect(|event| resumed.extend(continued(event)));
            let seen = told.filter(|event| step(event).is_some()).take(after + 1).count();
            child.kill().unwrap();
            child.wait().unwrap();
            eprintln!("seed {seed}: killed after {seen} training steps");
        }
        resumed.extend(finish(&plumb, cache.path()).iter().filter_map(continued));
        assert_eq!(digests(&plumb, cache.path()), expected, "seed {seed}");
    }
    assert_eq!(resumed, TRAININGS.map(String::from).into(), "these went on from a checkpoint");
}
