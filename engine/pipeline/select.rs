//! Branch addresses as people type them: `train`, `train@reward=label`, `train@seed=0..2`, `score*@seed=*`; and
//! `--axis seed=0..2`. An axis that is not named takes all its values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::axes::Axis;
use crate::diagnostic::Diagnostic;
use crate::graph::{Address, Graph, Skip, Step, StepId};
use crate::nearest;

/// The steps of a graph that a selector names, in the order of the graph; an error names the nearest stage, axis or
/// label.
pub fn select(graph: &Graph, selector: &str) -> Result<Vec<StepId>, Diagnostic> {
    Index::new(&graph.steps, &graph.skips).select(selector)
}

/// Addresses that a hint lists.
const LISTED: usize = 3;

/// The steps by stage. The steps of one stage lie side by side.
pub struct Index<'s> {
    steps: &'s [Step],
    skips: &'s [Skip],
    stages: BTreeMap<&'s str, Range<usize>>,
}

impl<'s> Index<'s> {
    /// Made once for many selections.
    pub fn new(steps: &'s [Step], skips: &'s [Skip]) -> Self {
        let mut stages: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for (position, step) in steps.iter().enumerate() {
            stages.entry(&step.address.stage).or_insert(position..position).end = position + 1;
        }
        Self { steps, skips, stages }
    }

    /// The steps that a selector names: at least one.
    pub fn select(&self, selector: &str) -> Result<Vec<StepId>, Diagnostic> {
        let (stage, branch) = selector.split_once('@').map_or((selector, ""), |(stage, branch)| (stage, branch));
        let ranges: Vec<&Range<usize>> = match self.stages.get(stage) {
            Some(range) => vec![range],
            None => self.stages.iter().filter(|(name, _)| matches(stage, name)).map(|(_, range)| range).collect(),
        };
        if ranges.is_empty() {
            let hint = nearest::hint("stages", stage, self.stages.keys().copied());
            return Err(Diagnostic::new(format!("unknown stage `{stage}`")).hint(hint));
        }
        let terms = branch.split(',').filter(|term| !term.is_empty());
        let terms: Vec<(&str, &str)> = terms.map(|term| parts(selector, term)).collect::<Result<_, _>>()?;
        let fitting = |position: usize| {
            let address = &self.steps[position].address;
            terms.iter().filter(|(axis, wanted)| label(address, axis).is_some_and(|is| covers(wanted, is))).count()
        };
        let all = || ranges.iter().flat_map(|range| (**range).clone());
        let found: BTreeSet<StepId> = all().filter(|at| fitting(*at) == terms.len()).map(StepId).collect();
        if found.is_empty() {
            terms.iter().try_for_each(|(axis, wanted)| self.check_term(selector, axis, wanted, &terms, &ranges))?;
            let most = all().map(fitting).max().unwrap_or_default();
            let near: Vec<String> = all()
                .filter(|at| fitting(*at) == most)
                .map(|at| format!("`{}`", self.steps[at].address))
                .take(LISTED)
                .collect();
            let hint = self.skipped(&terms).unwrap_or_else(|| format!("the nearest are {}", near.join(", ")));
            return Err(Diagnostic::new(format!("no plan makes the branch `{selector}`")).hint(hint));
        }
        Ok(found.into_iter().collect())
    }

    /// The plan's `skip` that leaves out what the terms name, as a sentence.
    fn skipped(&self, terms: &[(&str, &str)]) -> Option<String> {
        let named = |(axis, labels): &(String, Vec<String>)| {
            terms.iter().any(|(name, wanted)| name == axis && labels.iter().any(|label| covers(wanted, label)))
        };
        let skip = self.skips.iter().find(|skip| skip.terms.iter().all(named))?;
        let terms: Vec<String> =
            skip.terms.iter().map(|(axis, labels)| format!("{axis}={}", labels.join(","))).collect();
        let plan = skip.plan.as_ref().map_or_else(|| "the plan".to_string(), |plan| format!("plan `{plan}`"));
        Some(format!("{plan} skips `{}`", terms.join(" ")))
    }

    /// Where nothing was found: whether the axis and the label exist in the stages at all.
    fn check_term(
        &self,
        selector: &str,
        axis: &str,
        wanted: &str,
        terms: &[(&str, &str)],
        ranges: &[&Range<usize>],
    ) -> Result<(), Diagnostic> {
        let addresses = ranges.iter().flat_map(|range| &self.steps[(**range).clone()]).map(|step| &step.address);
        let seen: BTreeSet<(&str, &str)> = addresses
            .flat_map(|address| &address.branch)
            .map(|value| (value.axis.as_str(), value.label.as_str()))
            .collect();
        let axes: BTreeSet<&str> = seen.iter().map(|(axis, _)| *axis).collect();
        if !axes.contains(axis) {
            let hint = nearest::hint("axes it sees", axis, axes);
            return Err(Diagnostic::new(format!("`{selector}`: the stage sees no axis `{axis}`")).hint(hint));
        }
        let labels: Vec<&str> = seen.iter().filter(|(known, _)| *known == axis).map(|(_, label)| *label).collect();
        if !labels.iter().any(|label| covers(wanted, label)) {
            let hint = self.skipped(terms).or_else(|| nearest::hint("values", wanted, labels));
            return Err(Diagnostic::new(format!("`{selector}`: axis `{axis}` has no `{wanted}` here")).hint(hint));
        }
        Ok(())
    }
}

