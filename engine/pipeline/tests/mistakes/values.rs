//! Inputs and parameters that are missing or wrong, and sources that are not where they should be.

use expect_test::expect;

use super::check_errors;

#[test]
fn missing_inputs_and_parameters_are_told() {
    check_errors(
        "[stage.train]\nuses = \"model.train\"\n[stage.t]\nuses = \"stats.table\"\n",
        expect![[r#"
        error: stage `train` lacks the input `pairs`
         --> p.toml:2:8
          |
        2 | [stage.train]
          |        ^^^^^
        hint: add `inputs.pairs = "STAGE.OUTPUT"`: what to learn

        error: stage `train` lacks the parameter `learning_rate`
         --> p.toml:2:8
          |
        2 | [stage.train]
          |        ^^^^^
        hint: add `with.learning_rate = …`: Learning rate.

        error: stage `train` lacks the parameter `steps`
         --> p.toml:2:8
          |
        2 | [stage.train]
          |        ^^^^^
        hint: add `with.steps = …`: Steps of the optimiser.

        error: stage `t` lacks the input `items`
         --> p.toml:4:8
          |
        4 | [stage.t]
          |        ^
        hint: add `inputs.items = { all = "STAGE.OUTPUT", over = ["AXIS"] }`: scores by branch
    "#]],
    );
}

#[test]
fn every_wrong_parameter_of_a_stage_is_told() {
    check_errors(
        r#"
[stage.prep]
uses = "data.make"
with.rows = "many"
with.sed = 1
[stage.train]
uses = "model.train"
inputs.pairs = "prep.pairs"
with.steps = -1
with.learning_rate = nan
with.reward = "lable"
with.penalty.wrnog = 1
"#,
        expect![[r#"
            error: `rows`: invalid type: string "many", expected a whole number from 0
             --> p.toml:5:13
              |
            5 | with.rows = "many"
              |             ^^^^^^

            error: unknown parameter `sed`
             --> p.toml:6:6
              |
            6 | with.sed = 1
              |      ^^^
            hint: did you mean `seed`?

            error: `steps`: invalid value: integer `-1`, expected a whole number from 0
              --> p.toml:10:14
               |
            10 | with.steps = -1
               |              ^^

            error: `nan` is not a number that a key can hold
              --> p.toml:11:22
               |
            11 | with.learning_rate = nan
               |                      ^^^

            error: `reward`: unknown value `lable`
              --> p.toml:12:15
               |
            12 | with.reward = "lable"
               |               ^^^^^^^
            hint: did you mean `label`?

            error: unknown parameter `wrnog`
              --> p.toml:13:14
               |
            13 | with.penalty.wrnog = 1
               |              ^^^^^
            hint: did you mean `wrong`?
        "#]],
    );
}

#[test]
fn what_a_kind_checks_itself_is_told_at_the_field() {
    check_errors(
        r#"
[stage.prep]
uses = "data.make"
with.rows = 0
[stage.train]
uses = "model.train"
inputs.pairs = "prep.pairs"
with = { steps = 1, learning_rate = 0.1, kl = -1, penalty = { wrong = 1.0 } }
"#,
        expect![[r#"
            error: `rows`: must be at least 1
             --> p.toml:5:13
              |
            5 | with.rows = 0
              |             ^

            error: `kl`: must not be negative
             --> p.toml:9:47
              |
            9 | with = { steps = 1, learning_rate = 0.1, kl = -1, penalty = { wrong = 1.0 } }
              |                                               ^^

            error: `penalty.wrong`: must not be positive
             --> p.toml:9:71
              |
            9 | with = { steps = 1, learning_rate = 0.1, kl = -1, penalty = { wrong = 1.0 } }
              |                                                                       ^^^
        "#]],
    );
}

#[test]
fn a_wrong_value_of_an_axis_is_told_where_it_is_used() {
    check_errors(
        "[axes]\nrows = [1, \"two\"]\n[stage.prep]\nuses = \"data.make\"\nwith.rows = { axis = \"rows\" }\n",
        expect![[r#"
            error: `rows`: invalid type: string "two", expected a whole number from 0
             --> p.toml:6:13
              |
            6 | with.rows = { axis = "rows" }
              |             ^^^^^^^^^^^^^^^^^
            hint: in the branch `prep@rows=two`
        "#]],
    );
}

#[test]
fn a_missing_source_that_a_goal_needs_is_an_error_at_its_path() {
    check_errors(
        "[source.raw]\npath = \"nowhere.jsonl\"\n[stage.a]\nuses = \"data.make\"\ninputs.raw = \"source.raw\"\n",
        expect![[r#"
            error: source `raw` does not exist: `nowhere.jsonl`
             --> p.toml:3:8
              |
            3 | path = "nowhere.jsonl"
              |        ^^^^^^^^^^^^^^^
        "#]],
    );
}

#[test]
fn a_source_may_take_its_path_from_a_parameter() {
    check_errors(
        r#"
[params]
checkpoint = "nowhere"
number = 1
[source.a]
path = { param = "checkpoint" }
[stage.a]
uses = "data.make"
inputs.raw = "source.a"
with.rows = { param = "number" }
"#,
        expect![[r#"
            error: source `a` does not exist: `nowhere`
             --> p.toml:7:8
              |
            7 | path = { param = "checkpoint" }
              |        ^^^^^^^^^^^^^^^^^^^^^^^^
            hint: give it with `--set checkpoint=PATH`
        "#]],
    );
    check_errors(
        r#"
[params]
number = 1
[source.b]
path = { param = "number" }
[source.c]
path = { param = "numbre" }
[source.d]
path = 3
"#,
        expect![[r#"
            error: the parameter `number` must be text, not a whole number
             --> p.toml:6:8
              |
            6 | path = { param = "number" }
              |        ^^^^^^^^^^^^^^^^^^^^

            error: unknown parameter `numbre`
             --> p.toml:8:18
              |
            8 | path = { param = "numbre" }
              |                  ^^^^^^^^
            hint: did you mean `number`?

            error: a source's path must be text, not a whole number
              --> p.toml:10:8
               |
            10 | path = 3
               |        ^
        "#]],
    );
}

#[test]
fn a_sources_parameter_must_be_there_and_be_text() {
    check_errors(
        r#"
        [params]
        data = 3
        [source.one]
        path = { param = "data" }
        [source.two]
        path = { param = "dta" }
        [stage.prep]
        uses = "data.make"
        "#,
        expect![[r#"
            error: the parameter `data` must be text, not a whole number
             --> p.toml:6:16
              |
            6 |         path = { param = "data" }
              |                ^^^^^^^^^^^^^^^^^^

            error: unknown parameter `dta`
             --> p.toml:8:26
              |
            8 |         path = { param = "dta" }
              |                          ^^^^^
            hint: did you mean `data`?
        "#]],
    );
}
