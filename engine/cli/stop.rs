//! `plumb stop`: ends runs, and steps that outlived theirs, as Ctrl-C would.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use plumb_cache::Store;
use plumb_engine::execute::going::{self, Going, Manner, Stopping};
use plumb_engine::{history, nearest};

use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb stop r-align.toml                   every run of this pipeline that goes on, detached or not
  plumb stop 20260224T101500Z-4711          one run, by the id that `run --detach` said
  plumb stop r-align.toml --now             kill the steps rather than ask them to end

It returns when they have ended. As after Ctrl-C, what is done is kept, and so are checkpoints: the next run
goes on from them. A step whose run was killed is ended too.";

/// `plumb stop`.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Pipeline files, or runs by their ids
    #[arg(value_name = "FILE|RUN", required = true)]
    pub what: Vec<String>,
    /// Kill the steps rather than ask them to end
    #[arg(long)]
    pub now: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Runs the command.
pub fn run(context: &Context, args: &StopArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let mut wanted = BTreeSet::new();
    for what in &args.what {
        wanted.extend(named(&store, what)?);
    }
    let manner = if args.now { Manner::Now } else { Manner::Gently };
    let mut ended = Vec::new();
    // Runs first: each ends its own steps, and what is left then has lost its run.
    for going in going::runs(&store)?.into_iter().filter(|going| wanted.contains(&going.run)) {
        end(context, going, manner, &mut ended)?;
    }
    for going in going::steps(&store).into_iter().filter(|going| wanted.contains(&going.run)) {
        end(context, going, manner, &mut ended)?;
    }
    if args.form.json {
        context.printer.json(&ended);
    } else if ended.is_empty() {
        context.printer.note(&format!("nothing of `{}` goes on", args.what.join("`, `")));
    }
    Ok(Exit::Done)
}

/// The runs that a file or an id names.
fn named(store: &Store, what: &str) -> Result<Vec<String>, Trouble> {
    if Path::new(what).is_file() {
        return Ok(store.runs_of(Path::new(what))?);
    }
    let runs = history::runs(store, None)?;
    if runs.iter().any(|header| header.id == what) {
        return Ok(vec![what.to_owned()]);
    }
    let hint = nearest::did_you_mean(what, runs.iter().map(|header| header.id.as_str()));
    let hint = hint.unwrap_or_else(|| "name the pipeline file, or a run as `plumb log --json` lists them".into());
    Err(Trouble::usage(format!("`{what}` is no pipeline file and no run of this cache"), hint))
}

fn end(context: &Context, going: Going, manner: Manner, ended: &mut Vec<Going>) -> Result<(), Trouble> {
    let Going { run, step, process, host, .. } = &going;
    let told = match step {
        Some(step) => format!("step {step} of run {run} (process {process})"),
        None => format!("run {run} (process {process})"),
    };
    match going.stop(manner) {
        Stopping::Ended => {
            context.printer.note(&format!("stopped {told}"));
            ended.push(going);
            Ok(())
        }
        Stopping::Elsewhere => Err(Trouble::failed(
            format!("{told} is on `{host}`"),
            format!("`plumb stop {run}` on that machine ends it"),
        )),
        Stopping::GoesOn => {
            Err(Trouble::failed(format!("{told} was asked to end and goes on"), format!("`plumb stop {run} --now`")))
        }
    }
}
