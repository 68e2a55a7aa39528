//! The order in which each stage follows what it needs; cycles are told as `a -> b -> a`. An explicit stack, because
//! a chain of stages may be longer than the thread's.

use super::resolve::{Input, Stage, Target};
use super::table::Complaints;
use crate::diagnostic::Diagnostic;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Unseen,
    /// On the path from the root of the walk.
    Open,
    Done,
}

/// Indices of the stages, producers first; otherwise in the order of the file. An edge that closes a cycle is told
/// and left out.
pub fn order(stages: &[Stage<'_>], complaints: &mut Complaints) -> Vec<usize> {
    let mut marks = vec![Mark::Unseen; stages.len()];
    let mut order = Vec::with_capacity(stages.len());
    for root in 0..stages.len() {
        walk(root, stages, &mut marks, &mut order, complaints);
    }
    order
}

fn walk(root: usize, stages: &[Stage<'_>], marks: &mut [Mark], order: &mut Vec<usize>, complaints: &mut Complaints) {
    if marks[root] != Mark::Unseen {
        return;
    }
    marks[root] = Mark::Open;
    let mut path = vec![(root, stages[root].producers())];
    while let Some((stage, producers)) = path.last_mut() {
        let stage = *stage;
        let Some(next) = producers.next() else {
            marks[stage] = Mark::Done;
            order.push(stage);
            path.pop();
            continue;
        };
        match marks[next] {
            Mark::Done => {}
            Mark::Unseen => {
                marks[next] = Mark::Open;
                path.push((next, stages[next].producers()));
            }
            Mark::Open => {
                let from = path.iter().position(|(open, _)| *open == next).unwrap_or_default();
                let cycle: Vec<usize> = path[from..].iter().map(|(open, _)| *open).chain([next]).collect();
                tell(&cycle, stages, complaints);
            }
        }
    }
}

/// Told from the stage that stands first in the file, so that the message does not depend on the walk.
fn tell(cycle: &[usize], stages: &[Stage<'_>], complaints: &mut Complaints) {
    let ring = &cycle[..cycle.len() - 1];
    let first = ring.iter().enumerate().min_by_key(|(_, stage)| **stage).map_or(0, |(position, _)| position);
    let turned: Vec<usize> = ring[first..].iter().chain(&ring[..first]).chain([&ring[first]]).copied().collect();
    let names: Vec<&str> = turned.iter().map(|stage| stages[*stage].text.name.get_ref().as_ref()).collect();
    let span = edge(&stages[turned[0]], turned[1]).unwrap_or_else(|| stages[turned[0]].text.name.span());
    complaints.add(
        Diagnostic::at(span, format!("the stages need each other in a circle: {}", names.join(" -> ")))
            .label(format!("`{}` needs `{}` here", names[0], names[1])),
    );
}

/// Where a stage refers to a producer.
fn edge(stage: &Stage<'_>, producer: usize) -> Option<std::ops::Range<usize>> {
    let refers = |input: &Input| {
        input.targets().iter().any(|target| matches!(target, Target::Stage { stage, .. } if *stage == producer))
    };
    let name = stage.inputs.iter().find(|(_, input)| refers(input)).map(|(name, _)| name)?;
    stage.text.inputs.iter().find(|(written, ..)| written.get_ref() == name).map(|(_, span, _)| span.clone())
}
