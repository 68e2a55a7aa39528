//! `plumb why`: the reasons of one step, up the chain; of several branches, a line for each.

use plumb_cache::Testimony;
use plumb_engine::event::Cause;
use plumb_engine::explain::{self, Explanation, Made, Verdict};
use plumb_engine::graph::StepId;
use plumb_engine::plan::PlanOptions;
use plumb_engine::upstream::Reading;
use serde::Serialize;

use crate::args::Pipeline;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::{Cell, Table};
use crate::testimony;
use crate::trouble::Trouble;
use crate::units;

/// Shown after the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb why r-align.toml train                    a summary of every branch, or the whole story of the only one
  plumb why r-align.toml score@reward=label,seed=3 --set steps=20
  plumb why r-align.toml train --strict-code      as if the code of the kinds were in the keys

The reasons are followed up the chain to the parameter, axis, source, version or missing result that differs from the
nearest earlier result of the same stage and branch. Of a step whose result is in the cache it tells which record that
is, who made it, when and at what cost, what had changed when it was made, by whom it was reproduced (each signer whom
you trust counts once, and you where it was made here), and what else was made of the same inputs, which is not used.";

/// `plumb why`.
#[derive(Debug, Clone, clap::Args)]
pub struct WhyArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The step or stage
    pub step: String,
    /// As `plumb run --fresh STEP` would plan it
    #[arg(long, value_name = "STEP")]
    pub fresh: Vec<String>,
    /// Tell the whole of a long chain
    #[arg(short, long)]
    pub verbose: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: crate::args::Form,
}

/// Lines of a chain that are told from its start and from its end.
const SHOWN: (usize, usize) = (30, 20);
/// Deeper than this, a line is not indented further.
const DEEPEST: usize = 24;

/// What is told of one step.
#[derive(Debug, Serialize)]
struct Branch {
    step: String,
    /// The step itself, then what stands behind it.
    chain: Vec<Explanation>,
    /// Of a hit: who else has made it, and what else was made.
    testimony: Option<Testimony>,
}

/// Runs the command.
pub fn run(context: &Context, args: &WhyArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, std::slice::from_ref(&args.step))?;
    let store = context.store_asking(&args.pipeline.file, Reading::default())?;
    store.read_layers();
    let fresh = context.select(&graph, &args.fresh)?;
    let plan = context.plan(&graph, &store, &PlanOptions { fresh, ..PlanOptions::default() })?;
    let branch = |id: &StepId| -> Result<Branch, Trouble> {
        let chain = explain::why(&graph, &plan, &store, *id)?;
        let testimony = plan.record_of(*id).map(|record| store.testimony(record)).transpose()?;
        Ok(Branch { step: graph.step(*id).address.to_string(), chain, testimony })
    };
    let branches: Vec<Branch> = graph.goals.iter().map(branch).collect::<Result<_, _>>()?;
    match branches.as_slice() {
        _ if args.form.json => context.printer.json(&branches),
        [one] => context.printer.data(&text(one, args.verbose)),
        many => {
            context.printer.table(&summary(many));
            let full = graph.goals.first().map(|id| graph.step(*id).address.full()).unwrap_or_default();
            context.printer.hint(&format!("name a branch for its whole story, as `{full}`"));
        }
    }
    Ok(Exit::Done)
}

fn summary(branches: &[Branch]) -> Table {
    let mut table = Table::new(["step", "", "why"]);
    for Branch { step, chain, testimony } in branches {
        let Some(first) = chain.first() else { continue };
        let (state, told) = match (&first.made, first.verdict) {
            (Some(made), _) => {
                let again = testimony.as_ref().and_then(testimony::reproduced);
                let again = again.map_or_else(String::new, |again| format!("; {again}"));
                ("hit", format!("made at {} by {}{again}", made.at, made.by))
            }
            (None, Verdict::MayRun) => ("may run", leaf(chain)),
            (None, _) => ("run", reasons(first)),
        };
        table.row([step.as_str().into(), Cell::from(state), told.into()]);
    }
    table
}

