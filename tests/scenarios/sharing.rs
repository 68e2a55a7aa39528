//! `plumb cache push`: results go to a layer, in a folder or in S3, signed.

use std::fs;

use crate::harness::Scene;
use crate::scenarios::reruns;
use crate::servers::s3::S3;

const SETTINGS: &str = "home/.config/plumb/config.toml";

/// A chain that ran, and a person with a key.
fn alice() -> Scene {
    let scene = reruns::chain();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene.plumb("key new").exits(0);
    scene
}

fn objects(scene: &Scene, folder: &str) -> usize {
    let mut folders = vec![scene.path("lab/plumb-1").join(folder)];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { count += 1 }
        }
    }
    count
}

#[test]
fn a_result_is_pushed_once_with_the_records_of_what_it_was_made_from() {
    let scene = alice();
    fs::create_dir(scene.path("lab")).unwrap();
    let url = scene.path("lab").display().to_string();
    scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{url}\"\n"));
    let told = scene.plumb("cache push p.toml report --json").exits(0).json();
    assert_eq!(
        (told["results"].as_u64(), told["new_records"].as_u64(), told["new_blobs"].as_u64()),
        (Some(1), Some(3), Some(1))
    );
    assert_eq!((objects(&scene, "actions"), objects(&scene, "packs"), objects(&scene, "segments")), (3, 2, 1));
    let again = scene.plumb("cache push p.toml report").exits(0);
    assert_eq!(again.stderr, "`lab` has 1 result already\n");
    let all = scene.plumb("cache push p.toml prep count report").exits(0);
    assert!(
        all.raw_stderr.starts_with("pushed 3 results to `lab`: 0 records and 2 blobs (8 B) were new"),
        "{}",
        all.stderr
    );
}

#[test]
fn a_pack_that_was_damaged_in_the_layer_is_replaced_when_it_is_to_be_repaired() {
    let scene = alice();
    fs::create_dir(scene.path("lab")).unwrap();
    let url = scene.path("lab").display().to_string();
    scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{url}\"\n"));
    scene.plumb("cache push p.toml report").exits(0);
    let listed = fs::read_dir(scene.path("lab/plumb-1/packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = listed.into_iter().find(|path| path.extension().is_none()).unwrap();
    let whole = fs::read(&pack).unwrap();
    fs::write(&pack, vec![b'x'; whole.len()]).unwrap();
    let told = scene.plumb("cache push p.toml report").exits(0);
    assert_eq!(told.stderr, "`lab` has 1 result already\n", "nobody looked at the bytes");
    let told = scene.plumb("cache push p.toml report --repair").exits(0);
    assert!(told.raw_stderr.contains("0 records and 1 blob"), "{}", told.stderr);
    assert_eq!(fs::read(&pack).unwrap(), whole);
    assert_eq!(scene.plumb("cache push p.toml report --repair").exits(0).stderr, "`lab` has 1 result already\n");
}

#[test]
fn a_bucket_of_s3_is_a_layer() {
    let s3 = S3::start("bucket");
    let scene = alice();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", s3.url()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret-word"),
    ] {
        scene.export(name, value);
    }
    scene.write(SETTINGS, "[layer.lab]\nurl = \"s3://bucket/shared\"\n");
    let told = scene.plumb("cache push p.toml --layer lab").exits(0);
    assert!(told.raw_stderr.starts_with("pushed 1 result to `lab`: 3 records and 1 blob"), "{}", told.stderr);
    assert_eq!(scene.plumb("cache push p.toml --layer lab").exits(0).stderr, "`lab` has 1 result already\n");
}

#[test]
fn what_is_missing_for_a_push_is_told() {
    let scene = reruns::chain();
    scene.plumb("run p.toml").exits(0);
    let stderr = |line: &str| scene.plumb(line).exits(2).stderr;
    assert!(stderr("cache push p.toml").contains("error: no layer is pushed to"));
    let url = scene.path("lab").display().to_string();
    scene.write(SETTINGS, &format!("[layer.lab]\nurl = \"{url}\"\n"));
    assert!(stderr("cache push p.toml --layer lba").contains("hint: did you mean `lab`?"));
    assert!(stderr("cache push p.toml --layer lab").contains("hint: make one with `plumb key new`"));
    scene.plumb("key new").exits(0);
    assert!(stderr("cache push p.toml --layer lab").contains("hint: make the folder first"));
    scene.write("plumb.toml", "write = \"evil\"\n[layer.evil]\nurl = \"s3://evil\"\n");
    assert!(stderr("cache push p.toml").contains("error: a project must not say where results are sent"));
}
