//! Which steps a command builds: what it names, else the pipeline's goals, cut by `--until`, `--axis` and `--from`.
//! Chooses among steps; makes none.

use std::collections::BTreeSet;

use super::document::Document;
use super::select::{AxisFilter, Index};
use super::table::{Complaints, Text};
use super::{Selection, references};
use crate::diagnostic::Diagnostic;
use crate::graph::{Reference, Step, StepId};

/// What is built, and what `--from` names of it.
pub struct Goals {
    /// What is built.
    pub goals: Vec<StepId>,
    /// What `--from` names.
    pub from: Vec<StepId>,
}

/// The selected steps, else `goal`, else every step that nobody consumes; cut at `--until`, less what `--axis` leaves
/// out, and of that what depends on `--from`.
pub fn choose(
    steps: &[Step],
    index: &Index<'_>,
    document: &Document<'_>,
    selection: &Selection,
    filter: &AxisFilter<'_>,
    complaints: &mut Complaints,
) -> Goals {
    let mut goals: Vec<StepId> = Vec::new();
    if !selection.steps.is_empty() {
        for selector in &selection.steps {
            goals.extend(index.select(selector).map_err(|one| complaints.add(one)).unwrap_or_default());
        }
    } else if let Some(goal) = &document.goal {
        for selector in goal {
            goals.extend(selected(index, selector, complaints));
        }
    } else {
        goals = unconsumed(steps);
    }
    let mut seen = BTreeSet::new();
    goals.retain(|goal| seen.insert(*goal));
    if !selection.until.is_empty() {
        goals = among(steps, index, &selection.until, &goals, "--until", complaints);
    }
    let before = goals.len();
    goals.retain(|goal| filter.wants(&steps[goal.0]));
    if goals.is_empty() && before > 0 {
        complaints.add(Diagnostic::new(format!("`--axis` leaves none of the {before} steps to build")));
    }
    let mut from = Vec::new();
    if !selection.from.is_empty() {
        from = among(steps, index, &selection.from, &goals, "--from", complaints);
        let below = below(steps, &from);
        goals.retain(|goal| below[goal.0]);
    }
    Goals { goals, from }
}

/// The steps that an option names, as far as the goals need them; at least one.
fn among(
    steps: &[Step],
    index: &Index<'_>,
    selectors: &[String],
    goals: &[StepId],
    option: &str,
    complaints: &mut Complaints,
) -> Vec<StepId> {
    let needed = needed(steps, goals);
    let mut found = BTreeSet::new();
    for selector in selectors {
        let named = index.select(selector).map_err(|one| complaints.add(one)).unwrap_or_default();
        if !named.is_empty() && named.iter().all(|id| !needed[id.0]) {
            let message = format!("`{option} {selector}`: no goal needs this step");
            complaints.add(Diagnostic::new(message).hint("name a goal that does, or leave the option out".to_string()));
        }
        found.extend(named.into_iter().filter(|id| needed[id.0]));
    }
    found.into_iter().collect()
}

/// Whether each step is one of these or depends on one.
fn below(steps: &[Step], of: &[StepId]) -> Vec<bool> {
    let mut below = vec![false; steps.len()];
    of.iter().for_each(|id| below[id.0] = true);
    for (position, step) in steps.iter().enumerate() {
        let depends = |reference| matches!(reference, &Reference::Step { step, .. } if below[step.0]);
        below[position] = below[position] || references(step).any(depends);
    }
    below
}

/// A selector that stands in the file.
fn selected(index: &Index<'_>, selector: &Text<'_>, complaints: &mut Complaints) -> Vec<StepId> {
    let found = index.select(selector.get_ref());
    found.map_err(|one| complaints.add(Diagnostic { span: Some(selector.span()), ..one })).unwrap_or_default()
}

fn unconsumed(steps: &[Step]) -> Vec<StepId> {
    let mut consumed = vec![false; steps.len()];
    for reference in steps.iter().flat_map(references) {
        if let Reference::Step { step, .. } = reference {
            consumed[step.0] = true;
        }
    }
    (0..steps.len()).filter(|position| !consumed[*position]).map(StepId).collect()
}

/// Whether each step is a goal or upstream of one: references point backwards, so one walk from the end suffices.
pub fn needed(steps: &[Step], goals: &[StepId]) -> Vec<bool> {
    let mut needed = vec![false; steps.len()];
    let mut above = Vec::new();
    goals.iter().for_each(|goal| needed[goal.0] = true);
    for position in (0..steps.len()).rev() {
        for reference in references(&steps[position]).filter(|_| needed[position]) {
            if let Reference::Step { step, .. } = reference {
                above.push(step.0);
            }
        }
        above.drain(..).for_each(|producer| needed[producer] = true);
    }
    needed
}