fn reasons(one: &Explanation) -> String {
    one.causes.iter().map(|told| told.sentence.as_str()).collect::<Vec<_>>().join("; ")
}

/// Of a step that waits: the first reason that waits on nothing.
fn leaf(chain: &[Explanation]) -> String {
    let run = chain.iter().find(|one| one.verdict == Verdict::Run);
    run.map_or_else(String::new, |run| format!("waits on `{}`: {}", run.step, reasons(run)))
}

/// Lines for people, indented by how far up the chain they stand.
fn text(branch: &Branch, verbose: bool) -> String {
    let chain = &branch.chain;
    let mut lines = Vec::new();
    // Place in the list, the next of its causes to tell, and its depth.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut told = vec![false; chain.len()];
    let mut start = Some(0);
    loop {
        if let Some(at) = start.take() {
            told[at] = true;
            lines.extend(head(&chain[at]));
            let said = branch.testimony.as_ref().filter(|_| at == 0).map(testimony::lines).unwrap_or_default();
            lines.extend(said.iter().map(|line| indented(1, line)));
            open.push((at, 0));
        }
        let Some((at, next)) = open.last_mut() else { break };
        let one = &chain[*at];
        let Some(cause) = one.causes.get(*next) else {
            open.pop();
            continue;
        };
        *next += 1;
        let line = match (one.verdict, &cause.cause) {
            (Verdict::MayRun, Cause::Input { name, from }) => format!("waits on `{from}` (input `{name}`)"),
            _ => cause.sentence.clone(),
        };
        let again = cause.because.is_some_and(|because| told[because]);
        lines.push(indented(one.depth * 2 + 1, &if again { format!("{line}, as told above") } else { line }));
        start = cause.because.filter(|_| !again);
    }
    shortened(lines, verbose).join("\n")
}

fn head(one: &Explanation) -> Vec<String> {
    let said = match (one.verdict, &one.made, one.causes.is_empty()) {
        (Verdict::Hit, Some(made), _) if one.depth == 0 => format!("is a hit: {}", whole(made)),
        (Verdict::Hit, Some(made), true) => format!("has the result made at {}", made.at),
        (Verdict::Hit, Some(made), false) => format!("ran at {}", made.at),
        (Verdict::Hit, None, _) => "is a hit".into(),
        (Verdict::Run, ..) => "runs".into(),
        (Verdict::MayRun, ..) => "may run".into(),
        (Verdict::NotNeeded, ..) => "is not needed: what depends on it is in the cache".into(),
    };
    let mut lines = vec![indented(one.depth * 2, &format!("`{}` {said}", one.step))];
    if let Some(made) = one.made.as_ref().filter(|_| one.depth == 0) {
        lines.push(indented(1, &format!("record {}", made.action)));
    }
    // Another branch's result is compared with where this one has none: then a difference of their axes is no change.
    if let Some(other) = one.compared_with.as_ref().filter(|other| other.step != one.step) {
        lines.push(indented(one.depth * 2 + 1, &format!("compared with `{}`, made at {}", other.step, other.at)));
    }
    lines
}

fn whole(made: &Made) -> String {
    let Made { by, at, wall_seconds, cpu_seconds, peak_memory_bytes, .. } = made;
    let cost = [units::seconds(*wall_seconds), units::seconds(*cpu_seconds), units::size(*peak_memory_bytes)];
    format!("its result was made at {at} by {by} in {} ({} of CPU, {} at most)", cost[0], cost[1], cost[2])
}

fn indented(depth: usize, line: &str) -> String {
    format!("{}{line}", "  ".repeat(depth.min(DEEPEST)))
}

fn shortened(mut lines: Vec<String>, verbose: bool) -> Vec<String> {
    let (first, last) = SHOWN;
    if verbose || lines.len() <= first + last + 1 {
        return lines;
    }
    let left = lines.len() - first - last;
    let told = format!("… {} (`--verbose` tells all)", units::plural(left, "line"));
    lines.splice(first..first + left, [told]);
    lines
}
