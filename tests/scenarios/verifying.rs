//! `plumb verify`: a step once more, aside, compared with what is in the cache, with a certificate.

use expect_test::expect;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Scene;
use crate::scenarios::runners::alive;

/// A kind of the house, and programs that draw, drift and count.
const STUDY: &str = r#"schema = 1

[stage.world]
uses = "data.miniature"
with = { partition = "train", pairs = 4 }

[stage.draw]
uses = "command"
with.argv = ["sh", "-c", "head -c 16 /dev/urandom | od -An -tx1 > {out:number}"]
outputs = { number = "number.txt" }

[stage.drift]
uses = "command"
with.argv = ["sh", "-c", "echo x >> $HOME/n; printf '{\"loss\": 1.0000%s, \"name\": \"a\"}' $(wc -l < $HOME/n) > {out:metrics}"]
outputs = { metrics = "metrics.json" }

[stage.steady]
uses = "command"
inputs.pairs = "world.pairs"
with.argv = ["sh", "-c", "echo steady >> $HOME/ran; wc -l < {in:pairs} > {out:count}"]
outputs = { count = "count.txt" }
"#;

fn study(step: &str) -> Scene {
    let scene = Scene::new(STUDY);
    scene.plumb(&format!("run p.toml {step}")).exits(0);
    scene
}

/// Without who made it: that differs from machine to machine.
fn plain(text: &str) -> String {
    regex::Regex::new(r"by [\w.-]+@[\w.-]+").unwrap().replace_all(text, "by USER@HOST").into_owned()
}

