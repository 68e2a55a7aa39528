//! `plumb why`: the reasons of one step, up the chain.

use plumb_engine::explain;
use plumb_engine::plan::{self, PlanOptions};

use crate::args::WhyArgs;
use crate::artifact;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// Runs the command.
pub fn run(context: &Context, args: &WhyArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, std::slice::from_ref(&args.step))?;
    let id = artifact::only_goal(&graph, &args.step)?;
    let store = context.store()?;
    let plan = plan::plan(&graph, &store, &PlanOptions::default())?;
    let explanation = explain::why(&graph, &plan, &store, id)?;
    if args.form.json {
        context.printer.json(&explanation);
    } else {
        context.printer.data(&explanation.text());
    }
    Ok(Exit::Done)
}
