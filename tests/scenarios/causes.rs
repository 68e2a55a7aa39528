//! Every kind of cause through `plumb why`, each beside what is no cause; and the stories that lead up to one.

use std::collections::BTreeMap;

use expect_test::expect;
use plumb_cache::{ActionKey, ActionRecord, Mark, RecipeKey};

use crate::harness::Scene;
use crate::scenarios::reruns::chain_that_ran;

/// world (a kind of the house) -> count.
const WORLD: &str = r#"schema = 1

[axes]
rate = [0.5, 0.25]
seed = { replicate = 2 }

[params]
pairs = 4

[stage.world]
uses = "data.miniature"
with = { partition = "train", pairs = { param = "pairs" }, cue_rate = { axis = "rate" }, seed = { axis = "seed" } }

[stage.count]
uses = "command"
inputs.pairs = "world.pairs"
with.argv = ["sh", "-c", "echo count >> $HOME/ran; wc -l < {in:pairs} > {out:number}"]
outputs = { number = "number.txt" }
"#;

fn world() -> Scene {
    let scene = Scene::new(WORLD);
    scene.plumb("run p.toml world@rate=0.5,seed=0 count@rate=0.5,seed=0").exits(0);
    scene
}

/// Changes a step's record into what another plumb would have left: the same bytes under another document.
fn as_another_plumb_left_it(scene: &Scene, step: &str, from: &str, to: &str) {
    let action = scene.key(step);
    let record = scene.store().action(&action).unwrap().unwrap();
    for document in [&record.action_document, &record.recipe_document] {
        assert!(document.contains(from), "no `{from}` in {document}");
    }
    rewrite(scene, action, from, to);
}

fn rewrite(scene: &Scene, action: ActionKey, from: &str, to: &str) {
    let store = scene.store();
    let record = store.action(&action).unwrap().unwrap();
    let (action_document, recipe_document) =
        (record.action_document.replace(from, to), record.recipe_document.replace(from, to));
    let (older, recipe) = (ActionKey::of_document(&action_document), RecipeKey::of_document(&recipe_document));
    store.publish(&ActionRecord { action: older, recipe, action_document, recipe_document, ..record }).unwrap();
    std::fs::remove_file(scene.record_file(action)).unwrap();
}

