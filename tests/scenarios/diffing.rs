//! `plumb cache diff` and the people of `plumb cache stats`: what two places have, and what sharing saves.

use std::fs;

use serde_json::Value;

use crate::harness::Scene;
use crate::scenarios::reruns;
use crate::servers::s3::S3;

const SETTINGS: &str = "home/.config/plumb/config.toml";

/// Somebody with the chain, and a layer; returns the key.
fn member(scene: &Scene, url: &str, keys: &str) -> String {
    let key = scene.plumb("key new").exits(0).raw.trim().to_owned();
    scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{url}\"\n[keys]\n{keys}"));
    key
}

fn steps(side: &Value) -> Vec<&str> {
    side["alone"].as_array().unwrap().iter().map(|line| line["step"].as_str().unwrap()).collect()
}

/// Alice, whose `count` and `report` of the chain lie in a layer, and who says that they took hours.
fn alice() -> (Scene, String, String) {
    let alice = reruns::chain_that_ran();
    for (step, wall, gpus) in [("count", 7200.0, "2"), ("report", 3600.0, "0")] {
        let key = alice.key(step);
        let mut record = alice.store().record(&key).unwrap().unwrap();
        record.cost.wall_seconds = wall;
        record.cost.cpu_seconds = wall / 2.0;
        record.environment.insert("gpus".into(), gpus.into());
        alice.replace_record(&record);
    }
    fs::create_dir(alice.path("lab")).unwrap();
    let url = alice.path("lab").display().to_string();
    let key = member(&alice, &url, "");
    alice.plumb("cache push p.toml count report").exits(0);
    (alice, url, key)
}

#[test]
fn a_diff_says_what_one_has_alone_and_what_the_other_could_save() {
    let (alice, url, key) = alice();
    let told = alice.plumb("cache diff mine lab --json").exits(0).json();
    assert_eq!((steps(&told["one"]), steps(&told["other"])), (vec!["prep"], vec![]), "only its record was pushed");
    assert_eq!(told["clashes"].as_array().unwrap().len(), 0);

    let bob = reruns::chain();
    member(&bob, &url, &format!("alice = \"{key}\"\n"));
    let told = bob.plumb("cache diff mine lab --json").exits(0).json();
    assert_eq!((steps(&told["one"]), steps(&told["other"])), (vec![], vec!["count", "report"]));
    let line = &told["other"]["alone"][0];
    assert_eq!(
        (line["signer"].as_str(), line["trusted"].as_bool(), line["bytes"].as_u64()),
        (Some("alice"), Some(true), Some(2))
    );
    let save = &told["one"]["could_save"];
    assert_eq!(
        (save["results"].as_u64(), save["gpu_hours"].as_f64(), save["cpu_hours"].as_f64()),
        (Some(2), Some(4.0), Some(1.5))
    );
    let text = bob.plumb("cache diff mine lab").exits(0).raw;
    assert!(
        text.contains("`mine` could save 4.00 GPU-h and 1.50 CPU-h by pulling 2 results (10 B) from `lab`\n"),
        "{text}"
    );
    let stage = bob.plumb("cache diff mine lab --stage count --json").exits(0).json();
    assert_eq!(steps(&stage["other"]), ["count"]);
    let file = bob.plumb("cache diff lab mine p.toml report --json").exits(0).json();
    assert_eq!(steps(&file["one"]), ["report"]);
    bob.edit("word = \"lines\"", "word = \"rows\"");
    let file = bob.plumb("cache diff lab mine p.toml --json").exits(0).json();
    assert_eq!(steps(&file["one"]), ["count"], "another `report` than the file asks for");
}

#[test]
fn results_of_strangers_are_shown_as_such_and_save_nothing() {
    let (_alice, url, key) = alice();
    let carol = reruns::chain();
    member(&carol, &url, "");
    let text = carol.plumb("cache diff mine lab").exits(0).raw;
    assert!(text.contains(&format!("{}…, not trusted", &key[..20])), "{text}");
    let save = "`mine` could save 0.00 GPU-h and 0.00 CPU-h by pulling 0 results (0 B) from `lab`; \
                2 results with 4.00 GPU-h and 1.50 CPU-h there are not trusted\n";
    assert!(text.contains(save), "{text}");
    assert!(carol.plumb("cache diff mine lba").exits(2).stderr.contains("did you mean `lab`?"));
    carol.plumb("cache diff lab lab").exits(2);
}

