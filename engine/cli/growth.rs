//! An axis of replicates that grows, on the command line: which steps a run makes next, and what is said of it.

use std::collections::BTreeSet;

use plumb_engine::event::Event;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::growth::{self, Growing, State};

use crate::printer::Printer;
use crate::trouble::Trouble;

/// One turn of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing grows, or it stopped: build the goals.
    Goals,
    /// Make what decides, then look again.
    Measure,
}

/// What a run does next, as the goals of the graph. A rule that cannot be decided ends it. `measured` is the number of
/// replicates that an earlier turn measured: what is still open after that stays open.
pub fn turn(
    graph: &mut Graph,
    measured: Option<usize>,
    fresh: &BTreeSet<StepId>,
    printer: &Printer,
) -> Result<Turn, Trouble> {
    let Some(growing) = &graph.growing else { return Ok(Turn::Goals) };
    let needed = growth::needed(graph, growing);
    if !needed.all() {
        if needed.any() && growing.state == State::Open {
            printer.warning(&left_alone(growing));
        }
        return Ok(Turn::Goals);
    }
    growing.check()?;
    if growing.state != State::Open || measured == Some(growing.count) {
        return Ok(Turn::Goals);
    }
    graph.goals = growth::measured(graph, growing).into_iter().chain(fresh.iter().copied()).collect();
    Ok(Turn::Measure)
}

/// A part of the branches says nothing of the others.
fn left_alone(growing: &Growing) -> String {
    let stages = growing.stages.iter().map(|stage| format!("`{stage}`")).collect::<Vec<_>>().join(" and ");
    format!("`{}` does not grow in this run: `{}` looks at every branch of {stages}", growing.rule.axis, growing.rule)
}

/// What is known of a growing axis, for a run's history.
pub fn event(graph: &Graph) -> Option<Event> {
    graph.growing.as_ref().map(Growing::event)
}

/// One line for people: `seed: 5, may grow to 12 until width(score.f_score) < 0.02`.
pub fn line(graph: &Graph) -> Option<String> {
    let growing = graph.growing.as_ref()?;
    Some(match &growing.state {
        State::Unreadable { message, .. } => format!("{}: {}, {message}", growing.rule.axis, growing.count),
        State::Open | State::Stopped { .. } => growth::sentence(&growing.event())?,
    })
}
