//! What is told where a pipeline is wrong: every mistake of a file at once, each at its very token.

mod branches;
mod names;
mod values;

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
