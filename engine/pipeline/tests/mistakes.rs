//! What is told where a pipeline is wrong: every mistake of a file at once, each at its very token.

use expect_test::expect;
use proptest::prelude::*;

use super::{Selection, check_errors, kinds, parse_text};

#[test]
fn all_syntax_errors_are_told_at_once() {
    check_errors(
        "[stage.a]\nuses = \nwith = { rows = 1\n[axes\n",
        expect![[r#"
        error: string values must be quoted, expected literal string
         --> p.toml:3:8
          |
        3 | uses =
          |        ^

        error: missing key for inline table element, expected `,`
         --> p.toml:5:1
          |
        5 | [axes
          | ^

        error: unclosed inline table, expected `}`
         --> p.toml:5:6
          |
        5 | [axes
          |      ^
    "#]],
    );
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    check_errors(
        r#"
[pipeline]
goal = ["trian"]
[params]
steps = 1
[axes]
reward = ["label"]
[stage.prep]
uses = "data.mkae"
[stage.more]
uses = "data.make"
input.raw = "prep.pairs"
inputs.rwa = "prp.pairs"
[stage.train]
uses = "model.train"
inputs.pairs = "more.pair"
with = { steps = { param = "step" }, learning_rate = 0.1, reward = { axis = "rewrad" } }
run = { cpus = 2 }
[profile.smoke]
params = { step = 2 }
axes = { sed = [1] }
[stages.x]
"#,
        expect![[r#"
            error: unknown stage `trian`
             --> p.toml:4:9
              |
            4 | goal = ["trian"]
              |         ^^^^^^^
            hint: did you mean `train`?

            error: unknown stage kind `data.mkae`
              --> p.toml:10:8
               |
            10 | uses = "data.mkae"
               |        ^^^^^^^^^^^
            hint: did you mean `data.make`?

            error: unknown stage key `input`
              --> p.toml:13:1
               |
            13 | input.raw = "prep.pairs"
               | ^^^^^
            hint: did you mean `inputs`?

            error: unknown input of `data.make`: `rwa`
              --> p.toml:14:8
               |
            14 | inputs.rwa = "prp.pairs"
               |        ^^^
            hint: did you mean `raw`?

            error: unknown stage `prp`
              --> p.toml:14:14
               |
            14 | inputs.rwa = "prp.pairs"
               |              ^^^^^^^^^^^
            hint: did you mean `prep`?

            error: stage `train` lacks the parameter `steps`
              --> p.toml:15:8
               |
            15 | [stage.train]
               |        ^^^^^
            hint: add `with.steps = …`: Steps of the optimiser.

            error: stage `more` has no output `pair`
              --> p.toml:17:16
               |
            17 | inputs.pairs = "more.pair"
               |                ^^^^^^^^^^^
            hint: did you mean `pairs`?

            error: unknown parameter `step`
              --> p.toml:18:18
               |
            18 | with = { steps = { param = "step" }, learning_rate = 0.1, reward = { axis = "rewrad" } }
               |                  ^^^^^^^^^^^^^^^^^^
            hint: did you mean `steps`?

            error: unknown axis `rewrad`
              --> p.toml:18:68
               |
            18 | with = { steps = { param = "step" }, learning_rate = 0.1, reward = { axis = "rewrad" } }
               |                                                                    ^^^^^^^^^^^^^^^^^^^
            hint: did you mean `reward`?

            error: unknown run key `cpus`
              --> p.toml:19:9
               |
            19 | run = { cpus = 2 }
               |         ^^^^
            hint: did you mean `cpu`?

            error: unknown parameter `step`
              --> p.toml:21:12
               |
            21 | params = { step = 2 }
               |            ^^^^
            hint: did you mean `steps`?

            error: unknown axis `sed`
              --> p.toml:22:10
               |
            22 | axes = { sed = [1] }
               |          ^^^
            hint: the axes are `reward`

            error: unknown top-level key `stages`
              --> p.toml:23:2
               |
            23 | [stages.x]
               |  ^^^^^^
            hint: did you mean `stage`?
        "#]],
    );
}

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
fn gathers_belong_to_inputs_that_take_tables() {
    check_errors(
        r#"
[axes]
seed = [1, 2]
[stage.prep]
uses = "data.make"
with.seed = { axis = "seed" }
[stage.train]
uses = "model.train"
inputs.pairs = { all = "prep.pairs", over = ["seed"] }
with = { steps = 1, learning_rate = 0.1 }
[stage.table]
uses = "stats.table"
inputs.items = "prep.pairs"
[stage.other]
uses = "stats.table"
inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
[stage.third]
uses = "stats.table"
inputs.items = { all = "prep.pairs" }
"#,
        expect![[r#"
            error: input `pairs` of `model.train` is one artifact, not a table of branches
              --> p.toml:10:16
               |
            10 | inputs.pairs = { all = "prep.pairs", over = ["seed"] }
               |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: write "STAGE.OUTPUT", or { from = …, at = { AXIS = … } }

            error: input `items` of `stats.table` is a table of branches
              --> p.toml:14:16
               |
            14 | inputs.items = "prep.pairs"
               |                ^^^^^^^^^^^^
            hint: write `{ all = "STAGE.OUTPUT", over = ["AXIS"] }`

            error: `prep.times` is a diagnostic: it is kept to look at, never an input
              --> p.toml:17:24
               |
            17 | inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
               |                        ^^^^^^^^^^^^
            hint: the results of `prep` are `pairs`, `dev`

            error: unknown axis `sed`
              --> p.toml:17:46
               |
            17 | inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
               |                                              ^^^^^
            hint: did you mean `seed`?

            error: unknown value of `missing`: `skip`
              --> p.toml:17:64
               |
            17 | inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
               |                                                                ^^^^^^
            hint: the values are `mark`, `fail`

            error: unknown plan `x`
              --> p.toml:17:79
               |
            17 | inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
               |                                                                               ^^^
            hint: there are no plans

            error: unknown gather key `extra`
              --> p.toml:17:84
               |
            17 | inputs.items = { all = "prep.times", over = ["sed"], missing = "skip", plan = "x", extra = 1 }
               |                                                                                    ^^^^^
            hint: the gather keys are `all`, `over`, `missing`, `plan`

            error: this gather does not say `over` which axes
              --> p.toml:20:16
               |
            20 | inputs.items = { all = "prep.pairs" }
               |                ^^^^^^^^^^^^^^^^^^^^^^
            hint: add `over = ["AXIS", …]`: the axes whose branches become the rows
        "#]],
    );
}

#[test]
fn circles_are_told_from_their_first_stage() {
    check_errors(
        r#"
[stage.c]
uses = "data.make"
inputs.raw = "b.pairs"
[stage.a]
uses = "data.make"
inputs.raw = "c.pairs"
[stage.b]
uses = "data.make"
inputs.raw = "a.pairs"
[stage.self]
uses = "data.make"
inputs.raw = "self.pairs"
"#,
        expect![[r#"
            error: the stages need each other in a circle: c -> b -> a -> c
             --> p.toml:5:14
              |
            5 | inputs.raw = "b.pairs"
              |              ^^^^^^^^^ `c` needs `b` here

            error: the stages need each other in a circle: self -> self
              --> p.toml:14:14
               |
            14 | inputs.raw = "self.pairs"
               |              ^^^^^^^^^^^^ `self` needs `self` here
        "#]],
    );
}

#[test]
fn wrong_axes_and_plans_are_told() {
    check_errors(
        r#"
[axes]
reward = ["label", "label"]
kl = []
seed = { replicat = 2 }
many = { replicate = 100000 }
Odd = [1]
text = ["a b", "a,b"]
good = [1, 2]
rep = { replicate = 2 }
[[axes.data]]
rows = 1
[[axes.data]]
name = "Full"
rows = 1
[[plan]]
name = "one"
mode = "crosss"
[[plan]]
name = "one"
mode = "list"
runs = [ { good = 3, rep = 1, bad = 1 } ]
[[plan]]
mode = "list"
[stage.a]
uses = "data.make"
with.rows = { axis = "data" }
with.seed = { axis = "good.x" }
"#,
        expect![[r#"
            error: axis `reward` has two values `label`
             --> p.toml:4:20
              |
            4 | reward = ["label", "label"]
              |                    ^^^^^^^

            error: axis `kl` has no values
             --> p.toml:5:6
              |
            5 | kl = []
              |      ^^

            error: an axis that is a table must say `replicate`
             --> p.toml:6:8
              |
            6 | seed = { replicat = 2 }
              |        ^^^^^^^^^^^^^^^^
            hint: write a list of values, `{ replicate = 5 }`, or one `[[axes.NAME]]` a branch

            error: unknown replicate key `replicat`
             --> p.toml:6:10
              |
            6 | seed = { replicat = 2 }
              |          ^^^^^^^^
            hint: did you mean `replicate`?

            error: `replicate` must be 1 to 1000, not 100000
             --> p.toml:7:22
              |
            7 | many = { replicate = 100000 }
              |                      ^^^^^^

            error: axis `Odd`: names are lowercase letters, digits and `-`
             --> p.toml:8:1
              |
            8 | Odd = [1]
              | ^^^
            hint: write `odd`

            error: `a b` cannot be part of a branch's address
             --> p.toml:9:9
              |
            9 | text = ["a b", "a,b"]
              |         ^^^^^
            hint: write `[[axes.NAME]]` with a plain `name` and the value beside it

            error: `a,b` cannot be part of a branch's address
             --> p.toml:9:16
              |
            9 | text = ["a b", "a,b"]
              |                ^^^^^
            hint: write `[[axes.NAME]]` with a plain `name` and the value beside it

            error: a branch needs a name
              --> p.toml:12:1
               |
            12 | [[axes.data]]
               | ^^^^^^^^^^^^^
            hint: add `name = "…"`

            error: branch `Full`: names are lowercase letters, digits and `-`
              --> p.toml:15:8
               |
            15 | name = "Full"
               |        ^^^^^^
            hint: write `full`

            error: unknown plan mode `crosss`
              --> p.toml:19:8
               |
            19 | mode = "crosss"
               |        ^^^^^^^^
            hint: did you mean `cross`?

            error: two plans are named `one`
              --> p.toml:21:8
               |
            21 | name = "one"
               |        ^^^^^

            error: unknown value of axis `good`: `3`
              --> p.toml:23:19
               |
            23 | runs = [ { good = 3, rep = 1, bad = 1 } ]
               |                   ^
            hint: the values are `1`, `2`

            error: `rep` is a replicate: every plan crosses it already
              --> p.toml:23:22
               |
            23 | runs = [ { good = 3, rep = 1, bad = 1 } ]
               |                      ^^^
            hint: leave `rep` out of the plan

            error: unknown axis `bad`
              --> p.toml:23:31
               |
            23 | runs = [ { good = 3, rep = 1, bad = 1 } ]
               |                               ^^^
            hint: the axes are `reward`, `Odd`, `good`, `rep`, `data`

            error: a plan of mode `list` needs `runs`
              --> p.toml:24:1
               |
            24 | [[plan]]
               | ^^^^^^^^
            hint: add `runs = [ { AXIS = … } ]`

            error: axis `data` carries several values
              --> p.toml:28:13
               |
            28 | with.rows = { axis = "data" }
               |             ^^^^^^^^^^^^^^^^^
            hint: name one: `data.rows`

            error: axis `good` has plain values and no `x`
              --> p.toml:29:13
               |
            29 | with.seed = { axis = "good.x" }
               |             ^^^^^^^^^^^^^^^^^^^
            hint: write `{ axis = "good" }`
        "#]],
    );
}

#[test]
fn wrong_names_sources_versions_and_settings_are_told() {
    check_errors(
        r#"
[pipeline]
name = "My Pipeline"
publish = { "a.md" = "prep.nothing" }
[source.raw_data]
path = "nowhere.jsonl"
[source.none]
[stage.Prep]
uses = "data.make@1"
inputs.raw = "source.raw"
salt = 3
run = { mem = "64", time = "6", device = "gpu", cpu = 0, retry = { max = 2, on = ["oops"] } }
outputs = ["x"]
[stage.none]
[stage.cmd]
uses = "command"
with.argv = ["x"]
inputs.Raw = "Prep.pairs/../x"
[stage.cmd2]
uses = "command"
with.argv = "x"
outputs = { a = "../a", b = "b", c = "b" }
"#,
        expect![[r#"
            error: pipeline `My Pipeline`: names are lowercase letters, digits and `-`
             --> p.toml:4:8
              |
            4 | name = "My Pipeline"
              |        ^^^^^^^^^^^^^
            hint: write `my-pipeline`

            error: source `raw_data`: names are lowercase letters, digits and `-`
             --> p.toml:6:9
              |
            6 | [source.raw_data]
              |         ^^^^^^^^
            hint: write `raw-data`

            error: source `none` has no path
             --> p.toml:8:9
              |
            8 | [source.none]
              |         ^^^^
            hint: add `path = "…"` or `path = { param = "…" }`; or `glob`, `url` or `store`

            error: stage `Prep`: names are lowercase letters, digits and `-`
             --> p.toml:9:8
              |
            9 | [stage.Prep]
              |        ^^^^
            hint: write `prep`

            error: `data.make` is at version 2, and the pipeline insists on `1`
              --> p.toml:10:8
               |
            10 | uses = "data.make@1"
               |        ^^^^^^^^^^^^^
            hint: write `data.make@2` to accept what it does now

            error: unknown source `raw`
              --> p.toml:11:14
               |
            11 | inputs.raw = "source.raw"
               |              ^^^^^^^^^^^^
            hint: did you mean `raw_data`?

            error: `salt` must be text, not a whole number
              --> p.toml:12:8
               |
            12 | salt = 3
               |        ^

            error: `6` is no time
              --> p.toml:13:28
               |
            13 | run = { mem = "64", time = "6", device = "gpu", cpu = 0, retry = { max = 2, on = ["oops"] } }
               |                            ^^^
            hint: write "6h", "90m", "1h30m" or "45s"

            error: unknown device `gpu`
              --> p.toml:13:42
               |
            13 | run = { mem = "64", time = "6", device = "gpu", cpu = 0, retry = { max = 2, on = ["oops"] } }
               |                                          ^^^^^
            hint: did you mean `cpu`?

            error: `cpu` must be 1 to 100000, not 0
              --> p.toml:13:55
               |
            13 | run = { mem = "64", time = "6", device = "gpu", cpu = 0, retry = { max = 2, on = ["oops"] } }
               |                                                       ^

            error: unknown retry cause `oops`
              --> p.toml:13:83
               |
            13 | run = { mem = "64", time = "6", device = "gpu", cpu = 0, retry = { max = 2, on = ["oops"] } }
               |                                                                                   ^^^^^^
            hint: did you mean `oom`?

            error: the outputs of `data.make` are its own
              --> p.toml:14:11
               |
            14 | outputs = ["x"]
               |           ^^^^^
            hint: leave `outputs` out

            error: stage `none` does not say `uses`
              --> p.toml:15:8
               |
            15 | [stage.none]
               |        ^^^^
            hint: add `uses = "KIND"`; `plumb show` lists the kinds

            error: stage `cmd` names no outputs
              --> p.toml:16:8
               |
            16 | [stage.cmd]
               |        ^^^
            hint: add `outputs = { NAME = "FILE" }`

            error: `Prep.pairs/../x`: the path after `/` must stay inside the folder
              --> p.toml:19:14
               |
            19 | inputs.Raw = "Prep.pairs/../x"
               |              ^^^^^^^^^^^^^^^^^

            error: `argv`: invalid type: string "x", expected a list
              --> p.toml:22:13
               |
            22 | with.argv = "x"
               |             ^^^

            error: `../a`: an output's file must stay inside the step's folder
              --> p.toml:23:17
               |
            23 | outputs = { a = "../a", b = "b", c = "b" }
               |                 ^^^^^^

            error: two outputs share `b`
              --> p.toml:23:38
               |
            23 | outputs = { a = "../a", b = "b", c = "b" }
               |                                      ^^^
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
fn a_gather_of_no_branch_is_an_error() {
    check_errors(
        r#"
[axes]
a = [1, 2]
b = [1, 2]
[[plan]]
name = "only"
mode = "list"
runs = [ { a = 2 } ]
[[plan]]
mode = "one-off"
[stage.prep]
uses = "data.make"
with = { rows = { axis = "a" }, seed = { axis = "b" } }
[stage.table]
uses = "stats.table"
inputs.items = { all = "prep.pairs", over = ["a"], plan = "only" }
"#,
        expect![[r#"
            error: `table@b=2` gathers no branch
              --> p.toml:17:16
               |
            17 | inputs.items = { all = "prep.pairs", over = ["a"], plan = "only" }
               |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: no plan names a branch that fits: check `over` and `plan`
        "#]],
    );
}

#[test]
fn published_outputs_and_goals_must_exist() {
    check_errors(
        r#"
[pipeline]
goal = ["prpe", "prep@seed=1"]
publish = { "a.md" = "prep.pair", "b.md" = "pre.pairs", "c.md" = "pairs" }
[stage.prep]
uses = "data.make"
"#,
        expect![[r#"
            error: unknown stage `prpe`
             --> p.toml:4:9
              |
            4 | goal = ["prpe", "prep@seed=1"]
              |         ^^^^^^
            hint: did you mean `prep`?

            error: `prep@seed=1`: the stage sees no axis `seed`
             --> p.toml:4:17
              |
            4 | goal = ["prpe", "prep@seed=1"]
              |                 ^^^^^^^^^^^^^
            hint: there are no axes it sees

            error: stage `prep` has no output `pair`
             --> p.toml:5:22
              |
            5 | publish = { "a.md" = "prep.pair", "b.md" = "pre.pairs", "c.md" = "pairs" }
              |                      ^^^^^^^^^^^
            hint: did you mean `pairs`?

            error: unknown stage `pre`
             --> p.toml:5:44
              |
            5 | publish = { "a.md" = "prep.pair", "b.md" = "pre.pairs", "c.md" = "pairs" }
              |                                            ^^^^^^^^^^^
            hint: did you mean `prep`?

            error: `pairs` is no `STAGE.OUTPUT`
             --> p.toml:5:66
              |
            5 | publish = { "a.md" = "prep.pair", "b.md" = "pre.pairs", "c.md" = "pairs" }
              |                                                                  ^^^^^^^
        "#]],
    );
}

#[test]
fn a_file_of_another_schema_is_refused() {
    let told = parse_text(std::path::Path::new("p.toml"), "schema = 9\n", &kinds::registry(), &Selection::default());
    expect![[r#"
        error: unknown schema
         --> p.toml:1:10
          |
        1 | schema = 9
          |          ^
        hint: this plumb reads `schema = 1`; a newer file needs a newer plumb
    "#]]
    .assert_eq(&told.err().unwrap().render());
}

#[test]
fn an_empty_file_and_too_many_branches_are_refused() {
    check_errors(
        "",
        expect![[r#"
        error: the pipeline has no stages
         --> p.toml:1:1
          |
        1 | schema = 1
          | ^
        hint: add `[stage.NAME]` with `uses = "KIND"`
    "#]],
    );
    check_errors(
        r#"
[axes]
a = { replicate = 1000 }
b = { replicate = 1000 }
c = { replicate = 1000 }
[stage.prep]
uses = "command"
outputs = ["x"]
with.argv = [{ axis = "a" }, { axis = "b" }, { axis = "c" }]
"#,
        expect![[r#"
            error: some stage has more than 1000000 branches
            hint: make fewer replicates
        "#]],
    );
}

const GOOD: &str = r#"schema = 1
[pipeline]
goal = ["t"]
publish = { "a.md" = "t.table" }
[params]
steps = 4
[axes]
kl = [0.0, 0.1]
seed = { replicate = 2 }
[[axes.data]]
name = "full"
rows = 20
[[plan]]
mode = "cross"
over = { kl = "*" }
[stage.prep]
uses = "data.make"
with.rows = { axis = "data.rows" }
[stage.train]
uses = "model.train"
inputs.pairs = { from = "prep.pairs", at = { data = "full" } }
with = { steps = { param = "steps" }, learning_rate = 0.1, kl = { axis = "kl" }, seed = { axis = "seed" } }
run = { mem = "1GiB", time = "1h", retry = { max = 1, on = ["oom"] } }
[stage.t]
uses = "stats.table"
inputs.items = { all = ["train.model"], over = ["kl", "seed"] }
[profile.smoke]
params = { steps = 1 }
"#;

proptest! {
    #[test]
    fn no_damage_to_a_file_makes_the_reader_panic(
        from in 0..GOOD.len(),
        length in 0..40_usize,
        instead in prop_oneof![Just(String::new()), "[a-z=.{}\\[\\]\"@*0-9 \n]{0,6}", Just("t.table".into()), Just("é".into())],
        selector in "[a-z@=*.,0-9]{0,8}",
    ) {
        let mut text = GOOD.to_string();
        text.replace_range(from..(from + length).min(GOOD.len()), &instead);
        let selection = Selection { steps: vec![selector], ..Selection::default() };
        let path = std::path::Path::new("p.toml");
        for selection in [Selection::default(), selection] {
            if let Err(told) = parse_text(path, &text, &kinds::registry(), &selection) {
                prop_assert!(told.diagnostics.iter().any(crate::diagnostic::Diagnostic::is_error));
                prop_assert!(!told.render().is_empty());
            }
        }
    }
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
