//! The miniature through both programs, `plumb` and `plumb-torch`, with too few steps to learn anything: what runs, what
//! is a hit, and what a change re-runs. The numbers of a real run are in README.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

mod programs;

use std::path::Path;

use programs::{command, plumb};

/// The steps that ran and the steps that were hits, from `--json`'s events.
struct Ran {
    ran: Vec<String>,
    hits: usize,
    text: String,
}

fn run(plumb: &Path, cache: &Path, more: &[&str]) -> Ran {
    let output = command(plumb, "run", cache, more).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    let events = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = |what: &str| events.iter().filter(|event| event["what"] == what).cloned().collect::<Vec<_>>();
    let ran = told("finished").iter().map(|event| event["step"].as_str().unwrap().to_string()).collect();
    Ran { ran, hits: told("hit").len(), text }
}

#[test]
fn the_miniature_runs_end_to_end_then_is_all_hits_and_a_new_cue_rate_spares_the_warm_start() {
    let Some(plumb) = plumb() else { return };
    let cache = tempfile::tempdir().unwrap();
    let first = run(&plumb, cache.path(), &[]);
    for step in
        ["warm", "train", "train@arm=r-align", "actor@arm=r-align", "verdict", "downstream-verdict", "correlation"]
    {
        assert!(first.ran.iter().any(|ran| ran == step), "`{step}` did not run\n{}", first.text);
    }
    let again = run(&plumb, cache.path(), &[]);
    assert_eq!(again.ran, Vec::<String>::new(), "{}", again.text);
    assert_eq!(again.hits, first.ran.len() + first.hits, "{}", again.text);

    let changed = run(&plumb, cache.path(), &["--set", "cue_rate=0.6"]);
    for step in ["rl-pairs", "rl-gold", "train", "train@arm=r-align"] {
        assert!(changed.ran.iter().any(|ran| ran == step), "`{step}` did not run\n{}", changed.text);
    }
    for step in ["warm-pairs", "warm-gold", "init", "warm", "policy", "bench-gold"] {
        assert!(!changed.ran.iter().any(|ran| ran == step), "`{step}` ran again\n{}", changed.text);
    }
}
