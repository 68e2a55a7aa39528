//! `--budget` and `--trim`: what a plan may cost. Refuses with the numbers, or keeps what fits and says what it left
//! out.

use std::collections::BTreeSet;
use std::time::Duration;

use plumb_engine::budget::{Budget, Fit, Need, Resource, Trim};
use plumb_engine::event::Spent;
use plumb_engine::graph::{Graph, StepId};
use serde::Serialize;

use crate::context::Context;
use crate::trouble::Trouble;
use crate::units;

/// Steps that are named before the rest is only counted.
const NAMED: usize = 12;

/// The options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AllowanceArgs {
    /// Refuse what would cost more: `5gpu-h`, `8cpu-h`, or time as `2h`, `30m`
    #[arg(long, value_name = "AMOUNT")]
    pub budget: Option<Budget>,
    /// Keep what fits the budget, in the plan's order, and say what is left out
    #[arg(long, requires = "budget")]
    pub trim: bool,
    /// What earlier turns of the same run took of the budget.
    #[arg(skip)]
    pub spent: f64,
}

/// How a plan stands to its budget.
#[derive(Debug, Serialize)]
pub struct Allowance {
    #[serde(flatten)]
    budget: Budget,
    /// What earlier turns of the same run took of it.
    spent_seconds: f64,
    needs_seconds: f64,
    /// Steps whose cost is not known.
    unknown: Vec<String>,
    fits: bool,
    /// Steps that are left out.
    pub left_out: Vec<String>,
    /// Steps that stay.
    #[serde(skip)]
    pub kept: BTreeSet<StepId>,
}

impl AllowanceArgs {
    /// Fits a plan to the budget, if there is one. `command` is what `--trim` would be added to.
    pub fn apply(&self, fit: Fit<'_>, command: &str) -> Result<Option<Allowance>, Trouble> {
        let Some(budget) = self.budget else { return Ok(None) };
        let rest = Budget { seconds: (budget.seconds - self.spent).max(0.0), ..budget };
        let all = fit.all();
        let need = fit.need(&rest, &all);
        let fits = need.unknown.is_empty() && need.seconds <= rest.seconds;
        if !fits && !self.trim {
            return Err(refusal(fit, &budget, self.spent, &need, command));
        }
        let Trim { kept, left } = if fits { Trim { kept: all, left: Vec::new() } } else { fit.trim(&rest) };
        Ok(Some(Allowance {
            budget,
            spent_seconds: self.spent,
            needs_seconds: need.seconds,
            unknown: addresses(fit.graph, &need.unknown),
            fits,
            left_out: addresses(fit.graph, &left),
            kept,
        }))
    }
}

impl AllowanceArgs {
    /// Takes what a turn of the run took off the budget.
    pub fn spend(&mut self, took: Duration, spent: &Spent) {
        let Some(budget) = self.budget else { return };
        self.spent += match budget.resource {
            Resource::Wall => took.as_secs_f64(),
            Resource::Cpu => spent.cpu_seconds,
            Resource::Gpu => spent.gpu_seconds,
        };
    }
}

impl Allowance {
    /// Says how it stands.
    pub fn tell(&self, context: &Context) {
        let asked = asked(&self.budget, self.spent_seconds);
        let needs = amount(&self.budget, self.needs_seconds);
        if self.fits {
            return context.printer.note(&format!("the budget of {asked} holds: about {needs} are needed"));
        }
        let left = &self.left_out;
        let named: Vec<&str> = left.iter().take(NAMED).map(String::as_str).collect();
        let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
        let count = units::plural(left.len(), "step");
        context
            .printer
            .note(&format!("to fit the budget of {asked}, {count} are left out: {}{more}", named.join(", ")));
    }
}

/// `2 h`, or `2 h (30 min of it spent)`.
fn asked(budget: &Budget, spent: f64) -> String {
    let asked = amount(budget, budget.seconds);
    if spent > 0.0 { format!("{asked} ({} of it spent)", units::seconds(spent)) } else { asked }
}

fn refusal(fit: Fit<'_>, budget: &Budget, spent: f64, need: &Need, command: &str) -> Trouble {
    let (asked, needs) = (asked(budget, spent), amount(budget, need.seconds));
    if need.seconds > budget.seconds - spent {
        let more = if need.unknown.is_empty() { String::new() } else { unknown(fit.graph, need) };
        let told = format!("the plan needs about {needs}, and the budget is {asked}{more}");
        return Trouble::usage(told, format!("`{command} --trim` keeps what fits, in the plan's order"));
    }
    let told =
        format!("whether the plan fits {asked} is not known: the known part needs {needs}{}", unknown(fit.graph, need));
    Trouble::usage(told, "run one of them first, or set `run.time` as its limit; `--trim` leaves them out")
}

fn unknown(graph: &Graph, need: &Need) -> String {
    let mut stages: Vec<&str> = need.unknown.iter().map(|id| graph.step(*id).address.stage.as_str()).collect();
    stages.dedup();
    let count = units::plural(need.unknown.len(), "step");
    format!(", and nothing is known of {count} (of {})", stages.join(", "))
}

fn amount(budget: &Budget, seconds: f64) -> String {
    match budget.resource {
        Resource::Wall => units::seconds(seconds),
        Resource::Cpu => format!("{} of CPU time", units::seconds(seconds)),
        Resource::Gpu => format!("{} of GPU time", units::seconds(seconds)),
    }
}

fn addresses(graph: &Graph, ids: &[StepId]) -> Vec<String> {
    ids.iter().map(|id| graph.step(*id).address.to_string()).collect()
}
