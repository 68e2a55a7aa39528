//! What the command line chooses, and what is told where it names something that is not there.

use expect_test::{Expect, expect};

use super::{Selection, parse};

const TEXT: &str = r#"
    [params]
    steps = 1
    [axes]
    reward = ["label", "label-and-rationale"]
    seed = { replicate = 3 }
    [stage.prep]
    uses = "data.make"
    [stage.train]
    uses = "model.train"
    inputs.pairs = "prep.pairs"
    with = { steps = { param = "steps" }, learning_rate = 0.1, reward = { axis = "reward" }, seed = { axis = "seed" } }
    [stage.verdict]
    uses = "stats.table"
    inputs.items = { all = "train.model", over = ["reward", "seed"] }
    [profile.smoke]
    params = { steps = 2 }
"#;

fn check(axis: &[&str], steps: &[&str], expect: Expect) {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let selection = Selection { axis: owned(axis), steps: owned(steps), ..Selection::default() };
    let shown = match parse(TEXT, &selection) {
        Ok(graph) => {
            let goals: Vec<String> = graph.goals.iter().map(|goal| graph.step(*goal).address.full()).collect();
            format!("{} steps; {}\n", graph.steps.len(), goals.join(" "))
        }
        Err(told) => told.render(),
    };
    expect.assert_eq(&shown);
}

#[test]
fn without_a_goal_every_step_that_nobody_consumes_is_built() {
    check(
        &[],
        &[],
        expect![[r#"
        8 steps; verdict
    "#]],
    );
}

#[test]
fn a_stage_name_selects_all_its_branches_and_an_address_some() {
    check(
        &[],
        &["train@reward=label"],
        expect![[r#"
        8 steps; train@reward=label,seed=0 train@reward=label,seed=1 train@reward=label,seed=2
    "#]],
    );
    check(
        &[],
        &["train@reward=label,seed=1..2", "prep"],
        expect![[r#"
        8 steps; train@reward=label,seed=1 train@reward=label,seed=2 prep
    "#]],
    );
    check(
        &[],
        &["tr*@seed=0,reward=*"],
        expect![[r#"
        8 steps; train@reward=label,seed=0 train@reward=label-and-rationale,seed=0
    "#]],
    );
}

#[test]
fn axis_chooses_among_goal_steps_and_never_shrinks_a_gather() {
    check(
        &["seed=0..1"],
        &["train"],
        expect![[r#"
        8 steps; train@reward=label,seed=0 train@reward=label,seed=1 train@reward=label-and-rationale,seed=0 train@reward=label-and-rationale,seed=1
    "#]],
    );
    check(
        &["seed=0", "reward=label-and-rationale"],
        &["train", "prep"],
        expect![[r#"
        8 steps; train@reward=label-and-rationale,seed=0 prep
    "#]],
    );
    check(
        &["seed=0"],
        &[],
        expect![[r#"
        8 steps; verdict
    "#]],
    );
}

#[test]
fn wrong_selections_name_the_nearest() {
    check(
        &["sed=0", "seed=7", "reward"],
        &["trian"],
        expect![[r#"
        error: `--axis sed=0`: unknown axis `sed`
        hint: did you mean `seed`?

        error: `--axis seed=7`: axis `seed` has no `7`
        hint: the values are `0`, `1`, `2`

        error: `--axis reward` names no label
        hint: write `--axis AXIS=LABEL`, as `--axis seed=0..2`
    "#]],
    );
    check(
        &[],
        &["trian", "train@rewrad=label", "train@reward=lable", "prep@seed=0", "train@seed"],
        expect![[r#"
            error: unknown stage `trian`
            hint: did you mean `train`?

            error: `train@rewrad=label`: the stage sees no axis `rewrad`
            hint: did you mean `reward`?

            error: `train@reward=lable`: axis `reward` has no `lable` here
            hint: did you mean `label`?

            error: `prep@seed=0`: the stage sees no axis `seed`
            hint: there are no axes it sees

            error: `seed` in `train@seed` is no `AXIS=LABEL`
            hint: write `STAGE@AXIS=LABEL,AXIS=LABEL`
        "#]],
    );
    check(
        &["seed=0"],
        &["train@seed=1"],
        expect![[r#"
        error: `--axis` leaves none of the 2 steps to build
    "#]],
    );
}

#[test]
fn wrong_profiles_and_parameters_name_the_nearest() {
    let set = vec![("step".to_string(), "1".to_string())];
    let selection = Selection { profile: Some("smok".into()), set, ..Selection::default() };
    expect![[r#"
        error: unknown profile `smok`
        hint: did you mean `smoke`?

        error: `--set step=1`: unknown parameter `step`
        hint: did you mean `steps`?
    "#]]
    .assert_eq(&parse(TEXT, &selection).err().unwrap().render());
}

#[test]
fn set_is_typed_by_the_stage() {
    let set = vec![("steps".to_string(), "many".to_string())];
    let selection = Selection { set, ..Selection::default() };
    expect![[r#"
        error: `steps`: invalid type: string "many", expected a whole number from 0
          --> p.toml:13:22
           |
        13 |     with = { steps = { param = "steps" }, learning_rate = 0.1, reward = { axis = "reward" }, seed = { axis = "seed" } }
           |                      ^^^^^^^^^^^^^^^^^^^
        hint: it is the value of the parameter `steps`
    "#]].assert_eq(&parse(TEXT, &selection).err().unwrap().render());
}
