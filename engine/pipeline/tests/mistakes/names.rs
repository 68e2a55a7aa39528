//! Names that nothing has, or that cannot be names: told with the nearest, or with how to write them.

use expect_test::expect;

use super::check_errors;

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
