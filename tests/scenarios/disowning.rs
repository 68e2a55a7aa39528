//! `plumb cache disown` and `own`: what is marked is not used, nor what was made from it, until it is taken back.

use std::fs;

use plumb_cache::Digest;

use crate::harness::Scene;
use crate::scenarios::people::{SETTINGS, Shared};
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

#[test]
fn results_of_a_signer_are_disowned_from_a_date_on_and_what_was_made_from_them_is_made_again() {
    let lab = Shared::new();
    let (bob, alice) = (lab.person(), lab.person());
    bob.scene.plumb("run p.toml count").exits(0);
    bob.scene.executed();
    let between = jiff::Timestamp::now();
    bob.makes_and_pushes();
    alice.trusts("bob", &bob);
    alice.scene.plumb("cache pull p.toml prep count report").exits(0);
    alice.scene.edit("word = \"lines\"", "word = \"rows\"");
    assert_eq!(alice.runs(), "report");
    let told = alice.scene.plumb(&format!("cache disown --signer bob --since {between} --reason x -n --json")).exits(0);
    let steps = |lines: &serde_json::Value| -> Vec<String> {
        lines.as_array().unwrap().iter().map(|line| line["step"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(&told.json()["disowned"]), ["report"], "what bob had signed as made before stays");
    let told = alice.scene.plumb("cache disown --signer bob --reason leaked --json").exits(0).json();
    let mut disowned = steps(&told["disowned"]);
    disowned.sort();
    assert_eq!(
        (disowned, steps(&told["derived"])),
        (["count", "prep", "report"].map(String::from).into(), vec!["report".into()])
    );
    let plan = alice.scene.plumb("plan p.toml").exits(0).raw;
    assert!(plan.contains("leaked ("), "{plan}");
    assert_eq!(alice.runs(), "count prep", "the same bytes again: her report stands on what she has made herself");
    assert_eq!(alice.runs(), "");
}

#[test]
fn a_shared_mark_is_obeyed_by_whoever_trusts_its_signer_and_only_seen_by_others() {
    let lab = Shared::new();
    let (alice, bob, dave, carol) = (lab.maker(), lab.person(), lab.person(), lab.person());
    for reader in [&bob, &carol] {
        reader.trusts("alice", &alice);
        assert_eq!(reader.runs(), "");
    }
    dave.trusts("alice", &alice);
    bob.scene
        .plumb("key distrust nobody ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        .exits(0);
    let told = alice.scene.plumb("cache disown p.toml count --reason miscounted --share").exits(0);
    assert!(told.stderr.ends_with("shared in `lab`: whoever trusts you obeys it\n"), "{}", told.stderr);
    assert_eq!(lab.objects("disowned").len(), 1);

    let why = bob.why("report");
    assert!(
        why.contains("its result was made from the disowned result of `count`: miscounted (shared by alice, 2"),
        "{why}"
    );
    let plan = bob.scene.plumb("plan p.toml").exits(0).raw;
    assert!(plan.contains("miscounted (shared by alice"), "{plan}");
    assert_eq!(bob.runs(), "count", "the same bytes come out, and may be used");
    assert_eq!(bob.runs(), "");
    assert!(bob.why("count").contains("disowned by alice: miscounted ("), "{}", bob.why("count"));

    let plan = dave.scene.plumb("plan p.toml").exits(0).raw;
    assert!(
        plan.contains("miscounted (shared by alice"),
        "what a layer offers, in the very plan that reads it: {plan}"
    );
    assert_eq!(dave.runs(), "count");

    carol.scene.write(SETTINGS, &carol.scene.read(SETTINGS).replacen("write", "trust = []\nwrite", 1));
    assert!(carol.why("report").contains("is a hit"), "{}", carol.why("report"));
    carol.scene.plumb("cache pull p.toml count").exits(1);
    assert!(carol.scene.plumb("plan p.toml").exits(0).raw.contains(", 0 to run"));
}

#[test]
fn a_shared_mark_is_taken_back_by_its_signer_and_an_old_list_put_back_changes_nothing() {
    let lab = Shared::new();
    let (alice, bob) = (lab.maker(), lab.person());
    bob.trusts("alice", &alice);
    assert_eq!(bob.runs(), "");
    alice.scene.plumb("cache disown p.toml report --reason doubtful --share").exits(0);
    let mark = lab.objects("disowned").remove(0);
    assert!(bob.why("report").contains("its result is disowned: doubtful (shared by alice"));
    let told = alice.scene.plumb("cache own p.toml report --share").exits(0);
    assert!(told.stderr.ends_with("what you had shared of it in `lab` is taken back, too\n"), "{}", told.stderr);
    assert_eq!(lab.objects("disowned").len(), 2);
    let why = bob.why("report");
    assert!(why.contains("is a hit") && why.contains("disowned by alice once, and taken back at 2"), "{why}");

    // Whoever may write there takes the later list away, and puts the older one in its place.
    let later = lab.objects("disowned").into_iter().find(|path| *path != mark).unwrap();
    fs::remove_file(&later).unwrap();
    fs::remove_file(bob.scene.path("cache/v1/marks").join(format!(
        "{}.{}",
        mark.parent().unwrap().file_name().unwrap().to_str().unwrap(),
        mark.file_name().unwrap().to_str().unwrap()
    )))
    .unwrap();
    let why = bob.why("report");
    assert!(why.contains("is a hit") && why.contains("and taken back at 2"), "the higher number counts: {why}");
    assert_eq!(bob.runs(), "");
}

#[test]
fn forged_cut_and_swapped_marks_are_refused_with_a_reason() {
    let lab = Shared::new();
    let (alice, bob, mallory) = (lab.maker(), lab.person(), lab.person());
    bob.trusts("alice", &alice);
    assert_eq!(bob.runs(), "");
    mallory.trusts("alice", &alice);
    mallory.runs();
    mallory.scene.plumb("cache disown p.toml report --reason spite --share").exits(0);
    let hers = lab.objects("disowned").remove(0);
    let text = fs::read_to_string(&hers).unwrap();
    fs::remove_file(&hers).unwrap();
    let folder = lab.path("plumb-1/disowned").join(alice.key.trim_start_matches("ed25519:"));
    fs::create_dir_all(&folder).unwrap();
    let alices = text.replacen(mallory.key.trim_start_matches("ed25519:"), alice.key.trim_start_matches("ed25519:"), 1);
    for (bytes, reason) in [
        (text.clone(), format!("they stand among those of `{}`", alice.key)),
        (alices, format!("it was not signed so by `{}`", alice.key)),
        (text[..text.len() - 9].to_owned(), format!("it was not signed so by `{}`", mallory.key)),
        (text.replace("spite", "sprite"), format!("it was not signed so by `{}`", mallory.key)),
        (String::new(), "it has no header".to_owned()),
    ] {
        let place = folder.join(Digest::of(bytes.as_bytes()).to_string());
        fs::write(&place, bytes).unwrap();
        let told = bob.scene.plumb("why p.toml report").exits(0);
        assert!(told.raw.contains("is a hit"), "{}", told.raw);
        let warning = format!("warning: marks in the layer `lab` are not obeyed: {reason}");
        assert!(told.raw_stderr.contains(&warning), "{}", told.raw_stderr);
        fs::remove_file(place).unwrap();
    }
    let misnamed = folder.join(Digest::of(b"").to_string());
    fs::write(&misnamed, &text).unwrap();
    let told = bob.scene.plumb("why p.toml report").exits(0);
    assert!(told.raw_stderr.contains("another digest than their name says"), "{}", told.raw_stderr);
}

#[test]
fn a_mark_by_somebody_untrusted_makes_nothing_unusable() {
    let lab = Shared::new();
    let (alice, bob, mallory) = (lab.maker(), lab.person(), lab.person());
    bob.trusts("alice", &alice);
    mallory.trusts("alice", &alice);
    mallory.runs();
    mallory.scene.plumb("cache disown --signer alice --reason spite --share").exits(0);
    assert_eq!(bob.runs(), "", "from the layer");
    let why = bob.why("report");
    let seen = format!("disowned by {}, not trusted: spite (", mallory.signature());
    assert!(why.contains("is a hit") && why.contains(&seen), "{why}");
    let anybody = lab.person();
    anybody.scene.plumb("run p.toml --trust-any").exits(0);
    assert_eq!(anybody.scene.executed(), "", "not even where everybody's results are believed");
    assert_eq!(anybody.runs(), "");
}

#[test]
fn what_a_signer_has_in_a_layer_is_marked_for_others_who_have_not_pulled_it_yet() {
    let lab = Shared::new();
    let (bob, alice, carol) = (lab.maker(), lab.person(), lab.person());
    alice.trusts("bob", &bob);
    carol.trusts("bob", &bob);
    carol.trusts("alice", &alice);
    let told = alice.scene.plumb("cache disown --signer bob --reason leaked --share --json").exits(0).json();
    assert_eq!((told["disowned"].as_array().unwrap().len(), &told["shared"]), (3, &serde_json::json!("lab")));
    assert_eq!(carol.runs(), "count prep report");
    let plan = alice.scene.plumb("plan p.toml").exits(0).raw;
    assert!(!plan.contains("signed by bob"), "{plan}");
}

#[test]
fn a_reader_may_use_what_a_colleague_has_disowned_and_a_project_may_not_decide_it() {
    let lab = Shared::new();
    let (alice, bob) = (lab.maker(), lab.person());
    bob.trusts("alice", &alice);
    assert_eq!(bob.runs(), "");
    alice.scene.plumb("cache disown p.toml report --reason doubtful --share").exits(0);
    assert!(bob.why("report").contains("shared by alice"));
    bob.scene.write("plumb.toml", "trust = []\n");
    assert!(bob.why("report").contains("shared by alice"), "a project that trusts nobody lifts no mark");
    fs::remove_file(bob.scene.path("plumb.toml")).unwrap();
    let key = alice.scene.plumb("cache ls report --json").exits(0).json()[0]["key"].as_str().unwrap().to_owned();
    bob.scene.plumb(&format!("cache own {}", &key[..16])).exits(0);
    assert_eq!(bob.runs(), "");
}
