//! `plumb cache pin` and `unpin`: what is never collected.

use clap::Args;
use serde::Serialize;

use super::target::{Target, Targets};
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb cache pin r-align.toml verdict --note 'table 2 of the paper'
  plumb cache pin r-align.toml 'train@seed=*'
  plumb cache pin 3fa94c                  by the first digits of its key

A pin keeps the outputs of its step, not those of the steps before it.";

/// `plumb cache pin`.
#[derive(Debug, Clone, Args)]
pub struct PinArgs {
    /// What to pin.
    #[command(flatten)]
    pub targets: Targets,
    /// Why, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `plumb cache unpin`.
#[derive(Debug, Clone, Args)]
pub struct UnpinArgs {
    /// What to let go.
    #[command(flatten)]
    pub targets: Targets,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// One result.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    step: String,
    changed: bool,
}

/// Pins.
pub fn pin(context: &Context, args: &PinArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let targets = args.targets.resolve(context, &store)?;
    let done = targets.into_iter().map(|target| {
        let changed = store.pin(&target.record.action, &args.note)?;
        Ok((target, changed))
    });
    tell(context, args.form, done.collect::<Result<_, Trouble>>()?, ["pinned", "was pinned"]);
    Ok(Exit::Done)
}

/// Unpins.
pub fn unpin(context: &Context, args: &UnpinArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let targets = args.targets.resolve(context, &store)?;
    let done = targets.into_iter().map(|target| {
        let changed = store.unpin(&target.record.action)?;
        Ok((target, changed))
    });
    tell(context, args.form, done.collect::<Result<_, Trouble>>()?, ["unpinned", "was not pinned"]);
    Ok(Exit::Done)
}

fn tell(context: &Context, form: Form, done: Vec<(Target, bool)>, [new, old]: [&str; 2]) {
    let line =
        |(target, changed): (Target, bool)| Line { key: target.record.action.to_string(), step: target.step, changed };
    let lines: Vec<Line> = done.into_iter().map(line).collect();
    if form.json {
        context.printer.json(&lines);
        return;
    }
    for Line { key, step, changed } in lines {
        context.printer.note(&format!("{} {step} ({})", if changed { new } else { old }, &key[..12]));
    }
}
