//! Ablations: which combinations the plans make and skip, which of them a command line builds, and what is told
//! where it names one that is not there.

use expect_test::expect;

use crate::harness::Scene;

/// prep (no axis) -> train (reward, kl, seed) -> score -> table (gathers them).
const STUDY: &str = r#"schema = 1

[params]
name = "study"
cpus = 1

[axes]
reward = ["label", "label-and-rationale"]
kl = [0.0, 0.01]
seed = { replicate = 2 }

[[plan]]
name = "grid"
mode = "cross"
skip = { reward = "label-and-rationale", kl = 0.01 }

[stage.prep]
uses = "command"
with.argv = ["sh", "-c", "echo prep >> $HOME/ran; echo $0 > {out:data}", { param = "name" }]
outputs = { data = "data.txt" }
run = { cpu = { param = "cpus" } }

[stage.train]
uses = "command"
inputs.data = "prep.data"
with.argv = ["sh", "-c", "echo $0/$1/$2 >> $HOME/ran; echo $0 $1 $2 > {out:model}", { axis = "reward" }, { axis = "kl" }, { axis = "seed" }]
outputs = { model = "model.txt" }

[stage.score]
uses = "command"
inputs.model = "train.model"
with.argv = ["sh", "-c", "echo score >> $HOME/ran; cp {in:model} {out:text}"]
outputs = { text = "score.txt" }

[stage.table]
uses = "command"
inputs.all = { all = "score.text", over = ["reward", "kl", "seed"] }
with.argv = ["sh", "-c", "echo table >> $HOME/ran; grep -c '\"stage\"' {in:all} > {out:rows}"]
outputs = { rows = "rows.txt" }
"#;

fn study() -> Scene {
    Scene::new(STUDY)
}

