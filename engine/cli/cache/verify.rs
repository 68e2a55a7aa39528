//! `plumb cache verify`: every byte read again, and what is not whole taken away.

use std::path::PathBuf;

use clap::Args;
use plumb_cache::{Lost, Repair, Verified};
use serde::Serialize;

use super::bar::Bar;
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
A damaged blob is moved aside, a record that lost a blob is dropped: the step runs again when it is asked for.
Exit code 1 if there was anything to repair, and 0 the next time; with `--dry-run` 1 until it is repaired. Files that
no digest names, and logs that were lost, are told and are no damage.";

/// `plumb cache verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Only say what is wrong
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    clean: bool,
    repaired: bool,
    blobs: usize,
    bytes: u64,
    records: usize,
    damaged: Vec<String>,
    strays: Vec<PathBuf>,
    unreadable: usize,
    unsigned: Vec<String>,
    bad_manifests: Vec<String>,
    lost: Vec<LostRecord>,
}

#[derive(Debug, Serialize)]
struct LostRecord {
    key: String,
    step: String,
    outputs: Vec<String>,
    dropped: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let repair = if args.dry_run { Repair::No } else { Repair::Yes };
    let bar = Bar::new(context, "reading");
    let found = store.verify(repair, &|progress| bar.show(progress))?;
    drop(bar);
    if args.form.json {
        context.printer.json(&report(&found, repair));
    } else {
        print(context, &found, repair);
    }
    Ok(if found.is_clean() { Exit::Done } else { Exit::Failed })
}

fn report(found: &Verified, repair: Repair) -> Report {
    let lost = |lost: &Lost| LostRecord {
        key: lost.action.to_string(),
        step: lost.step.clone(),
        outputs: lost.outputs.clone(),
        dropped: repair == Repair::Yes && !lost.diagnostics_only,
    };
    Report {
        clean: found.is_clean(),
        repaired: repair == Repair::Yes,
        blobs: found.blobs,
        bytes: found.bytes,
        records: found.records,
        damaged: found.damaged.iter().map(ToString::to_string).collect(),
        strays: found.strays.clone(),
        unreadable: found.unreadable,
        unsigned: found.unsigned.iter().map(ToString::to_string).collect(),
        bad_manifests: found.bad_manifests.iter().map(ToString::to_string).collect(),
        lost: found.lost.iter().map(lost).collect(),
    }
}

fn print(context: &Context, found: &Verified, repair: Repair) {
    let printer = &context.printer;
    let done = |yes: &'static str| if repair == Repair::Yes { yes } else { "" };
    for digest in &found.damaged {
        printer.data(&format!("damaged   blob {}{}", digest.short(), done("  moved aside")));
    }
    for digest in &found.bad_manifests {
        printer.data(&format!("damaged   manifest of {}{}", digest.short(), done("  moved aside")));
    }
    for lost in &found.lost {
        let outputs: Vec<String> = lost.outputs.iter().map(|output| format!("`{output}`")).collect();
        let done = if lost.diagnostics_only { "  a diagnostic: the record stays" } else { done("  dropped") };
        printer.data(&format!("lost      {} of {} ({}){done}", outputs.join(", "), lost.step, lost.action.short()));
    }
    if found.unreadable > 0 {
        printer.data(&format!("damaged   {}{}", units::plural(found.unreadable, "record"), done("  moved aside")));
    }
    for action in &found.unsigned {
        let done = done("  dropped, with its result");
        printer.data(&format!("damaged   what its maker signed of {}{done}", action.short()));
    }
    for stray in &found.strays {
        printer.data(&format!("stray     `{}`  no digest names it", stray.display()));
    }
    let looked = format!(
        "read {} ({}) and {}",
        units::plural(found.blobs, "blob"),
        units::size(found.bytes),
        units::plural(found.records, "record")
    );
    match found.is_clean() {
        true => printer.note(&format!("{looked}: all whole")),
        false => printer.note(&looked),
    }
}
