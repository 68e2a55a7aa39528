//! `plumb bundle`: alice hands one file to bob, who trusts her; to carol, who does not; and to a reader who has nothing.

use std::fs;
use std::path::PathBuf;

use crate::harness::Scene;
use crate::scenarios::people::Shared;
use crate::scenarios::reruns;

/// A chain that ran, with somebody who has a key, and what she exported of it.
fn alice(more: &str) -> (Scene, String, PathBuf) {
    let alice = reruns::chain_that_ran();
    let key = alice.plumb("key new").exits(0).raw.trim().to_owned();
    alice.plumb(&format!("bundle export p.toml -o out.plumb {more}")).exits(0);
    let file = alice.path("out.plumb");
    (alice, key, file)
}

fn trusting(key: &str) -> Scene {
    let scene = reruns::chain();
    scene.write("home/.config/plumb/config.toml", &format!("[keys]\nalice = \"{key}\"\n"));
    scene
}

#[test]
fn a_result_travels_in_one_file_and_is_a_hit_for_who_trusts_its_signer() {
    let (alice, key, file) = alice("");
    let bob = trusting(&key);
    let told = bob.plumb(&format!("bundle import {}", file.display())).exits(0);
    assert_eq!(told.stderr, "`report` ([SIZE]), signed by alice: imported\n");
    bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed(), bob.result("report.text")), (String::new(), alice.result("report.text")));
    let again = bob.plumb(&format!("bundle import {} --json", file.display())).exits(0).json();
    assert_eq!(again[0]["became"], "here already");

    // What stands on it is computed, and nothing of what came before it is asked for.
    bob.edit("word = \"lines\"", "word = \"rows\"");
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "count prep report", "its inputs did not travel");
}

#[test]
fn with_its_inputs_only_what_is_new_is_computed() {
    let (_alice, key, file) = alice("--with-inputs");
    let bob = trusting(&key);
    bob.plumb(&format!("bundle import {}", file.display())).exits(0);
    bob.edit("word = \"lines\"", "word = \"rows\"");
    bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), bob.result("report.text").as_str()), ("report", "3 rows\n"));
}

#[test]
fn a_strangers_bundle_is_refused_with_a_hint_and_taken_once_if_one_says_so() {
    let (_alice, key, file) = alice("");
    let carol = reruns::chain();
    let told = carol.plumb(&format!("bundle import {}", file.display())).exits(1);
    assert!(told.raw_stderr.contains(&format!("`report` is signed by `{key}`, who is not trusted")), "{}", told.stderr);
    assert!(told.stderr.contains("hint: ask its owner for the key"), "{}", told.stderr);
    carol.plumb("run p.toml").exits(0);
    assert_eq!(carol.executed(), "count prep report");
    let other = reruns::chain();
    other.plumb(&format!("bundle import {} --trust-any", file.display())).exits(0);
    other.plumb("run p.toml").exits(0);
    assert_eq!(other.executed(), "");
}

#[test]
fn a_reader_checks_a_bundle_without_a_cache_and_is_told_who_signed_what() {
    let (_alice, key, file) = alice("");
    let reader = Scene::new("");
    let told = reader.plumb(&format!("bundle verify {}", file.display())).exits(0);
    assert!(told.raw.contains("the lineage is complete: 3 records by 1 signer"), "{}", told.raw);
    assert!(told.raw.contains(&format!("is {key}: not among the keys that are trusted here")), "{}", told.raw);
    assert!(told.raw.ends_with("every digest, key and signature holds\n"), "{}", told.raw);
    assert!(!reader.path("cache").exists(), "no cache was made");
    let report = trusting(&key).plumb(&format!("bundle verify {} --json", file.display())).exits(0).json();
    assert_eq!((report["good"].as_bool(), report["missing"].as_array().unwrap().len()), (Some(true), 0));
    assert_eq!(
        (report["results"][0]["step"].as_str(), report["lineage"].as_array().unwrap().len()),
        (Some("report"), 2)
    );
    assert_eq!((report["results"][0]["signer"]["name"].as_str(), report["blobs"].as_u64()), (Some("alice"), Some(1)));
}

#[test]
fn a_bundle_that_was_changed_or_cut_is_wrong_and_says_why() {
    let (alice, key, file) = alice("");
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    let at = whole.windows(7).rposition(|bytes| bytes == b"3 lines").unwrap();
    flipped[at] = b'4';
    let step = whole.windows(17).position(|bytes| bytes == br#"\"step\":\"report"#).unwrap();
    let mut forged = whole.clone();
    forged[step + 12] ^= 1;
    for (bytes, why) in [
        (flipped, "have another digest"),
        (forged, "its list of records has another digest"),
        (whole[..whole.len() - 512].to_vec(), "its end is missing"),
        (b"schema = 1\n".to_vec(), "its end is missing"),
    ] {
        fs::write(alice.path("bad.plumb"), bytes).unwrap();
        let told = alice.plumb("bundle verify bad.plumb").exits(1);
        assert!(told.stderr.lines().next().unwrap().ends_with(why), "{}", told.stderr);
        let report = alice.plumb("bundle verify bad.plumb --json").exits(1).json();
        assert!(report["why"].as_str().unwrap().ends_with(why) && report["good"] == false, "{report}");
        let bob = trusting(&key);
        fs::copy(alice.path("bad.plumb"), bob.path("bad.plumb")).unwrap();
        bob.plumb("bundle import bad.plumb").exits(1);
        bob.plumb("run p.toml").exits(0);
        assert_eq!(bob.executed(), "count prep report");
    }
    assert!(alice.plumb("bundle verify no.plumb").exits(2).stderr.contains("cannot read the bundle `no.plumb`"));
    let taken = alice.plumb("bundle export p.toml -o out.plumb").exits(2);
    assert!(taken.stderr.contains("`out.plumb` is there already"), "{}", taken.stderr);
}

#[test]
fn an_unpacked_bundle_is_a_layer() {
    let (_alice, key, file) = alice("--with-inputs");
    let bob = trusting(&key);
    fs::create_dir(bob.path("lab")).unwrap();
    let unpacked = bob.other(&format!("tar -xf {} -C lab", file.display())).status().unwrap();
    assert!(unpacked.success());
    let settings = "home/.config/plumb/config.toml";
    bob.write(settings, &format!("{}[layer.lab]\nurl = \"{}\"\n", bob.read(settings), bob.path("lab").display()));
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
}

#[test]
fn the_same_results_are_the_same_file() {
    let (alice, _, file) = alice("--with-inputs");
    alice.plumb("bundle export p.toml -o again.plumb --with-inputs").exits(0);
    assert!(fs::read(file).unwrap() == fs::read(alice.path("again.plumb")).unwrap());
}

#[test]
fn what_was_fetched_without_its_ancestors_is_exported_with_their_records() {
    let shared = Shared::new();
    let alice = shared.maker();
    let bob = shared.person();
    bob.trusts("alice", &alice);
    assert_eq!(bob.runs(), "");
    let told = bob.scene.plumb("bundle export p.toml report -o b.plumb").exits(0);
    assert!(told.stderr.contains("1 result with 3 records") && !told.stderr.contains("warning"), "{}", told.stderr);
    let told = bob.scene.plumb("bundle verify b.plumb --json").exits(0);
    assert!(told.raw.contains(&alice.key) && !told.raw.contains(&bob.key), "{}", told.raw);
}