#[test]
fn an_exact_stage_is_reproduced_bit_for_bit_and_certified() {
    let scene = study("world");
    let told = scene.plumb("verify p.toml world --times 2").exits(0);
    expect![[r#"
        run  output  verdict  took
        1  demonstrations  bit-equal  [TIME]
        1  pairs  bit-equal  [TIME]
        1  report  bit-equal  [TIME]
        1  tasks  bit-equal  [TIME]
        2  demonstrations  bit-equal  [TIME]
        2  pairs  bit-equal  [TIME]
        2  report  bit-equal  [TIME]
        2  tasks  bit-equal  [TIME]

        `world` (data.miniature@1, exact) is reproduced bit for bit: the result made at [WHEN] by USER@HOST
    "#]]
    .assert_eq(&plain(&told.stdout));
    assert_eq!(told.stderr, "certificate: p.world.certificate.json\n");
    let certificate: serde_json::Value = serde_json::from_str(&scene.read("p.world.certificate.json")).unwrap();
    assert_eq!((&certificate["determinism"], &certificate["step"]), (&"exact".into(), &"world".into()));
    assert_eq!(certificate["key_document"]["params"]["pairs"], 4);
    assert_eq!(certificate["repetitions"].as_array().unwrap().len(), 2);
    for side in [&certificate["canonical"], &certificate["repetitions"][1]] {
        assert!(side["environment"]["host"].is_string() && side["made_at"].is_string(), "{side}");
        assert_eq!(side["results"], certificate["canonical"]["results"]);
    }
    assert_eq!(certificate["repetitions"][0]["outputs"]["pairs"]["verdict"], "bit-equal");
}

#[test]
fn a_program_that_draws_at_random_diverges_and_the_result_stays() {
    let scene = study("draw");
    let before = scene.result("draw.number");
    let action = scene.key("draw");
    let told = scene.plumb("verify p.toml draw --times 2 --json").exits(1).json();
    assert_eq!(told["repetitions"][0]["outputs"]["number"]["verdict"], "diverged");
    assert_eq!(told["repetitions"][0]["witness"], true);
    assert_eq!(scene.result("draw.number"), before, "the first result is the one that is used");
    assert_eq!(scene.store().witnesses(&action).unwrap().len(), 2, "both others are kept beside it");
    let plan = scene.plumb("plan p.toml draw --json").exits(0).json();
    assert_eq!(plan["hits"], 1);
}

#[test]
fn numbers_of_a_seeded_kind_are_compared_within_a_tolerance_that_is_told() {
    let scene = study("drift");
    let told = scene.plumb("verify p.toml drift").exits(0);
    expect![[r#"
        run  output  verdict  took
        1  metrics  within tolerance  1.00e-5 at most, at row 1 `loss`  [TIME]

        `drift` (command@1, seeded) is reproduced within tolerance (rtol 1e-4, atol 1e-7): the result made at [WHEN] by USER@HOST
    "#]].assert_eq(&plain(&told.stdout));
    let told = scene.plumb("verify p.toml drift --rtol 1e-9 --atol 0").exits(1).stdout;
    assert!(told.contains("diverged") && told.contains("row 1 `loss`"), "{told}");
    assert!(told.contains("by more than rtol 1e-9, atol 0e0"), "{told}");
}

#[test]
fn an_exact_stage_that_differs_ends_with_exit_code_one_and_says_where() {
    let scene = study("world");
    let store = scene.store();
    let action = scene.key("world");
    let mut record = store.action(&action).unwrap().unwrap();
    let bytes = store.read(&record.outputs["pairs"].artifact).unwrap();
    scene.write("other.jsonl", &String::from_utf8(bytes).unwrap().replacen("{", "{ ", 1));
    record.outputs.get_mut("pairs").unwrap().artifact = store.ingest(&scene.path("other.jsonl")).unwrap();
    scene.replace_record(&record);
    let told = scene.plumb("verify p.toml world --certificate c/w.json").exits(1);
    expect![[r#"
        run  output  verdict  took
        1  demonstrations  bit-equal  [TIME]
        1  pairs  diverged  at byte 1  [TIME]
        1  report  bit-equal  [TIME]
        1  tasks  bit-equal  [TIME]

        `world` (data.miniature@1) differs from the result made at [WHEN] by USER@HOST, and its kind is declared exact
    "#]]
    .assert_eq(&plain(&told.stdout));
    assert!(scene.read("c/w.json").contains("\"diverged\""));
}

#[test]
fn a_step_is_verified_with_the_inputs_it_was_made_from_and_needs_a_result() {
    let scene = study("steady");
    scene.executed();
    scene.plumb("verify p.toml steady").exits(0);
    assert_eq!(scene.executed(), "steady");
    let told = scene.plumb("verify p.toml draw").exits(1).stderr;
    assert_eq!(
        told,
        "error: `draw` has no result in the cache to compare with\nhint: make it with `plumb run p.toml draw`\n"
    );
    scene.forget("world.pairs");
    let told = scene.plumb("verify p.toml steady").exits(1).stderr;
    assert!(told.contains("hint: make it with `plumb run p.toml world`"), "{told}");
}

/// A training of six steps, each a link of a chain, that draws something else in step `$HOME/parts` when that is there.
const TRAINING: &str = r#"schema = 1

[stage.train]
uses = "command"
with.argv = ["sh", "-c", """
chain=start
for step in 1 2 3 4 5 6; do
  state=$step
  [ "$step" = "$(cat $HOME/parts 2> /dev/null)" ] && state=other
  chain=$(echo $chain $state | cksum | cut -d ' ' -f 1)
  echo "{\\"step\\": $step, \\"chain\\": \\"$chain\\"}" >> {out:chain}
done
echo $chain > {out:weights}"""]
outputs = { weights = "weights.txt", chain = "chain.jsonl" }
"#;

#[test]
fn a_training_that_diverges_names_its_first_diverging_step() {
    let scene = Scene::new(TRAINING);
    scene.plumb("run p.toml").exits(0);
    let told = scene.plumb("verify p.toml train --json").exits(0).json();
    assert_eq!(told["repetitions"][0]["first_diverging_step"], serde_json::Value::Null);
    for step in [4, 1, 6] {
        scene.write("home/parts", &step.to_string());
        let told = scene.plumb("verify p.toml train").exits(1).stdout;
        assert!(told.contains(&format!("run 1 parted from it at training step {step}\n")), "{told}");
        let certificate: serde_json::Value = serde_json::from_str(&scene.read("p.train.certificate.json")).unwrap();
        assert_eq!(certificate["repetitions"][0]["first_diverging_step"], step);
    }
    assert_eq!(scene.store().witnesses(&scene.key("train")).unwrap().len(), 3);
}

#[test]
fn ctrl_c_ends_a_verification_its_step_and_its_scratch_folder_and_certifies_nothing() {
    let scene = Scene::new(
        r#"schema = 1

[stage.hang]
uses = "command"
with.argv = ["sh", "-c", "echo done > {out:text}; [ -e $HOME/gate ] || exit 0; cat $HOME/gate & echo $$ $! > $HOME/ready; wait"]
outputs = { text = "text.txt" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    let action = scene.key("hang");
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    for signal in [Signal::INT, Signal::TERM] {
        let child = scene.start("verify p.toml hang --times 2");
        let told = std::fs::read_to_string(&ready).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let stopped = scene.wait("verify p.toml hang (stopped)", child).exits(130);
        assert_eq!(stopped.stdout, "");
        assert_eq!(
            stopped.stderr,
            "stopping the running steps; Ctrl-C again kills them\n`hang` was stopped: nothing is certified\n"
        );
        for pid in told.split_whitespace() {
            assert!(!alive(Pid::from_raw(pid.parse().unwrap()).unwrap()), "process {pid} outlived the verification");
        }
        assert!(std::fs::read_dir(scene.path("cache/v1/scratch")).unwrap().next().is_none());
        assert!(!scene.path("p.hang.certificate.json").exists());
        assert_eq!(scene.store().witnesses(&action).unwrap().len(), 0);
    }
}