fn trained(scene: &Scene, line: &str) -> String {
    scene.plumb(line).exits(0);
    let ran = scene.executed();
    ran.split(' ').filter(|name| name.contains('/')).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_skipped_combination_is_not_made_and_is_not_missing_from_its_gather() {
    let scene = study();
    assert_eq!(
        trained(&scene, "run p.toml"),
        "label-and-rationale/0.0/0 label-and-rationale/0.0/1 label/0.0/0 label/0.0/1 label/0.01/0 label/0.01/1"
    );
    assert_eq!(scene.result("table.rows"), "6\n");
}

#[test]
fn a_skip_may_be_several_tables_with_lists_and_stars() {
    let scene = study();
    scene.edit(
        "skip = { reward = \"label-and-rationale\", kl = 0.01 }",
        "skip = [{ reward = [\"label-and-rationale\"], kl = \"*\" }, { reward = \"label\", kl = [0.01] }]",
    );
    assert_eq!(trained(&scene, "run p.toml"), "label/0.0/0 label/0.0/1");
    assert_eq!(scene.result("table.rows"), "2\n");
}

#[test]
fn a_combination_that_one_plan_skips_and_another_names_is_made() {
    let scene = study();
    scene.edit("[stage.prep]", "[[plan]]\nname = \"final\"\nmode = \"list\"\nruns = [{ reward = \"label-and-rationale\", kl = 0.01 }]\n\n[stage.prep]");
    trained(&scene, "run p.toml");
    assert_eq!(scene.result("table.rows"), "8\n");
    scene.edit("over = [\"reward\", \"kl\", \"seed\"] }", "over = [\"reward\", \"kl\", \"seed\"], plan = \"final\" }");
    assert_eq!(trained(&scene, "run p.toml"), "");
    assert_eq!(scene.result("table.rows"), "2\n");
}

#[test]
fn what_a_skip_leaves_out_is_told_where_it_is_asked_for() {
    let scene = study();
    scene.plumb("plan p.toml train@reward=label-and-rationale,kl=0.01").exits(2).says(expect![[r#"
        ---
        error: no plan makes the branch `train@reward=label-and-rationale,kl=0.01`
        hint: plan `grid` skips `reward=label-and-rationale kl=0.01`
    "#]]);
    scene.edit("skip = { reward = \"label-and-rationale\", kl = 0.01 }", "skip = { reward = \"*\" }");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: every combination of every plan is skipped: no stage has a branch
          --> p.toml:12:1
           |
        12 | [[plan]]
           | ^^^^^^^^
        hint: make `skip` name more axes
    "#]]);
    scene.edit("skip = { reward = \"*\" }", "skip = [{ kl = 0.02 }, { reward = \"label\", seed = 1 }, {}, 3]");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: unknown value of axis `kl`: `0.02`
          --> p.toml:15:16
           |
        15 | skip = [{ kl = 0.02 }, { reward = "label", seed = 1 }, {}, 3]
           |                ^^^^
        hint: did you mean `0.0`?

        error: `seed` is a replicate: every plan crosses it already
          --> p.toml:15:44
           |
        15 | skip = [{ kl = 0.02 }, { reward = "label", seed = 1 }, {}, 3]
           |                                            ^^^^
        hint: leave `seed` out of the plan

        error: this `skip` names no axis
          --> p.toml:15:56
           |
        15 | skip = [{ kl = 0.02 }, { reward = "label", seed = 1 }, {}, 3]
           |                                                        ^^
        hint: write `skip = { AXIS = VALUE }`: what has all of these values is left out

        error: `skip` must be a table, not a whole number
          --> p.toml:15:60
           |
        15 | skip = [{ kl = 0.02 }, { reward = "label", seed = 1 }, {}, 3]
           |                                                            ^
    "#]]);
    scene.edit("skip = [{ kl = 0.02 }, { reward = \"label\", seed = 1 }, {}, 3]\n", "");
    scene.edit("mode = \"cross\"", "mode = \"one-off\"\nskip = { reward = \"label-and-rationale\", kl = 0.01 }");
    scene.plumb("plan p.toml prep").exits(0).says(expect![[r#"
        run  prep  no earlier result of this stage is known

        stage  hit  run  may run  saves     time  known from
        prep     -    1        -      -  unknown  no history

        0 steps in the cache, 1 to run; how long that takes is unknown
        ---
        warning: this `skip` leaves nothing out: the plan has no such combination
          --> p.toml:15:8
           |
        15 | skip = { reward = "label-and-rationale", kl = 0.01 }
           |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    "#]]);
}

#[test]
fn a_gather_of_a_plan_that_skips_all_says_so() {
    let scene = study();
    scene.edit(
        "[stage.prep]",
        "[[plan]]\nname = \"none\"\nmode = \"list\"\nruns = [{ kl = 0.01 }]\nskip = { kl = 0.01 }\n\n[stage.prep]",
    );
    scene.edit("over = [\"reward\", \"kl\", \"seed\"] }", "over = [\"reward\", \"kl\", \"seed\"], plan = \"none\" }");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: `table` gathers no branch
          --> p.toml:43:14
           |
        43 | inputs.all = { all = "score.text", over = ["reward", "kl", "seed"], plan = "none" }
           |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: plan `none` skips every branch that fits: check its `skip`
    "#]]);
}

#[test]
fn ranges_lists_and_several_axes_choose_among_the_goals() {
    let scene = study();
    scene.edit("replicate = 2", "replicate = 4");
    assert_eq!(
        trained(&scene, "run p.toml train --axis seed=1..2 --axis reward=label --axis kl=0.0"),
        "label/0.0/1 label/0.0/2"
    );
    assert_eq!(
        trained(&scene, "run p.toml train --axis seed=0,3 --axis kl=0.0 --axis reward=label"),
        "label/0.0/0 label/0.0/3"
    );
    scene.plumb("plan p.toml train --axis seed=2..9").exits(2).says(expect![[r#"
        ---
        error: `--axis seed=2..9`: axis `seed` does not hold all of `2..9`
        hint: `seed` goes from 0 to 3
    "#]]);
    scene.plumb("plan p.toml train --axis seed=1,kl=0.0").exits(2).says(expect![[r#"
        ---
        error: `--axis seed=1,kl=0.0` names two axes
        hint: give each axis its own option: `--axis seed=… --axis kl=0.0`
    "#]]);
    scene.plumb("plan p.toml train --axis reward=lable --axis sed=1").exits(2).says(expect![[r#"
        ---
        error: `--axis reward=lable`: axis `reward` has no `lable`
        hint: did you mean `label`?

        error: `--axis sed=1`: unknown axis `sed`
        hint: did you mean `seed`?
    "#]]);
}

#[test]
fn addresses_with_globs_choose_steps_and_a_wrong_one_names_the_nearest() {
    let scene = study();
    assert_eq!(
        trained(&scene, "run p.toml train@reward=label*,kl=0.0,seed=*"),
        "label-and-rationale/0.0/0 label-and-rationale/0.0/1 label/0.0/0 label/0.0/1"
    );
    assert_eq!(trained(&scene, "run p.toml tr*@seed=1,kl=*1"), "label/0.01/1");
    scene.plumb("run p.toml trian").exits(2).says(expect![[r#"
        ---
        error: unknown stage `trian`
        hint: did you mean `train`?
    "#]]);
    scene.plumb("run p.toml train@rewrad=label").exits(2).says(expect![[r#"
        ---
        error: `train@rewrad=label`: the stage sees no axis `rewrad`
        hint: did you mean `reward`?
    "#]]);
    scene.plumb("run p.toml train@reward=lable").exits(2).says(expect![[r#"
        ---
        error: `train@reward=lable`: axis `reward` has no `lable` here
        hint: did you mean `label`?
    "#]]);
    scene.edit("mode = \"cross\"\nskip = { reward = \"label-and-rationale\", kl = 0.01 }", "mode = \"one-off\"");
    scene.plumb("run p.toml train@reward=label-and-rationale,kl=0.01,seed=1").exits(2).says(expect![[r#"
        ---
        error: no plan makes the branch `train@reward=label-and-rationale,kl=0.01,seed=1`
        hint: the nearest are `train@kl=0.01,seed=1`, `train@reward=label-and-rationale,seed=1`
    "#]]);
}

#[test]
fn until_stops_at_its_steps_and_from_builds_what_depends_on_them() {
    let scene = study();
    scene.plumb("run p.toml --from train").exits(2).says(expect![[r#"
        ---
        error: `--from` takes what stands before its steps from the cache, and `prep` is not there
        hint: leave `--from` out, or make it first: `plumb run p.toml prep`
    "#]]);
    assert_eq!(scene.executed(), "");
    scene.plumb("run p.toml --until prep").exits(0);
    assert_eq!(scene.executed(), "prep");
    scene.plumb("run p.toml --from train --until score@kl=0.01,seed=0").exits(0);
    assert_eq!(scene.executed(), "label/0.01/0 score");
    scene.plumb("run p.toml --from prep").exits(0);
    assert!(scene.executed().ends_with("score score score score score table"));
    scene.plumb("run p.toml score --until table").exits(2).says(expect![[r#"
        ---
        error: `--until table`: no goal needs this step
        hint: name a goal that does, or leave the option out
    "#]]);
    scene.plumb("run p.toml prep --from train").exits(2).says(expect![[r#"
        ---
        error: `--from train`: no goal needs this step
        hint: name a goal that does, or leave the option out
    "#]]);
}

#[test]
fn from_needs_only_what_stands_before_it() {
    let scene = study();
    scene.plumb("run p.toml score").exits(0);
    scene.executed();
    scene.edit("echo prep >> $HOME/ran;", "echo prep >> $HOME/ran; true;");
    scene.plumb("run p.toml --from score").exits(2).says(expect![[r#"
        ---
        error: `--from` takes what stands before its steps from the cache, and `prep` is not there (nor are 6 more)
        hint: leave `--from` out, or make it first: `plumb run p.toml prep`
    "#]]);
    scene.plumb("plan p.toml --from prep").exits(0);
}

#[test]
fn fresh_takes_globs_and_plan_shows_what_it_would_run() {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene.plumb("plan p.toml --fresh tr*@seed=1,kl=0.01").exits(0).prints(expect![[r#"
        run  train@kl=0.01,seed=1  asked for with `--fresh`

        stage  hit  run  may run  saves  time  known from
        prep  1  -  -  [TIME]  -
        train  5  1  -  [TIME]  [TIME]  the same steps
        score  6  -  -  [TIME]  -
        table  1  -  -  [TIME]  -

        13 steps in the cache (saves [TIME]), 1 to run; about [TIME] of steps, [TIME] with [N] at once
    "#]]);
    scene.plumb("run p.toml --fresh tr*@seed=1,kl=0.01").exits(0);
    assert_eq!(scene.executed(), "label/0.01/1");
    scene.plumb("run p.toml --fresh trian").exits(2);
}

#[test]
fn a_text_parameter_is_set_without_quotes() {
    let scene = study();
    scene.plumb("run p.toml prep --set name=5").exits(0);
    assert_eq!(scene.result("prep.data --set name=5"), "5\n");
    scene.plumb("run p.toml prep --set name=\"5\"").exits(0);
    assert_eq!(scene.executed(), "prep", "the same text, quoted or not");
    scene.plumb("run p.toml prep --set name=true").exits(0);
    assert_eq!(scene.result("prep.data --set name=true"), "true\n");
}

#[test]
fn run_takes_parameters_and_they_are_typed() {
    let scene = study();
    scene.plumb("run p.toml prep").exits(0);
    scene.plumb("run p.toml prep --set cpus=2").exits(0);
    assert_eq!(scene.executed(), "prep");
    scene.plumb("run p.toml prep --set cpus=many").exits(2).says(expect![[r#"
        ---
        error: `cpu` must be a whole number, not text
          --> p.toml:21:15
           |
        21 | run = { cpu = { param = "cpus" } }
           |               ^^^^^^^^^^^^^^^^^^
    "#]]);
    scene.edit("run = { cpu = { param = \"cpus\" } }", "run = { cpu = { param = \"cpu\" }, mem = { axis = \"kl\" } }");
    scene.plumb("run p.toml prep").exits(2).says(expect![[r#"
        ---
        error: unknown parameter `cpu`
          --> p.toml:21:15
           |
        21 | run = { cpu = { param = "cpu" }, mem = { axis = "kl" } }
           |               ^^^^^^^^^^^^^^^^^
        hint: did you mean `cpus`?

        error: `run` cannot follow an axis
          --> p.toml:21:40
           |
        21 | run = { cpu = { param = "cpu" }, mem = { axis = "kl" } }
           |                                        ^^^^^^^^^^^^^^^
        hint: `run` is how a stage runs, the same for all its branches: write a value or `{ param = … }`
    "#]]);
}
