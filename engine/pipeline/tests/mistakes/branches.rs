//! Axes, plans and gathers that do not fit each other.

use expect_test::expect;

use super::check_errors;

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
