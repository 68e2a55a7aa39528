//! Secrets of a stage: given by name, and nowhere to be found afterwards.

use std::fs;
use std::path::Path;

use crate::harness::{Outcome, Scene};

/// Says its secrets on every channel it has, one of them in pieces.
const TELLER: &str = r#"schema = 1
[stage.tell]
uses = "command"
with.argv = ["sh", "tell.sh", "{out:text}"]
with.files = ["tell.sh"]
outputs = { text = "text.txt" }
run.secrets = ["API_KEY", { name = "TOKEN", file = "~/token" }]
"#;

const SCRIPT: &str = r#"echo tell >> $HOME/ran
echo "the key is $API_KEY"
echo "the token is $TOKEN" >&2
printf '%s' "${API_KEY%????????}"; sync; printf '%s\n' "${API_KEY#??????????}"
echo "{\"event\":\"log\",\"message\":\"with $API_KEY\"}" >> $PLUMB_EVENTS
echo ${#API_KEY} ${#TOKEN} ${OTHER:-none} > $1
"#;

const KEY: &str = "sk-0123456789abcde";
const TOKEN: &str = "hf_\"quoted\"token";

fn scene() -> Scene {
    let scene = Scene::new(TELLER);
    scene.write("tell.sh", SCRIPT);
    scene.write("home/token", &format!("{TOKEN}\n"));
    scene
}

fn run(scene: &Scene, line: &str) -> Outcome {
    let output = scene.command(line).env("API_KEY", KEY).env("OTHER", "seen").output().unwrap();
    scene.ended(line, output)
}

/// Every file under a folder whose bytes hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_reaches_the_program_and_no_file_of_the_cache() {
    let scene = scene();
    let told = run(&scene, "run p.toml --json").exits(0);
    assert_eq!(scene.result("tell.text"), format!("{} {} none\n", KEY.len(), TOKEN.len()));
    let nothing: Vec<String> = Vec::new();
    for secret in [KEY, TOKEN] {
        assert_eq!(holding(&scene.path("cache"), secret), nothing);
        assert!(!told.raw.contains(secret) && !told.stderr.contains(secret));
    }
    let log = scene.plumb("log p.toml tell").exits(0).stdout;
    assert_eq!(log, "the key is [API_KEY]\nthe token is [TOKEN]\n[API_KEY]\n");
    assert!(told.raw.contains("with [API_KEY]"), "{}", told.raw);
    // The record keeps the names.
    let names = holding(&scene.path("cache/v1/actions"), "API_KEY, TOKEN");
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_failing_program_shows_no_secret_either() {
    let scene = scene();
    scene.write("tell.sh", "echo \"$API_KEY refused\" >&2; exit 3\n");
    let failed = run(&scene, "run p.toml").exits(1);
    assert!(failed.stderr.contains("| [API_KEY] refused"), "{}", failed.stderr);
    assert!(!failed.stderr.contains(KEY));
}

#[test]
fn another_value_of_a_secret_is_no_reason_to_run() {
    let scene = scene();
    run(&scene, "run p.toml").exits(0);
    assert_eq!(scene.executed(), "tell");
    let output = scene.command("run p.toml").env("API_KEY", "another").output().unwrap();
    scene.ended("run p.toml", output).exits(0);
    // What is there needs no secret at all.
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_secret_that_nobody_has_is_told_before_anything_runs() {
    let scene = scene();
    scene.plumb("run p.toml").exits(2).says(expect_test::expect![[r#"
        ---
        error: stage `tell`: the secret `API_KEY` is not set in the environment (or is no text)
        hint: `export API_KEY=…`, or name a file: { name = "API_KEY", file = "PATH" }
    "#]]);
    fs::remove_file(scene.path("home/token")).unwrap();
    let told = run(&scene, "run p.toml").exits(2);
    assert!(told.stderr.contains("read the secret `TOKEN` from `[ROOT]/home/token`: No such file"), "{}", told.stderr);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_secret_is_a_name_and_never_a_value() {
    let scene = scene();
    scene.edit("\"API_KEY\"", "\"sk-0123 456\"");
    let told = scene.plumb("plan p.toml").exits(2);
    assert!(told.stderr.contains("this is no name of an environment variable"), "{}", told.stderr);
}

/// A worker of the house as a script: it keeps what it was told, says its secret on every channel, and makes a model.
const WORKER: &str = r#"#!/bin/sh
cp $2/step.json $HOME/step.json
echo "the key is $API_KEY"
echo "{\"event\":\"log\",\"message\":\"with $API_KEY\"}" >> $2/events.jsonl
[ -e $HOME/fail ] && echo "{\"ok\":false,\"error\":\"$API_KEY refused\",\"hint\":\"renew $API_KEY\",\"environment\":{}}" > $2/exit.json && exit 1
mkdir -p $2/outputs/model && echo weights > $2/outputs/model/weights
echo "{\"ok\":true,\"error\":null,\"hint\":null,\"environment\":{\"device\":\"$API_KEY\"}}" > $2/exit.json
"#;

fn worked_by_the_house() -> Scene {
    let scene = Scene::new(
        "schema = 1\n[source.text]\npath = \"raw.txt\"\n[stage.base]\nuses = \"model.init\"\n\
         inputs.corpus = \"source.text\"\nrun.secrets = [\"API_KEY\"]\n",
    );
    scene.write("raw.txt", "{\"text\": \"a\"}\n");
    scene.write("worker", WORKER);
    fs::set_permissions(scene.path("worker"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    scene.export("PLUMB_TORCH", scene.path("worker").to_str().unwrap());
    scene
}

#[test]
fn a_secret_of_a_stage_of_the_house_is_in_no_record_no_request_and_no_log() {
    let scene = worked_by_the_house();
    let told = run(&scene, "run p.toml --json").exits(0);
    let request = scene.read("home/step.json");
    assert!(request.contains("API_KEY") && !request.contains(KEY), "{request}");
    assert!(told.raw.contains("with [API_KEY]") && !told.raw.contains(KEY), "{}", told.raw);
    assert_eq!(scene.plumb("log p.toml base").exits(0).stdout, "the key is [API_KEY]\n");
    assert_eq!(holding(&scene.path("cache"), KEY), Vec::<String>::new());
    assert_eq!(holding(&scene.path("cache/v1/actions"), "[API_KEY]").len(), 1, "what the worker said of its device");
    // No part of the key: another value runs nothing.
    let output = scene.command("run p.toml --json").env("API_KEY", "another").output().unwrap();
    let again = scene.ended("run p.toml --json", output).exits(0).json_lines();
    assert!(again.iter().all(|event| event["what"] != "started"));
}

#[test]
fn a_failing_stage_of_the_house_shows_no_secret_either() {
    let scene = worked_by_the_house();
    scene.write("home/fail", "");
    let failed = run(&scene, "run p.toml").exits(1);
    assert!(
        failed.stderr.contains("[API_KEY] refused") && failed.stderr.contains("renew [API_KEY]"),
        "{}",
        failed.stderr
    );
    assert!(!failed.stderr.contains(KEY));
    assert_eq!(holding(&scene.path("cache"), KEY), Vec::<String>::new());
}

#[test]
fn a_secret_of_a_detached_step_is_in_no_file_while_it_runs_nor_afterwards() {
    let scene = scene();
    scene.write("tell.sh", &SCRIPT.replace("echo ${#", "echo > $HOME/ready; cat $HOME/gate; echo ${#"));
    let (ready, gate) = (scene.fifo("home/ready"), scene.fifo("home/gate"));
    run(&scene, "run p.toml --detach").exits(0);
    fs::read_to_string(ready).unwrap();
    for secret in [KEY, TOKEN] {
        // What the step itself wrote to its own events is its own; what plumb wrote about it holds no secret.
        let held = holding(&scene.path("cache"), secret);
        assert!(held.iter().all(|path| path.ends_with(".kept/events.jsonl")), "{held:?}");
    }
    fs::write(gate, "").unwrap();
    run(&scene, "run p.toml").exits(0);
    assert_eq!(scene.result("tell.text"), format!("{} {} none\n", KEY.len(), TOKEN.len()));
    for secret in [KEY, TOKEN] {
        assert_eq!(holding(&scene.path("cache"), secret), Vec::<String>::new());
    }
    assert!(scene.plumb("log p.toml tell").exits(0).stdout.contains("the key is [API_KEY]"));
    assert_eq!(scene.executed(), "tell");
}