fn parts<'q>(selector: &str, term: &'q str) -> Result<(&'q str, &'q str), Diagnostic> {
    term.split_once('=').ok_or_else(|| {
        let hint = "write `STAGE@AXIS=LABEL,AXIS=LABEL`".to_string();
        Diagnostic::new(format!("`{term}` in `{selector}` is no `AXIS=LABEL`")).hint(hint)
    })
}

fn label<'a>(address: &'a Address, axis: &str) -> Option<&'a str> {
    address.branch.iter().find(|value| value.axis == axis).map(|value| value.label.as_str())
}

/// Whether `*`, a label, a pattern or a range (both ends in) covers a label.
fn covers(wanted: &str, label: &str) -> bool {
    let range = wanted.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match range {
        Some((from, to)) => label.parse::<i64>().is_ok_and(|label| (from..=to).contains(&label)),
        None => matches(wanted, label),
    }
}

/// Whether a range of replicates begins or ends where there is none.
fn leaves(wanted: &str, axis: &Axis<'_>) -> bool {
    wanted.split_once("..").is_some_and(|(from, to)| [from, to].iter().any(|end| axis.position(end).is_none()))
}

/// Whether a text is like a pattern in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(position) = left.find(part) else { return false };
        left = &left[position + part.len()..];
    }
    left.ends_with(end)
}

/// `--axis` options: which labels of each named axis are wanted.
pub struct AxisFilter<'q> {
    wanted: BTreeMap<&'q str, Vec<&'q str>>,
}

impl<'q> AxisFilter<'q> {
    /// Reads `AXIS=LABEL[,LABEL…]` options; every mistake is told.
    pub fn read(options: &'q [String], axes: &[Axis<'_>]) -> Result<Self, Vec<Diagnostic>> {
        let (mut wanted, mut wrong): (BTreeMap<&str, Vec<&str>>, _) = (BTreeMap::new(), Vec::new());
        for option in options {
            match Self::option(option, axes) {
                Ok((axis, labels)) => wanted.entry(axis).or_default().extend(labels),
                Err(one) => wrong.push(one),
            }
        }
        if wrong.is_empty() { Ok(Self { wanted }) } else { Err(wrong) }
    }

    fn option(option: &'q str, axes: &[Axis<'_>]) -> Result<(&'q str, Vec<&'q str>), Diagnostic> {
        let Some((name, labels)) = option.split_once('=') else {
            let hint = "write `--axis AXIS=LABEL`, as `--axis seed=0..2`".to_string();
            return Err(Diagnostic::new(format!("`--axis {option}` names no label")).hint(hint));
        };
        let Some(axis) = axes.iter().find(|axis| axis.name.get_ref() == name) else {
            let hint = nearest::hint("axes", name, axes.iter().map(|axis| axis.name.get_ref().as_ref()));
            return Err(Diagnostic::new(format!("`--axis {option}`: unknown axis `{name}`")).hint(hint));
        };
        let labels: Vec<&str> = labels.split(',').collect();
        let known = || axis.choices.iter().map(|choice| choice.label.as_ref());
        if axis.replicate
            && let Some(range) = labels.iter().find(|wanted| leaves(wanted, axis))
        {
            let (first, last) = (known().next().unwrap_or_default(), known().next_back().unwrap_or_default());
            let message = format!("`--axis {option}`: axis `{name}` does not hold all of `{range}`");
            return Err(Diagnostic::new(message).hint(format!("`{name}` goes from {first} to {last}")));
        }
        if let Some(label) = labels.iter().find(|label| label.contains('=')) {
            let hint = format!("give each axis its own option: `--axis {name}=… --axis {label}`");
            return Err(Diagnostic::new(format!("`--axis {option}` names two axes")).hint(hint));
        }
        if let Some(label) = labels.iter().find(|wanted| !known().any(|label| covers(wanted, label))) {
            let hint = nearest::hint("values", label, known());
            return Err(Diagnostic::new(format!("`--axis {option}`: axis `{name}` has no `{label}`")).hint(hint));
        }
        Ok((name, labels))
    }

    /// Whether a step is wanted: every named axis that it sees has a wanted label.
    pub fn wants(&self, step: &Step) -> bool {
        step.address.branch.iter().all(|value| {
            self.wanted.get(value.axis.as_str()).is_none_or(|all| all.iter().any(|wanted| covers(wanted, &value.label)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("*", "") && matches("a*", "abc") && matches("*c", "abc") && matches("a*b*c", "a1b2c"));
        assert!(!matches("a*", "ba") && !matches("*c", "cb") && !matches("ab", "abc") && !matches("a*bc*c", "abc"));
    }

    #[test]
    fn a_range_holds_both_its_ends() {
        assert!(covers("0..2", "0") && covers("0..2", "2") && !covers("0..2", "3") && !covers("0..2", "x"));
    }
}
