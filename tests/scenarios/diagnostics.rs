//! What people are told about a wrong pipeline or a wrong command line. Always exit 2, and nothing ran.

use expect_test::{Expect, expect};

use crate::harness::Scene;
use crate::scenarios::reruns;

fn check(pipeline: &str, expect: Expect) {
    let scene = Scene::new(pipeline);
    scene.write("raw.txt", "a\n");
    scene.plumb("run p.toml").exits(2).says(expect);
    assert_eq!(scene.executed(), "");
}

fn check_line(line: &str, expect: Expect) {
    let scene = reruns::chain();
    scene.plumb(line).exits(2).says(expect);
    assert_eq!(scene.executed(), "");
}

#[test]
fn all_the_errors_of_a_file_are_told_at_once_with_carets() {
    check(
        r#"schema = 1

[source.raw]
path = "raw.txt"

[stage.prep]
uses = "comand"
inputs.raw = "source.rw"

[stage.count]
uses = "command"
inputs.lines = "prepp.sorted"
with.argv = ["sh", "-c", { param = "word" }]
with.enviroment = {}
outputs = { number = "number.txt" }

[stage.clean]
uses = "command"
with.argv = "sh"
outputs = { text = "../text.txt" }
"#,
        expect![[r#"
            ---
            error: unknown stage kind `comand`
             --> p.toml:7:8
              |
            7 | uses = "comand"
              |        ^^^^^^^^
            hint: did you mean `command`?

            error: unknown source `rw`
             --> p.toml:8:14
              |
            8 | inputs.raw = "source.rw"
              |              ^^^^^^^^^^^
            hint: did you mean `raw`?

            error: unknown stage `prepp`
              --> p.toml:12:16
               |
            12 | inputs.lines = "prepp.sorted"
               |                ^^^^^^^^^^^^^^
            hint: did you mean `prep`?

            error: unknown parameter `word`
              --> p.toml:13:26
               |
            13 | with.argv = ["sh", "-c", { param = "word" }]
               |                          ^^^^^^^^^^^^^^^^^^
            hint: there are no parameters

            error: unknown parameter `enviroment`
              --> p.toml:14:6
               |
            14 | with.enviroment = {}
               |      ^^^^^^^^^^
            hint: did you mean `env`?

            error: `argv`: invalid type: string "sh", expected a list
              --> p.toml:19:13
               |
            19 | with.argv = "sh"
               |             ^^^^

            error: `../text.txt`: an output's file must stay inside the step's folder
              --> p.toml:20:20
               |
            20 | outputs = { text = "../text.txt" }
               |                    ^^^^^^^^^^^^^
        "#]],
    );
}

#[test]
fn a_circle_is_told_as_a_circle() {
    check(
        r#"schema = 1

[stage.a]
uses = "command"
inputs.x = "c.out"
with.argv = ["cp", "{in:x}", "{out:out}"]
outputs = ["out"]

[stage.b]
uses = "command"
inputs.x = "a.out"
with.argv = ["cp", "{in:x}", "{out:out}"]
outputs = ["out"]

[stage.c]
uses = "command"
inputs.x = "b.out"
with.argv = ["cp", "{in:x}", "{out:out}"]
outputs = ["out"]
"#,
        expect![[r#"
            ---
            error: the stages need each other in a circle: a -> c -> b -> a
             --> p.toml:5:12
              |
            5 | inputs.x = "c.out"
              |            ^^^^^^^ `a` needs `c` here
        "#]],
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_place() {
    check(
        "schema = 1\n[stage.a\nuses = \"command\"\n",
        expect![[r#"
        ---
        error: unclosed table, expected `]`
         --> p.toml:2:9
          |
        2 | [stage.a
          |         ^
    "#]],
    );
}

#[test]
fn a_mistyped_parameter_of_a_kind_is_told_at_its_key() {
    let scene = Scene::new("schema = 1\n[stage.world]\nuses = \"data.miniature\"\nwith.sede = 3\n");
    let told = scene.plumb("run p.toml").exits(2).stderr;
    assert!(told.contains("error: unknown parameter `sede`"), "{told}");
    assert!(told.contains(" --> p.toml:4:6\n"), "{told}");
    assert!(told.contains("4 | with.sede = 3\n  |      ^^^^\n"), "{told}");
}

#[test]
fn a_placeholder_that_names_nothing_is_told_before_the_step_runs() {
    check(
        r#"schema = 1
[stage.a]
uses = "command"
with.argv = ["cp", "{in:nothing}", "{out:x}"]
outputs = ["x"]
"#,
        expect![[r#"
            ---
            error: stage `a`, `with.argv[1]`: `{in:nothing}` names nothing of this step
            hint: inputs: none; outputs: `x`
        "#]],
    );
}

#[test]
fn a_source_that_is_not_there_is_told_with_its_path() {
    let scene = Scene::new(reruns::CHAIN);
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: source `raw` does not exist: `raw.txt`
         --> p.toml:7:8
          |
        7 | path = "raw.txt"
          |        ^^^^^^^^^
    "#]]);
    assert_eq!(scene.executed(), "");
}

#[test]
fn an_unknown_step_gets_the_nearest_name() {
    check_line(
        "run p.toml cuont",
        expect![[r#"
        ---
        error: unknown stage `cuont`
        hint: did you mean `count`?
    "#]],
    );
}

#[test]
fn an_unknown_axis_a_profile_and_a_parameter_get_theirs() {
    check_line(
        "run p.toml --axis sed=1 --profile smok --set wrd=x",
        expect![[r#"
        ---
        error: unknown profile `smok`
        hint: there are no profiles

        error: `--set wrd=x`: unknown parameter `wrd`
        hint: did you mean `word`?

        error: `--axis sed=1`: unknown axis `sed`
        hint: there are no axes
    "#]],
    );
}

#[test]
fn a_set_without_a_value_says_what_it_expects() {
    check_line(
        "run p.toml --set word",
        expect![[r#"
        ---
        error: `--set word` sets nothing
        hint: write `--set NAME=VALUE`, as `--set steps=20`
    "#]],
    );
}

#[test]
fn a_pipeline_that_is_not_there_is_told() {
    check_line(
        "run q.toml",
        expect![[r#"
        ---
        error: cannot read the pipeline `q.toml`: No such file or directory (os error 2)
        hint: name the TOML file first: `plumb run FILE`
    "#]],
    );
}

#[test]
fn an_unknown_command_and_flag_are_told() {
    check_line(
        "rum p.toml",
        expect![[r#"
        ---
        error: unrecognized subcommand 'rum'

          tip: a similar subcommand exists: 'run'

        Usage: plumb [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
    check_line(
        "run p.toml --job 3",
        expect![[r#"
        ---
        error: unexpected argument '--job' found

          tip: a similar argument exists: '--jobs'

        Usage: plumb run --jobs <N> <FILE> [STEP]...

        For more information, try '--help'.
    "#]],
    );
    check_line(
        "show genrm.trian",
        expect![[r#"
        ---
        error: unknown stage kind `genrm.trian`
        hint: did you mean `genrm.train`?
    "#]],
    );
}
