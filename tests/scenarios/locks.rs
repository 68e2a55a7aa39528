//! `plumb lock`: what is pinned, what counts as drift, and who honours it.

use expect_test::expect;

use crate::harness::Scene;

const PIPELINE: &str = r#"schema = 1

[source.raw]
path = "raw.txt"

[source.shards]
glob = "shards/*.jsonl"

[stage.sort]
uses = "command"
inputs.raw = "source.raw"
with.argv = ["sh", "-c", "echo sort >> $HOME/ran; sort {in:raw} > {out:sorted}"]
outputs = { sorted = "sorted.txt" }

[stage.join]
uses = "command"
inputs.shards = "source.shards"
with.argv = ["sh", "-c", "echo join >> $HOME/ran; cat {in:shards}/* > {out:all}"]
outputs = { all = "all.jsonl" }
"#;

fn scene() -> Scene {
    let scene = Scene::new(PIPELINE);
    scene.write("raw.txt", "b\na\n");
    scene.write("shards/1.jsonl", "{}\n");
    scene.write("shards/2.jsonl", "{}\n");
    scene
}

fn locked() -> Scene {
    let scene = scene();
    scene.plumb("lock p.toml").exits(0);
    scene
}

#[test]
fn without_a_lock_file_sources_are_simply_hashed() {
    let scene = scene();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "join sort");
    scene.write("raw.txt", "c\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "sort");
    assert!(!scene.path("p.lock").exists());
}

