//! `plumb why` and `plumb plan`: every reason has its scenario, and what is not known yet is not guessed.

use expect_test::expect;

use crate::harness::Scene;
use crate::scenarios::reruns;

fn ran() -> Scene {
    let scene = reruns::chain();
    scene.plumb("run p.toml").exits(0);
    scene
}

#[test]
fn why_says_that_a_step_never_ran() {
    reruns::chain().plumb("why p.toml prep").exits(0).prints(expect![[r#"
        `prep` runs
          no earlier result of this stage is known
    "#]]);
}

#[test]
fn why_names_the_parameter_with_both_values() {
    let scene = ran();
    scene.plumb("why p.toml report --set word=rows").exits(0).prints(expect![[r#"
        `report` runs
          `argv[3]` is "rows", was "lines"
    "#]]);
}

#[test]
fn why_names_the_source_that_changed() {
    let scene = ran();
    scene.write("raw.txt", "x\n");
    scene.plumb("why p.toml prep").exits(0).prints(expect![[r#"
        `prep` runs
          source `raw` has other content
    "#]]);
}

#[test]
fn why_follows_the_chain_to_its_leaf() {
    let scene = ran();
    scene.write("raw.txt", "x\n");
    scene.plumb("why p.toml report").exits(0).prints(expect![[r#"
        `report` may run
          waits on `count` (input `number`)
            `count` may run
              waits on `prep` (input `lines`)
                `prep` runs
                  source `raw` has other content
    "#]]);
}

#[test]
fn why_names_the_input_that_came_out_differently() {
    let scene = ran();
    scene.write("raw.txt", "x\n");
    scene.plumb("run p.toml prep").exits(0);
    scene.plumb("why p.toml count").exits(0).prints(expect![[r#"
        `count` runs
          input `lines` has other content (from `prep`)
            `prep` ran at [WHEN]
              source `raw` has other content
    "#]]);
}

#[test]
fn why_says_that_a_result_is_there_and_what_it_came_from() {
    ran().plumb("why p.toml count").exits(0).prints(expect![[r#"
        `count` is a hit: its result was made at [WHEN]
          no earlier result of this stage is known
    "#]]);
}

#[test]
fn why_names_an_added_input_other_outputs_a_salt_and_a_missing_blob() {
    let scene = ran();
    scene.edit(
        "inputs.lines = \"prep.sorted\"",
        "inputs.lines = \"prep.sorted\"\ninputs.more = \"source.raw\"\nsalt = \"x\"",
    );
    scene.plumb("why p.toml count").exits(0).prints(expect![[r#"
        `count` runs
          input `more` was added
          `salt` differs
    "#]]);
    let scene = ran();
    scene.edit("{ number = \"number.txt\" }", "{ number = \"number.txt\", extra = \"extra.txt\" }");
    scene.plumb("why p.toml count").exits(0).prints(expect![[r#"
        `count` runs
          the declared outputs differ
    "#]]);
    let scene = ran();
    scene.forget("report.text");
    scene.plumb("why p.toml report").exits(0).prints(expect![[r#"
        `report` runs
          output `text` is missing from the cache, or damaged there
    "#]]);
}

#[test]
fn why_is_json_for_machines() {
    let scene = ran();
    let told = scene.plumb("why p.toml report --set word=rows --json").exits(0).stdout;
    expect![[r#"
        {
          "step": "report",
          "verdict": "run",
          "made_at": null,
          "action": "[KEY]",
          "waits_on": [],
          "causes": [
            {
              "cause": {
                "cause": "parameter",
                "name": "argv[3]",
                "before": "\"lines\"",
                "now": "\"rows\""
              },
              "sentence": "`argv[3]` is \"rows\", was \"lines\"",
              "because": null
            }
          ]
        }
    "#]]
    .assert_eq(&told);
}

#[test]
fn the_plan_has_three_values_and_never_guesses() {
    let scene = ran();
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        stage  hit  run  may run
        prep  1  -  -
        count  1  -  -
        report  1  -  -

        3 steps in the cache (saves [TIME]), 0 to run
    "#]]);
    scene.write("raw.txt", "c\nb\na\n");
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        run      prep    source `raw` has other content
        may run  count   waits on prep
        may run  report  waits on count

        stage   hit  run  may run
        prep      -    1        -
        count     -    -        1
        report    -    -        1

        0 steps in the cache, 1 to run, 2 may run
    "#]]);
    scene.plumb("plan p.toml --verbose --set word=rows").exits(0).prints(expect![[r#"
        run      prep    source `raw` has other content
        may run  count   waits on prep
        may run  report  waits on count

        stage   hit  run  may run
        prep      -    1        -
        count     -    -        1
        report    -    -        1

        0 steps in the cache, 1 to run, 2 may run
    "#]]);
    assert_eq!(scene.executed(), "count prep report", "planning ran nothing more");
}

#[test]
fn the_plan_is_json_for_machines() {
    let scene = ran();
    scene.write("raw.txt", "c\nb\na\n");
    let plan = scene.plumb("plan p.toml --json").exits(0).json();
    assert_eq!((plan["hits"].as_u64(), plan["runs"].as_u64(), plan["may_run"].as_u64()), (Some(0), Some(1), Some(2)));
    assert_eq!(plan["steps"][0]["why"][0]["cause"], "source");
    assert_eq!(plan["steps"][1]["waits_on"][0], "prep");
}
