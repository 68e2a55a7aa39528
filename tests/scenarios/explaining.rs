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
          source `raw` has other content (file:[DIGEST], was file:[DIGEST])
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
                  source `raw` has other content (file:[DIGEST], was file:[DIGEST])
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
              source `raw` has other content (file:[DIGEST], was file:[DIGEST])
    "#]]);
}

#[test]
fn why_is_json_for_machines() {
    let scene = ran();
    let told = scene.plumb("why p.toml report --set word=rows --json").exits(0).json();
    let one = &told[0]["chain"][0];
    assert_eq!((one["step"].as_str(), one["verdict"].as_str()), (Some("report"), Some("run")));
    assert_eq!((one["made"].is_null(), one["compared_with"]["step"].as_str()), (true, Some("report")));
    let cause = serde_json::to_string_pretty(&one["causes"]).unwrap();
    expect![[r#"
        [
          {
            "because": null,
            "cause": {
              "before": "\"lines\"",
              "cause": "parameter",
              "name": "argv[3]",
              "now": "\"rows\""
            },
            "sentence": "`argv[3]` is \"rows\", was \"lines\""
          }
        ]"#]]
    .assert_eq(&cause);
}

#[test]
fn the_plan_has_three_values_and_never_guesses() {
    let scene = ran();
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        stage  hit  run  may run  saves  time  known from
        prep  1  -  -  [TIME]  -
        count  1  -  -  [TIME]  -
        report  1  -  -  [TIME]  -

        3 steps in the cache (saves [TIME]), 0 to run
    "#]]);
    scene.write("raw.txt", "c\nb\na\n");
    for line in ["plan p.toml", "plan p.toml --verbose --set word=rows"] {
        scene.plumb(line).exits(0).prints(expect![[r#"
            run  prep  source `raw` has other content (file:[DIGEST], was file:[DIGEST])
            may run  count  waits on prep
            may run  report  waits on count

            stage  hit  run  may run  saves  time  known from
            prep  -  1  -  -  [TIME]  the same steps
            count  -  -  1  -  [TIME]  the same steps
            report  -  -  1  -  [TIME]  the same steps

            0 steps in the cache, 1 to run, 2 may run; about [TIME] of steps, [TIME] with [N] at once
        "#]]);
    }
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