#[test]
fn a_hit_says_which_record_it_is_who_made_it_when_and_at_what_cost() {
    let scene = chain_that_ran();
    let told = scene.plumb("why p.toml count").exits(0);
    let made_by = told.stdout.split(" by ").nth(1).unwrap().split(" in ").next().unwrap().to_string();
    assert!(made_by.contains('@'), "{made_by}");
    expect![[r#"
        `count` is a hit: its result was made at [WHEN] by USER@HOST in [TIME] ([TIME] of CPU, [SIZE] at most)
          record [KEY]
          no earlier result of this stage is known
    "#]]
    .assert_eq(&told.stdout.replace(&made_by, "USER@HOST"));
    let told = scene.plumb("why p.toml count --json").exits(0).json();
    let made = &told[0]["chain"][0]["made"];
    assert_eq!((made["step"].as_str(), made["pipeline"].as_str()), (Some("count"), Some("p")));
    assert!(made["wall_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_parameter_from_an_axis_is_told_with_the_axis_and_another_is_not() {
    let scene = world();
    scene.edit("rate = [0.5, 0.25]", "rate = [0.75, 0.25]");
    scene.plumb("why p.toml world@rate=0.75,seed=0").exits(0).prints(expect![[r#"
        `world` runs
          `cue_rate` is 0.75, was 0.5 (from axis `rate`)
    "#]]);
    let scene = world();
    scene.plumb("why p.toml world@rate=0.5,seed=0 --set pairs=5").exits(0).prints(expect![[r#"
        `world` runs
          `pairs` is 5, was 4
    "#]]);
}

#[test]
fn a_new_branch_is_compared_with_another_and_says_with_which() {
    world().plumb("why p.toml world@seed=1").exits(0).prints(expect![[r#"
        step                         why
        world@seed=1            run  `seed` is 1, was 0 (from axis `seed`)
        world@rate=0.25,seed=1  run  `cue_rate` is 0.25, was 0.5 (from axis `rate`); `seed` is 1, was 0 (from axis `seed`)
    "#]]);
}

#[test]
fn a_stage_with_several_branches_is_summed_up_a_line_a_branch() {
    let scene = world();
    let told = scene.plumb("why p.toml count").exits(0);
    assert_eq!(told.stderr, "hint: name a branch for its whole story, as `count@rate=0.5,seed=0`\n");
    let told = told.stdout;
    let by = told.split(" by ").nth(1).unwrap().lines().next().unwrap().trim().to_string();
    expect![[r#"
        step                             why
        count                   hit      made at [WHEN] by USER@HOST
        count@seed=1            may run  waits on `world@seed=1`: `seed` is 1, was 0 (from axis `seed`)
        count@rate=0.25         may run  waits on `world@rate=0.25`: `cue_rate` is 0.25, was 0.5 (from axis `rate`)
        count@rate=0.25,seed=1  may run  waits on `world@rate=0.25,seed=1`: `cue_rate` is 0.25, was 0.5 (from axis `rate`); `seed` is 1, was 0 (from axis `seed`)
    "#]]
    .assert_eq(&told.replace(&by, "USER@HOST"));
}

#[test]
fn a_source_is_told_with_both_digests() {
    let scene = chain_that_ran();
    scene.write("raw.txt", "x\n");
    let told = scene.plumb("why p.toml prep --json").exits(0).json();
    let cause = &told[0]["chain"][0]["causes"][0]["cause"];
    assert_eq!((cause["cause"].as_str(), cause["name"].as_str()), (Some("source"), Some("raw")));
    let digest = |text: &str| format!("file:{}", plumb_cache::Digest::of(text.as_bytes()));
    assert_eq!(cause["before"], digest("b\na\nc\n"));
    assert_eq!(cause["now"], digest("x\n"));
}

#[test]
fn an_older_behaviour_version_is_a_cause() {
    let scene = world();
    let version = world_version(&scene);
    as_another_plumb_left_it(&scene, "world@rate=0.5,seed=0", &format!("data.miniature@{version}"), "data.miniature@0");
    let told = scene.plumb("why p.toml world@rate=0.5,seed=0").exits(0).stdout;
    assert_eq!(told, format!("`world` runs\n  the stage's behaviour version is {version}, was 0\n"));
}

fn world_version(scene: &Scene) -> u64 {
    let told = scene.plumb("show data.miniature --json").exits(0).json();
    told["kind"]["version"].as_u64().unwrap()
}

#[test]
fn an_added_and_a_removed_input_are_causes() {
    let scene = chain_that_ran();
    scene.edit("inputs.lines = \"prep.sorted\"", "inputs.lines = \"prep.sorted\"\ninputs.more = \"source.raw\"");
    scene.plumb("why p.toml count").exits(0).prints(expect![[r#"
        `count` runs
          input `more` was added
    "#]]);
    scene.plumb("run p.toml").exits(0);
    scene.edit("\ninputs.more = \"source.raw\"", "");
    // The first result is there again, so it is made to differ.
    scene.edit("wc -l", "wc  -l");
    let told = scene.plumb("why p.toml count").exits(0).stdout;
    assert!(told.contains("input `more` was removed"), "{told}");
}

#[test]
fn other_outputs_a_salt_a_missing_blob_and_fresh_are_causes() {
    let scene = chain_that_ran();
    scene.edit("{ number = \"number.txt\" }", "{ number = \"number.txt\", extra = \"extra.txt\" }");
    scene.edit("outputs = { text", "salt = \"x\"\noutputs = { text");
    let reasons = |scene: &Scene, line: &str| -> Vec<String> {
        let told = scene.plumb(line).exits(0).json();
        let causes = told[0]["chain"][0]["causes"].as_array().unwrap().clone();
        causes.iter().map(|told| told["cause"]["cause"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(reasons(&scene, "why p.toml count --json"), ["outputs"]);
    let scene = chain_that_ran();
    scene.edit("outputs = { text", "salt = \"x\"\noutputs = { text");
    assert_eq!(reasons(&scene, "why p.toml report --json"), ["salt"]);
    let scene = chain_that_ran();
    scene.forget("report.text");
    assert_eq!(reasons(&scene, "why p.toml report --json"), ["missing-blob"]);
    let scene = chain_that_ran();
    assert_eq!(reasons(&scene, "why p.toml report --fresh report --json"), ["fresh"]);
    scene.plumb("why p.toml report --fresh report").exits(0).prints(expect![[r#"
        `report` runs
          asked for with `--fresh`
    "#]]);
    assert_eq!(reasons(&scene, "why p.toml report --json"), ["never-ran"], "a hit: nothing asks for it afresh");
}

#[test]
fn a_disowned_result_runs_again_and_what_was_made_from_it_is_not_served() {
    let scene = chain_that_ran();
    let count = scene.key("count");
    scene.store().disown(&count, "doubtful").unwrap();
    scene.plumb("why p.toml report").exits(0).prints(expect![[r#"
        `report` may run
          its result was made from the disowned result of `count`: doubtful
          waits on `count` (input `number`)
            `count` runs
              its result is disowned: doubtful
    "#]]);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count", "it gave the same bytes again, so `report` stands");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the new result is owned");
}

#[test]
fn what_was_made_from_a_disowned_result_says_so() {
    let scene = chain_that_ran();
    let prep = scene.key("prep");
    scene.store().disown(&prep, "doubtful").unwrap();
    let plan = scene.plumb("plan p.toml --json").exits(0).json();
    let states: BTreeMap<&str, &str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, BTreeMap::from([("prep", "run"), ("count", "may-run"), ("report", "may-run")]));
}

#[test]
fn what_stands_on_a_disowned_ancestor_says_which_and_why_and_who_disowned_it() {
    let scene = Scene::new(
        r#"schema = 1
[stage.draw]
uses = "command"
with.argv = ["cp", "/proc/sys/kernel/random/uuid", "{out:x}"]
outputs = { x = "x" }
[stage.copy]
uses = "command"
inputs.x = "draw.x"
with.argv = ["cp", "{in:x}", "{out:y}"]
outputs = { y = "y" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    let draw = scene.key("draw");
    let mark = Mark { reason: "leaked labels".into(), by: "ada@lab".into(), at: "2026-11-23T09:00:00Z".into() };
    scene.store().disown(&draw, mark).unwrap();
    scene.plumb("why p.toml draw").exits(0).prints(expect![[r#"
        `draw` runs
          its result is disowned: leaked labels (ada@lab, [WHEN])
    "#]]);
    scene.plumb("run p.toml draw").exits(0);
    scene.plumb("why p.toml copy").exits(0).prints(expect![[r#"
        `copy` runs
          its result was made from the disowned result of `draw`: leaked labels (ada@lab, [WHEN])
    "#]]);
}

#[test]
fn the_chain_goes_on_from_what_a_result_stood_on_though_that_was_collected() {
    let scene = chain_that_ran();
    let first = scene.key("prep");
    for lines in ["x\n", "x\ny\n"] {
        scene.write("raw.txt", lines);
        scene.plumb("run p.toml prep").exits(0);
    }
    scene.plumb("cache gc --max-size 0B --keep-runs 1").exits(0);
    let told = scene.plumb("why p.toml count --json").exits(0).json();
    let producer = &told[0]["chain"][1];
    assert_eq!((producer["step"].as_str(), producer["verdict"].as_str()), (Some("prep"), Some("hit")));
    assert_eq!(producer["compared_with"]["action"], first.to_string(), "not the `prep` between the two");
}

#[test]
fn strict_code_asks_for_a_result_that_says_which_code_made_it() {
    let scene = world();
    let step = "world@rate=0.5,seed=0";
    scene.plumb(&format!("why p.toml {step} --strict-code")).exits(0).prints(expect![[r#"
        `world` runs
          `--strict-code` asks for a result that says which code made it, and the earlier one does not
    "#]]);
    scene.executed();
    scene.plumb("run p.toml count@rate=0.5,seed=0 --strict-code").exits(0);
    assert_eq!(scene.executed(), "", "`world` ran and gave the same bytes; a command has no code of ours");
    let told = scene.plumb("plan p.toml count@rate=0.5,seed=0 --strict-code --json").exits(0).json();
    assert_eq!((told["runs"].as_u64(), told["may_run"].as_u64()), (Some(0), Some(0)));

    // Another build of plumb made it.
    let strict = scene.plumb(&format!("why p.toml {step} --strict-code --json")).exits(0).json();
    let action: ActionKey = strict[0]["chain"][0]["action"].as_str().unwrap().parse().unwrap();
    let document = scene.store().action(&action).unwrap().unwrap().action_document;
    let code = document.strip_prefix("{\"code\":\"").unwrap().split('"').next().unwrap().to_string();
    scene.edit("schema = 1", "schema = 1\n");
    rewrite(&scene, action, &code, &"0".repeat(64));
    let told = scene.plumb(&format!("why p.toml {step} --strict-code")).exits(0).stdout;
    let expected =
        format!("the code of its kind differs ({}, was 000000000000) and `--strict-code` counts it", &code[..12]);
    assert!(told.contains(&expected), "{told}");
}

#[test]
fn a_chain_of_thousands_is_explained_to_its_leaf() {
    let mut pipeline = String::from("schema = 1\n[source.raw]\npath = \"raw.txt\"\n");
    for index in 0..3000 {
        let input = if index == 0 { "source.raw".to_string() } else { format!("s{}.o", index - 1) };
        pipeline.push_str(&format!(
            "[stage.s{index}]\nuses = \"command\"\ninputs.i = \"{input}\"\nwith.argv = [\"true\"]\noutputs = {{ o = \"o\" }}\n"
        ));
    }
    let scene = Scene::new(&pipeline);
    scene.write("raw.txt", "x");
    let told = scene.plumb("why p.toml s2999").exits(0).stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 51, "a screen, not three thousand steps:\n{told}");
    assert_eq!(lines[0], "`s2999` may run");
    assert!(lines[30].contains("(`--verbose` tells all)"), "{}", lines[30]);
    assert_eq!(lines[50].trim(), "no earlier result of this stage is known");
    assert_eq!(scene.plumb("why p.toml s2999 --json").exits(0).json()[0]["chain"].as_array().unwrap().len(), 3000);
}
