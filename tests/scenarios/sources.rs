//! Where sources may lie, and what counts as their content.

use expect_test::expect;

use crate::harness::Scene;

/// One stage that lists its input and shows what is in it.
const LIST: &str = r#"schema = 1

[source.data]
PLACE

[stage.list]
uses = "command"
inputs.data = "source.data"
with.argv = ["sh", "-c", "echo list >> $HOME/ran; cd {in:data}; for f in $(find . -type f | sort); do echo $f $(cat $f); done > {out:list}"]
outputs = { list = "list.txt" }
"#;

fn listing(place: &str) -> Scene {
    Scene::new(&LIST.replace("PLACE", place))
}

#[test]
fn a_glob_is_a_folder_of_the_files_that_match() {
    let scene = listing("glob = \"data/*.jsonl\"");
    for name in ["b.jsonl", "a.jsonl", "notes.txt", ".hidden.jsonl", "deep/c.jsonl"] {
        scene.write(&format!("data/{name}"), name);
    }
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "./a.jsonl a.jsonl\n./b.jsonl b.jsonl\n");
    scene.executed();
    scene.write("data/notes.txt", "what does not match is no content");
    scene.write("data/deep/c.jsonl", "nor is what lies deeper");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
    scene.write("data/c.jsonl", "new");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "list");
}

#[test]
fn a_deep_glob_keeps_the_folders_of_its_names() {
    let scene = listing("glob = \"data/**/*.{json,jsonl}\"");
    for name in ["a.jsonl", "x/b.json", "x/y/c.jsonl", "x/d.txt"] {
        scene.write(&format!("data/{name}"), "1");
    }
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "./a.jsonl 1\n./x/b.json 1\n./x/y/c.jsonl 1\n");
}

#[test]
fn a_glob_has_the_key_of_the_folder_with_the_same_files() {
    let scene = listing("glob = \"data/*\"");
    scene.write("data/a", "1");
    scene.write("data/b", "2");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "list");
    scene.edit("glob = \"data/*\"", "path = \"data\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_path_inside_a_glob_is_one_file_of_it() {
    let scene = listing("glob = \"data/**\"");
    scene.write("data/x/a", "1");
    scene.write("data/x/b", "2");
    scene.edit("\"source.data\"", "\"source.data/x\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "./a 1\n./b 2\n");
    scene.edit("\"source.data/x\"", "\"source.data/y\"");
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data`: there is no `y` in `data/**`
    "#]]);
}

#[test]
fn a_glob_that_matches_nothing_is_an_error() {
    let scene = listing("glob = \"data/*.jsonl\"");
    scene.write("data/a.txt", "");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data`: no file matches `data/*.jsonl` in `[ROOT]/data/`
        hint: a name that begins with a dot matches only a pattern with that dot; `**` goes into folders
    "#]]);
    scene.edit("data/*.jsonl", "elsewhere/*.jsonl");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data`: cannot list `[ROOT]/elsewhere/`: No such file or directory (os error 2)
    "#]]);
    scene.edit("elsewhere/*.jsonl", "data/a.txt");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: `data/a.txt` has no wildcard
         --> p.toml:4:8
          |
        4 | glob = "data/a.txt"
          |        ^^^^^^^^^^^^
        hint: write `path = "data/a.txt"`
    "#]]);
}

#[test]
fn a_file_of_a_glob_that_changes_while_the_step_reads_spoils_its_result() {
    let scene = listing("glob = \"data/*\"");
    scene.write("data/a", "1");
    scene.edit("echo list >>", "echo 2 > $HOME/../data/a; echo list >>");
    let told = scene.plumb("run p.toml").exits(1).stderr;
    assert!(told.contains("`data` changed while the step ran, so its result is not kept"), "{told}");
}

#[test]
fn an_artifact_of_the_cache_is_a_source_by_its_digest() {
    let scene = listing("path = \"data\"");
    scene.write("data/a", "1");
    scene.plumb("run p.toml").exits(0);
    let digest = scene.digest("list.list");
    let next = format!(
        "schema = 1\n[source.old]\nstore = \"b3:{digest}\"\n[stage.copy]\nuses = \"command\"\ninputs.old = \"source.old\"\n\
         with.argv = [\"cp\", \"{{in:old}}\", \"{{out:new}}\"]\noutputs = {{ new = \"new.txt\" }}\n"
    );
    scene.write("next.toml", &next);
    scene.plumb("run next.toml").exits(0);
    let copied = scene.plumb("open next.toml copy").exits(0).raw;
    assert_eq!(std::fs::read_to_string(copied.trim_end()).unwrap(), "./a 1\n");
    scene.forget("list.list");
    scene.plumb("plan next.toml").exits(2).says(expect![[r#"
        ---
        error: source `old`: the blob `[KEY]` is not in the cache
        hint: make it again with the pipeline that made it, or name the cache that has it: `--cache DIR`
    "#]]);
    scene.write("next.toml", &next.replace(&digest, "1234"));
    scene.plumb("plan next.toml").exits(2).says(expect![[r#"
        ---
        error: `b3:1234` is no digest: expected 64 lowercase hex digits, found `1234`
         --> next.toml:3:9
          |
        3 | store = "b3:1234"
          |         ^^^^^^^^^
        hint: write the `digest` that `plumb open FILE STEP.OUTPUT --json` tells, as `store = "b3:…"`
    "#]]);
}

#[test]
fn a_source_says_once_where_it_lies() {
    let scene = listing("path = \"data\"\nglob = \"data/*\"");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data` says twice where it lies
         --> p.toml:5:1
          |
        5 | glob = "data/*"
          | ^^^^
        hint: keep one of `path`, `glob`, `url` and `store`
    "#]]);
    let scene = listing("url = \"ftp://example.org/x\"");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: plumb cannot fetch from `ftp://`
         --> p.toml:4:7
          |
        4 | url = "ftp://example.org/x"
          |       ^^^^^^^^^^^^^^^^^^^^^
        hint: addresses begin with `https://`, `http://`, `s3://` or `hf://`
    "#]]);
    let scene = listing("url = \"https://me:word@example.org/x\"");
    let told = scene.plumb("plan p.toml").exits(2);
    expect![[r#"
        error: an address must not carry a user or password
         --> p.toml:4:7
          |
        4 | url = "https://me:word@example.org/x"
          |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: put the credential into an environment variable and name it: `secret = "VARIABLE"`
    "#]]
    .assert_eq(&told.stderr);
    let scene = listing("path = \"data\"\nsha256 = \"12\"\ninclude = [\"*.json\"]");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data` does not exist: `data`
         --> p.toml:4:8
          |
        4 | path = "data"
          |        ^^^^^^

        error: `sha256` is for `http` and `https` addresses
         --> p.toml:5:10
          |
        5 | sha256 = "12"
          |          ^^^^

        error: `sha256` is 64 lowercase hex digits, as `sha256sum` prints them
         --> p.toml:5:10
          |
        5 | sha256 = "12"
          |          ^^^^

        error: `include` is for folders behind `s3://` and `hf://`
         --> p.toml:6:12
          |
        6 | include = ["*.json"]
          |            ^^^^^^^^
    "#]]);
}