#[test]
fn the_same_key_with_other_bytes_is_told_with_what_differs_in_the_environments() {
    let (_alice, url, key) = alice();
    let bob = reruns::chain();
    bob.plumb("run p.toml").exits(0);
    let report = bob.key("report");
    let mut record = bob.store().record(&report).unwrap().unwrap();
    let other = bob.store().ingest_bytes(b"4 lines\n").unwrap();
    record.outputs.values_mut().for_each(|output| output.artifact = other);
    record.environment.insert("device".into(), "another".into());
    bob.replace_record(&record);
    member(&bob, &url, &format!("alice = \"{key}\"\n"));
    let told = bob.plumb("cache diff mine lab --json").exits(0).json();
    let clash = &told["clashes"][0];
    assert_eq!((clash["one"]["signer"].as_str(), clash["other"]["signer"].as_str()), (None, Some("alice")));
    assert_eq!(clash["outputs"], serde_json::json!(["text"]));
    assert_eq!(clash["environment"]["device"], serde_json::json!(["another", null]));
    let text = bob.plumb("cache diff mine lab").exits(0).raw;
    assert!(text.contains("the same key with different bytes: 1 result\n"), "{text}");
    assert!(text.contains("device: another / nothing\n"), "{text}");
}

#[test]
fn a_diff_asks_a_bucket_for_its_list_and_nothing_else() {
    let s3 = S3::start("bucket");
    let alice = reruns::chain_that_ran();
    let variables =
        [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret-word")];
    variables.into_iter().for_each(|(name, value)| alice.export(name, value));
    alice.export("AWS_ENDPOINT_URL", s3.url());
    member(&alice, "s3://bucket/shared", "");
    alice.plumb("cache push p.toml prep count report").exits(0);
    let line = s3.bad_line(usize::MAX);
    alice.export("AWS_ENDPOINT_URL", &line.url());
    let told = alice.plumb("cache diff mine lab --json").exits(0).json();
    assert_eq!((steps(&told["one"]).len(), steps(&told["other"]).len()), (0, 0));
    let asked = line.asked();
    assert!(asked.len() <= 2, "a list, and no segment that was written here: {asked:?}");
}

#[test]
fn stats_tell_what_whose_results_have_saved_by_stage() {
    let (alice, url, key) = alice();
    alice.plumb("run p.toml").exits(0);
    let own = alice.plumb("cache stats --json").exits(0).json();
    assert_eq!(own["sharing"]["results"], 0, "{own}");
    assert!(own["people"].as_array().unwrap().iter().all(|share| share["own"] == true), "{own}");

    let bob = reruns::chain();
    member(&bob, &url, &format!("alice = \"{key}\"\n"));
    bob.plumb("run p.toml").exits(0);
    bob.plumb("run p.toml").exits(0);
    bob.plumb("cache pull p.toml count").exits(0);
    let told = bob.plumb("cache stats --json").exits(0).json();
    let people = told["people"].as_array().unwrap();
    let of = |stage: &str| people.iter().find(|share| share["stage"] == stage).unwrap();
    assert_eq!((of("report")["who"].as_str(), of("report")["hits"].as_u64()), (Some("alice"), Some(2)), "{told}");
    assert_eq!((of("count")["hits"].as_u64(), of("count")["gpu_seconds"].as_f64()), (Some(0), Some(14400.0)), "{told}");
    assert_eq!((told["sharing"]["results"].as_u64(), told["sharing"]["gpu_hours"].as_f64()), (Some(2), Some(4.0)));
    let text = bob.plumb("cache stats").exits(0).raw;
    assert!(text.contains("sharing saved 4.00 GPU-h and 1.50 CPU-h (2 results of others)\n"), "{text}");
}
