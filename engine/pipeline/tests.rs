//! What a pipeline text becomes, and what is told where it is wrong. The kinds here are made up and never run.

mod expansion;
pub mod kinds;
mod mistakes;
mod selection;

use std::fmt::Write as _;
use std::path::Path;

use expect_test::Expect;

use super::{Selection, parse_text};
use crate::diagnostic::Diagnostics;
use crate::graph::{Graph, Input, Reference};

fn parse(text: &str, selection: &Selection) -> Result<Graph, Diagnostics> {
    let text = format!("schema = 1\n{text}");
    parse_text(Path::new("p.toml"), &text, &kinds::registry(), selection)
}

/// The steps of a good pipeline, in compact text.
fn check(text: &str, expect: Expect) {
    check_with(text, &Selection::default(), expect);
}

fn check_with(text: &str, selection: &Selection, expect: Expect) {
    match parse(text, selection) {
        Ok(graph) => expect.assert_eq(&shown(&graph)),
        Err(told) => panic!("expected a good pipeline:\n{}", told.render()),
    }
}

/// What is told of a bad pipeline.
fn check_errors(text: &str, expect: Expect) {
    match parse(text, &Selection::default()) {
        Ok(graph) => panic!("expected errors, got:\n{}", shown(&graph)),
        Err(told) => expect.assert_eq(&told.render()),
    }
}

fn shown(graph: &Graph) -> String {
    let mut text = String::new();
    for step in &graph.steps {
        write!(text, "{} {}", step.address.full(), step.params.canonical()).unwrap();
        for (name, input) in &step.inputs {
            write!(text, " {name}<-{}", shown_input(graph, input)).unwrap();
        }
        text.push('\n');
    }
    let goals: Vec<String> = graph.goals.iter().map(|goal| graph.step(*goal).address.full()).collect();
    writeln!(text, "goals: {}", goals.join(" ")).unwrap();
    for one in &graph.warnings {
        writeln!(text, "{}", one.render().lines().next().unwrap()).unwrap();
    }
    text
}

fn shown_input(graph: &Graph, input: &Input) -> String {
    match input {
        Input::One(reference) => shown_reference(graph, reference),
        Input::Gathered { branches, mark_missing, .. } => {
            let rows: Vec<String> = branches
                .iter()
                .map(|branch| {
                    let labels: Vec<String> = branch.labels.values().cloned().collect();
                    let mark = if branch.baseline { "*" } else { "" };
                    format!("{}{mark}={}", labels.join("/"), shown_reference(graph, &branch.reference))
                })
                .collect();
            format!("[{}]{}", rows.join(" "), if *mark_missing { " marked" } else { "" })
        }
    }
}

fn shown_reference(graph: &Graph, reference: &Reference) -> String {
    let (text, subpath) = match reference {
        Reference::Step { step, output, subpath } => {
            (format!("{}.{output}", graph.step(*step).address.full()), subpath)
        }
        Reference::Source { source, subpath } => (format!("source.{}", graph.source(*source).name), subpath),
    };
    subpath.as_ref().map_or(text.clone(), |subpath| format!("{text}/{subpath}"))
}
