//! `plumb run` and `plumb demo`: runs what is missing, tells it while it goes on and when it is over.

use std::sync::Arc;
use std::time::Duration;

use plumb_cache::Store;
use plumb_engine::budget::Fit;
use plumb_engine::courier::{Courier, Parting};
use plumb_engine::error::EngineError;
use plumb_engine::estimate::Forecast;
use plumb_engine::event::Spent;
use plumb_engine::execute::local::Local;
use plumb_engine::execute::{self, RunOptions, Stop};
use plumb_engine::graph::Graph;
use plumb_engine::plan::Plan;
use plumb_engine::upstream::Reading;

use crate::allowance::Allowance;
use crate::args::{DemoArgs, Pipeline, RunArgs, Variant};
use crate::context::Context;
use crate::demo;
use crate::detach;
use crate::display::{Display, Manner};
use crate::exit::Exit;
use crate::growth::{self, Turn};
use crate::printer::Printer;
use crate::results;
use crate::signals;
use crate::summary::Summary;
use crate::trouble::{self, Trouble};

/// Runs the command.
pub fn run(context: &Context, args: &RunArgs) -> Result<Exit, Trouble> {
    if args.detach && !args.detached {
        return detach::start(context, &args.pipeline.file, args.form.json);
    }
    let courier = context.courier(&args.pipeline.file)?;
    let stop = Stop::default();
    let exit = run_until(context, args, &stop, courier.as_ref().map(|courier| (courier, Parting::Leave)));
    courier.iter().for_each(|courier| leave(context, courier, manner(args), &stop));
    exit
}

/// What is under way to a layer when all is over, as after a failure between two turns.
pub fn leave(context: &Context, courier: &Courier, manner: Manner, stop: &Stop) {
    let mut display = Display::new(context.printer.clone(), manner);
    let mut told = Summary::default();
    courier.part(Parting::Leave, stop, &mut |event| {
        display.tell(event);
        told.take(event);
    });
    display.close();
    if manner != Manner::Json {
        told.tell_sent(&context.printer);
    }
    courier.close();
}

// A detached run says on stdout only that it began.
fn manner(args: &RunArgs) -> Manner {
    match (args.form.json && !args.detached, args.verbose) {
        (true, _) => Manner::Json,
        (false, true) => Manner::Verbose,
        (false, false) => Manner::People,
    }
}

/// The same, stopped by others too, with whoever sends what is made.
pub fn run_until(
    context: &Context,
    args: &RunArgs,
    stop: &Stop,
    courier: Option<(&Courier, Parting)>,
) -> Result<Exit, Trouble> {
    let manner = manner(args);
    let mut choice = args.choice.clone();
    let mut allowance = args.allowance.clone();
    let (mut measured, mut ended, mut turn_of) = (None, None, None);
    // Replicate by replicate where an axis grows: each turn makes what decides on the next one, the last the goals.
    let store = choice.store(context, &args.pipeline)?;
    loop {
        let (mut graph, plan) = choice.load(context, &args.pipeline)?;
        let limits = args.resources.limits()?;
        let options =
            RunOptions { plan, limits, keep_going: args.keep_going, stop: stop.clone(), ..RunOptions::default() };
        let mut options = if args.detached { detach::inside(options) } else { options };
        let turn = growth::turn(&mut graph, measured, &options.plan.fresh, &context.printer)?;
        if let Some((courier, parting)) = courier {
            options.courier = Some(courier.clone());
            options.parting = if turn == Turn::Measure { Parting::Stay } else { parting };
        }
        let count = graph.growing.as_ref().map(|growing| growing.count);
        if let (Some(exit), Turn::Goals) = (ended, turn)
            && measured == count
        {
            return Ok(exit);
        }
        options.notes.extend(growth::event(&graph));
        if allowance.budget.is_some() {
            let plan = context.plan(&graph, &store, &options.plan)?;
            let forecast = Forecast::of(&graph, &plan, &store)?;
            let fit = Fit { graph: &graph, plan: &plan, forecast: &forecast, jobs: options.limits.cpus() };
            let command = format!("plumb run {} --budget …", args.pipeline.file.display());
            if let Some(allowed) = allowance.apply(fit, &command)? {
                allowed.tell(context);
                trim(&mut graph, &plan, &allowed);
            }
        }
        options.turn_of = turn_of;
        let Ended { exit, run, took, spent } = execute(context, &store, &graph, manner, options, turn)?;
        allowance.spend(took, &spent);
        turn_of = run;
        let again = turn == Turn::Measure || (!choice.fresh.is_empty() && graph.growing.is_some());
        if exit != Exit::Done || !again {
            return Ok(exit);
        }
        (measured, ended) = (count, (turn == Turn::Goals).then_some(exit));
        choice.fresh.clear();
    }
}

/// Leaves the goals that are there or fit, and every step that fits.
fn trim(graph: &mut Graph, plan: &Plan, allowance: &Allowance) {
    if allowance.left_out.is_empty() {
        return;
    }
    graph.goals.retain(|goal| plan.record_of(*goal).is_some());
    graph.goals.extend(&allowance.kept);
}

/// Runs the built-in miniature in a folder of the user's.
pub fn demo(context: &Context, args: &DemoArgs) -> Result<Exit, Trouble> {
    let file = demo::prepare(&args.folder, &context.printer)?;
    let variant = Variant { profile: args.profile.clone(), ..Variant::default() };
    let pipeline = Pipeline { file, variant };
    let graph = context.load(&pipeline, &[])?;
    let store = context.store_asking(&pipeline.file, Reading::default())?;
    let manner = if args.form.json { Manner::Json } else { Manner::People };
    Ok(execute(context, &store, &graph, manner, RunOptions::default(), Turn::Goals)?.exit)
}

/// How a turn ended.
struct Ended {
    exit: Exit,
    /// The id in the history, which a further turn goes on with.
    run: Option<String>,
    took: Duration,
    spent: Spent,
}

fn execute(
    context: &Context,
    store: &Store,
    graph: &Graph,
    manner: Manner,
    options: RunOptions,
    turn: Turn,
) -> Result<Ended, Trouble> {
    let command = std::env::args().skip(1).collect();
    let options = RunOptions { command, executor: Arc::new(Local::alone()), ..options };
    let mut display = Display::new(context.printer.clone(), manner);
    let mut told = Summary::default();
    let done = drive(graph, store, &options, &context.printer, |event| {
        display.tell(event);
        told.take(event);
    });
    display.close();
    if manner != Manner::Json && (done.is_ok() || told.began()) {
        told.tell(&context.printer);
    }
    let done = done?;
    if manner != Manner::Json && turn == Turn::Goals {
        results::print(&context.printer, graph, &done.records, store);
    }
    let exit = trouble::exit_of(done.class());
    Ok(Ended { exit, run: done.run, took: done.took, spent: told.spent() })
}

// The run is awaited here and not spawned: its children die with the thread that started them.
fn drive(
    graph: &Graph,
    store: &Store,
    options: &RunOptions,
    printer: &Printer,
    sink: impl FnMut(&plumb_engine::event::Event) + Send,
) -> Result<execute::Summary, EngineError> {
    signals::heeding(&options.stop, printer)?.block_on(execute::run(graph, store, options, sink))
}
