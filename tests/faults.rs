//! Faults: killed runners and workers, damaged bytes, full disks, crowds, folders taken away. After each, no wrong
//! artifact is served and the next run finishes with the digests of an undisturbed one.
//!
//! Moments are drawn from fixed seeds. `cargo test` runs a bounded number; `PLUMB_FAULTS=20 cargo test --test scenarios
//! faults::` runs twenty times as many, by hand.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and says why")]

mod bytes;
mod clocks;
mod crowd;
mod disk;
mod folder;
mod kills;
mod mounts;
mod outputs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::harness::Scene;

/// Thirty steps: a folder, seven branches of four, and a gather of them all. Every result is a function of the whole
/// chain before it, so that one wrong byte anywhere shows in `join.text`.
pub const THIRTY: &str = r#"schema = 1

[axes]
part = ["a", "b", "c", "d", "e", "f", "g"]

[source.raw]
path = "raw.txt"

[stage.make]
uses = "command"
inputs.raw = "source.raw"
with.argv = ["sh", "-c", "mkdir {out:folder}; for i in 1 2 3; do sed s/^/$i/ {in:raw} > {out:folder}/$i; done"]
outputs = { folder = "folder" }

[stage.cut]
uses = "command"
inputs.folder = "make.folder"
with.argv = ["sh", "-c", "cat {in:folder}/* | sed s/^/$0/ > {out:lines}", { axis = "part" }]
outputs = { lines = "lines.txt" }

[stage.turn]
uses = "command"
inputs.lines = "cut.lines"
with.argv = ["sh", "-c", "sort -r {in:lines} > {out:lines}"]
outputs = { lines = "lines.txt" }

[stage.sum]
uses = "command"
inputs.lines = "turn.lines"
with.argv = ["sh", "-c", "cksum < {in:lines} > {out:number}"]
outputs = { number = "number.txt" }

[stage.both]
uses = "command"
inputs.lines = "turn.lines"
inputs.number = "sum.number"
with.argv = ["sh", "-c", "cat {in:number} {in:lines} > {out:text}"]
outputs = { text = "text.txt" }

[stage.join]
uses = "command"
inputs.texts = { all = "both.text", over = ["part"] }
with.argv = ["sh", "-c", "grep -rho '\"path\": *\"[^\"]*\"' {in:texts} > /dev/null; for f in $(find -L {in:texts} -type f | sort); do cksum < $f; done > {out:text}"]
outputs = { text = "text.txt" }
"#;

/// What is compared between a disturbed run and an undisturbed one.
const ARTIFACTS: [&str; 7] = [
    "make.folder",
    "cut.lines",
    "turn@part=c.lines",
    "sum@part=d.number",
    "both@part=e.text",
    "both@part=g.text",
    "join.text",
];

/// The scene of the thirty steps.
pub fn thirty() -> Scene {
    let scene = Scene::new(THIRTY);
    scene.write("raw.txt", &(0..400).map(|line| format!("line {line}\n")).collect::<String>());
    scene
}

/// The digests of an undisturbed run.
pub fn expected() -> BTreeMap<&'static str, String> {
    let scene = thirty();
    scene.plumb("run p.toml").exits(0);
    digests(&scene)
}

/// The digests of a scene that ran.
pub fn digests(scene: &Scene) -> BTreeMap<&'static str, String> {
    ARTIFACTS.into_iter().map(|artifact| (artifact, scene.digest(artifact))).collect()
}

/// The next run finishes with the right digests, every byte of every step looked at: a goal that is present would need
/// nothing of what lies before it.
#[track_caller]
pub fn assert_sound(scene: &Scene, expected: &BTreeMap<&'static str, String>, what: &str) {
    scene.plumb("run p.toml make cut@part=* turn@part=* sum@part=* both@part=* join --paranoid").exits(0);
    assert_eq!(&digests(scene), expected, "after {what}");
}

/// How many rounds of a fault: a bounded number, times what `PLUMB_FAULTS` asks for.
pub fn rounds(bounded: usize) -> usize {
    let times = std::env::var("PLUMB_FAULTS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    bounded * times
}

/// The random numbers of a test; the seed is printed with a failure's round.
pub fn random(test: u64) -> StdRng {
    StdRng::seed_from_u64(20_261_123 + test)
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The processes that a process started itself. Not theirs: a shell that loses one end of a pipeline ends well, with
/// half of its output, and no runner can tell.
pub fn children(of: &Child) -> Vec<i32> {
    let parent = |pid: &i32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| parent(pid) == Some(of.id())).collect()
}
