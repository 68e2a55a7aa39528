//! `plumb cache disown` and `own`: what is marked is not used, nor what was made from it, until it is taken back.

use crate::harness::Scene;
use crate::scenarios::reruns;

/// A chain that ran.
fn chain() -> Scene {
    let scene = reruns::chain();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene
}

fn steps(scene: &Scene, line: &str) -> Vec<(String, bool, bool)> {
    let listed = scene.plumb(line).exits(0).json();
    let is = |line: &serde_json::Value, what: &str| line[what].as_bool().unwrap();
    let lines = listed.as_array().unwrap().iter();
    lines.map(|line| (line["step"].as_str().unwrap().into(), is(line, "disowned"), is(line, "derived"))).collect()
}

#[test]
fn a_disowned_step_is_listed_with_what_was_made_from_it_until_it_is_taken_back() {
    let scene = chain();
    let told = scene.plumb("cache disown p.toml prep --reason leaked -n --json").exits(0).json();
    assert_eq!(
        (told["dry_run"].as_bool(), told["disowned"][0]["step"].as_str(), told["derived"].as_array().map(Vec::len)),
        (Some(true), Some("prep"), Some(2))
    );
    assert_eq!(steps(&scene, "cache ls --disowned --json"), [], "it was only said");
    scene.plumb("cache disown p.toml prep --reason leaked").exits(0);
    let row = |step: &str, disowned, derived| (step.to_owned(), disowned, derived);
    let all = [row("count", false, true), row("prep", true, false), row("report", false, true)];
    assert_eq!(steps(&scene, "cache ls --disowned --json"), all);
    let why = scene.plumb("why p.toml prep").exits(0).stdout;
    assert!(why.contains("its result is disowned: leaked (") && why.contains("@"), "{why}");

    assert_eq!(scene.plumb("cache own p.toml prep").exits(0).stderr.matches("took back prep").count(), 1);
    assert_eq!(steps(&scene, "cache ls --disowned --json"), []);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "all of it is used again");
    assert_eq!(scene.plumb("cache own p.toml prep").exits(0).stderr, "none of these is disowned\n");
}

#[test]
fn a_result_is_disowned_and_taken_back_by_its_key() {
    let scene = chain();
    let listed = scene.plumb("cache ls count --json").exits(0).json();
    let key = listed[0]["key"].as_str().unwrap().to_owned();
    scene.plumb(&format!("cache disown --key {} --reason doubtful", &key[..16])).exits(0);
    assert_eq!(steps(&scene, "cache ls count --disowned --json").len(), 1);
    scene.plumb(&format!("cache own {}", &key[..16])).exits(0);
    assert_eq!(steps(&scene, "cache ls --disowned --json"), []);
}

#[test]
fn what_is_wrong_with_the_command_line_is_told() {
    let scene = chain();
    let stderr = |line: &str| scene.plumb(line).exits(2).stderr;
    assert!(stderr("cache disown --signer bob --reason x").contains("there is no key of `bob`"));
    assert!(stderr("cache disown --signer bob --since soon --reason x").contains("2026-11-01"));
    assert!(stderr("cache disown p.toml prep").contains("--reason"));
    assert!(stderr("cache disown --reason x").contains("required"));
}