#[test]
fn lock_pins_every_source_beside_the_pipeline() {
    let scene = scene();
    scene.plumb("lock p.toml").exits(0).says(expect![[r#"
        source  size  digest  from
        raw  new  [SIZE]  file:[DIGEST]  raw.txt
        shards  new  [SIZE]  tree:[DIGEST]  shards/*.jsonl
        ---
        wrote p.lock
    "#]]);
    let lock = scene.masked(&scene.read("p.lock"));
    expect![[r##"
        # What the sources of p.toml held when they were accepted. `plumb lock p.toml` writes it.
        version = 1

        [source.raw]
        kind = "file"
        from = "raw.txt"
        digest = "file:[KEY]"
        size = 4
        files = 1
        pinned_at = "[WHEN]"

        [source.shards]
        kind = "glob"
        from = "shards/*.jsonl"
        digest = "tree:[KEY]"
        size = 6
        files = 2
        pinned_at = "[WHEN]"
    "##]]
    .assert_eq(&lock);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "join sort");
}

#[test]
fn locking_again_changes_nothing_not_even_the_time() {
    let scene = locked();
    let before = scene.read("p.lock");
    scene.plumb("lock p.toml").exits(0).says(expect![[r#"
        source  size  digest  from
        raw  same  [SIZE]  file:[DIGEST]  raw.txt
        shards  same  [SIZE]  tree:[DIGEST]  shards/*.jsonl
        ---
        p.lock is as it should be
    "#]]);
    assert_eq!(scene.read("p.lock"), before);
}

#[test]
fn a_drifted_source_stops_everything_until_it_is_accepted() {
    let scene = locked();
    scene.write("raw.txt", "b\na\nc\n");
    let told = scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: source `raw` is not what `p.lock` pins
          pinned  file:[KEY]  4 bytes  accepted [WHEN]
          now     file:[KEY]  6 bytes  changed [WHEN]
        hint: if the change is meant, accept it: `plumb lock p.toml raw`; if not, put the pinned bytes back
    "#]]);
    for command in ["plan p.toml", "why p.toml sort", "status p.toml"] {
        assert_eq!(scene.plumb(command).exits(2).stderr, told.stderr);
    }
    assert_eq!(scene.executed(), "");
    scene.plumb("lock p.toml raw").exits(0).says(expect![[r#"
        source  size  digest  from
        raw  changed  [SIZE]  file:[DIGEST]  raw.txt
                was  [SIZE]  file:[DIGEST]  raw.txt
        ---
        wrote p.lock
    "#]]);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "join sort");
}

#[test]
fn both_digests_and_the_accepting_command_are_in_the_error() {
    let scene = locked();
    let digest =
        |scene: &Scene| scene.plumb("lock p.toml raw --check --json").json()["sources"][0]["now"]["digest"].to_string();
    let before = digest(&scene);
    scene.write("raw.txt", "other\n");
    let after = digest(&scene);
    assert_ne!(before, after);
    let told = scene.plumb("run p.toml").exits(2).raw_stderr;
    for digest in [before, after] {
        assert!(told.contains(digest.trim_matches('"')), "{told}");
    }
    assert!(told.contains("plumb lock p.toml raw"), "{told}");
}

#[test]
fn a_drift_that_no_goal_needs_stops_nothing() {
    let scene = locked();
    scene.write("raw.txt", "other\n");
    scene.plumb("run p.toml join").exits(0);
    assert_eq!(scene.executed(), "join");
    scene.plumb("run p.toml sort").exits(2);
}

#[test]
fn bytes_put_back_are_no_drift() {
    let scene = locked();
    scene.write("raw.txt", "other\n");
    scene.plumb("plan p.toml").exits(2);
    scene.write("raw.txt", "b\na\n");
    scene.plumb("plan p.toml").exits(0);
}

#[test]
fn a_new_source_is_told_to_be_unpinned() {
    let scene = locked();
    scene.write("more.txt", "x\n");
    scene.edit("inputs.raw = \"source.raw\"", "inputs.raw = \"source.raw\"\ninputs.more = \"source.more\"");
    scene.edit("[stage.sort]", "[source.more]\npath = \"more.txt\"\n\n[stage.sort]");
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: source `more` is not pinned in `p.lock`
          now     file:[KEY]  2 bytes  changed [WHEN]
        hint: pin what is there now: `plumb lock p.toml more`
    "#]]);
    scene.plumb("lock p.toml more").exits(0);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "join sort");
}

#[test]
fn a_source_that_lies_elsewhere_now_is_a_drift_too() {
    let scene = locked();
    scene.write("raw2.txt", "b\na\n");
    scene.edit("raw.txt", "raw2.txt");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `raw` is another one than `p.lock` pins
          pinned  file:[KEY]  4 bytes  accepted [WHEN]  from `raw.txt`
          now     file:[KEY]  4 bytes  changed [WHEN]  from `raw2.txt`
        hint: if the change is meant, accept it: `plumb lock p.toml raw`; if not, put the pinned bytes back
    "#]]);
}

#[test]
fn a_source_that_is_gone_is_dropped_from_the_lock_and_the_others_stay() {
    let scene = locked();
    scene.edit("inputs.shards = \"source.shards\"\n", "");
    scene.edit("cat {in:shards}/* >", "echo >");
    scene.edit("[source.shards]\nglob = \"shards/*.jsonl\"\n", "");
    scene.plumb("plan p.toml").exits(0);
    scene.plumb("lock p.toml").exits(0).says(expect![[r#"
        source  size  digest  from
        raw  same  [SIZE]  file:[DIGEST]  raw.txt
        shards  dropped  [SIZE]  tree:[DIGEST]  shards/*.jsonl
        ---
        wrote p.lock
    "#]]);
    assert!(!scene.read("p.lock").contains("shards"));
}

#[test]
fn a_check_says_what_differs_and_writes_nothing() {
    let scene = scene();
    scene.plumb("lock p.toml --check").exits(2);
    assert!(!scene.path("p.lock").exists());
    scene.plumb("lock p.toml").exits(0);
    scene.plumb("lock p.toml --check").exits(0).says(expect![[r#"
        source  size  digest  from
        raw  same  [SIZE]  file:[DIGEST]  raw.txt
        shards  same  [SIZE]  tree:[DIGEST]  shards/*.jsonl
        ---
        p.lock is as it should be
    "#]]);
    let before = scene.read("p.lock");
    scene.write("shards/3.jsonl", "{}\n");
    scene.plumb("lock p.toml --check").exits(2).says(expect![[r#"
        source  size  digest  from
        raw  same  [SIZE]  file:[DIGEST]  raw.txt
        shards  changed  [SIZE]  tree:[DIGEST]  shards/*.jsonl
                was  [SIZE]  tree:[DIGEST]  shards/*.jsonl
        ---
        p.lock is not what it should be: `plumb lock p.toml` writes it
    "#]]);
    assert_eq!(scene.read("p.lock"), before);
    let told = scene.plumb("lock p.toml --check --json").exits(2).json();
    let states: Vec<&str> =
        told["sources"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!((states, told["written"].as_bool()), (vec!["same", "changed"], Some(false)));
}

#[test]
fn a_name_that_is_no_source_is_told_with_the_nearest() {
    let scene = locked();
    scene.plumb("lock p.toml rav").exits(2).says(expect![[r#"
        ---
        error: no stage uses a source `rav`
        hint: did you mean `raw`?
    "#]]);
}

#[test]
fn a_broken_lock_file_is_an_error_and_never_ignored() {
    let scene = locked();
    let whole = scene.read("p.lock");
    for broken in
        [whole.replace("version = 1", "version = 2"), whole.replace("file:", "md5:"), whole[..60].to_owned() + "["]
    {
        scene.write("p.lock", &broken);
        let told = scene.plumb("run p.toml").exits(2).stderr;
        assert!(told.starts_with("error: the lock file `p.lock` cannot be read: "), "{told}");
    }
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_locked_run_has_the_keys_of_an_unlocked_one() {
    let scene = scene();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene.plumb("lock p.toml").exits(0);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}
