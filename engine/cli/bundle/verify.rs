//! `plumb bundle verify`: every byte of a bundle is checked, and it is told who signed what. Opens no cache and asks
//! nobody.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use plumb_cache::{Bundle, SignedRecord};
use plumb_engine::upstream;
use serde::Serialize;

use super::{Signer, read};
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb bundle verify supplement.plumb
  plumb bundle verify supplement.plumb --json

Checked: the digest and length of each blob, both keys of each record from their documents, each signature, that folders
can be made and lead nowhere else, that everything a result was made from has its record, that nothing else is in the
file. Not checked, since no file can show it: whether a signer tells the truth, and whose a key is. A key that your
settings know is told by its name. Exit code 1 where anything is wrong.";

/// `plumb bundle verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The bundle
    #[arg(value_name = "FILE.plumb")]
    pub file: PathBuf,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    /// Nothing is wrong.
    good: bool,
    /// What is wrong, if it could not be read to its end.
    why: Option<String>,
    results: Vec<Line>,
    /// Everything they were made from.
    lineage: Vec<Line>,
    /// Recipes that something was made from and that no record is of.
    missing: Vec<String>,
    blobs: usize,
    bytes: u64,
}

/// One record.
#[derive(Debug, Serialize)]
struct Line {
    step: String,
    pipeline: String,
    action: String,
    recipe: String,
    /// Digest over the results.
    result: String,
    signer: Signer,
    made_at: String,
    made_by: String,
    /// Whether its bytes are in the file.
    whole: bool,
    bytes: u64,
}

/// Runs the command.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Trouble> {
    let report = match read(&args.file) {
        Ok(bundle) => report(args, &bundle)?,
        Err(Trouble::Failed { message, .. }) if args.form.json => bad(args, message),
        Err(trouble) => return Err(trouble),
    };
    match args.form.json {
        true => context.printer.json(&report),
        false => print(context, &report),
    }
    Ok(if report.good { Exit::Done } else { Exit::Failed })
}

fn bad(args: &VerifyArgs, why: String) -> Report {
    let (results, lineage, missing) = (Vec::new(), Vec::new(), Vec::new());
    Report { file: args.file.clone(), good: false, why: Some(why), results, lineage, missing, blobs: 0, bytes: 0 }
}

fn report(args: &VerifyArgs, bundle: &Bundle) -> Result<Report, Trouble> {
    let people = upstream::people()?;
    let line = |signed: &SignedRecord, whole: bool| {
        let record = signed.record();
        Line {
            step: record.step.clone(),
            pipeline: record.pipeline.clone(),
            action: record.action.to_string(),
            recipe: record.recipe.to_string(),
            result: record.result_digest().to_string(),
            signer: Signer::of(&signed.signer(), &people),
            made_at: record.made_at.clone(),
            made_by: record.made_by.clone(),
            whole,
            bytes: record.outputs.values().map(|output| output.artifact.size).sum(),
        }
    };
    let sorted = |mut lines: Vec<Line>| {
        lines.sort_by(|one, other| {
            (&one.step, &one.action, &one.signer).cmp(&(&other.step, &other.action, &other.signer))
        });
        lines
    };
    let is_result = |signed: &SignedRecord| bundle.results().any(|result| result == signed);
    let before = bundle.records().iter().filter(|bundled| !is_result(&bundled.signed));
    let missing: Vec<String> = bundle.missing().iter().map(ToString::to_string).collect();
    let (blobs, bytes) = bundle.blobs();
    Ok(Report {
        file: args.file.clone(),
        good: missing.is_empty(),
        why: None,
        results: sorted(bundle.results().map(|signed| line(signed, true)).collect()),
        lineage: sorted(before.map(|bundled| line(&bundled.signed, bundled.whole)).collect()),
        missing,
        blobs,
        bytes,
    })
}

fn print(context: &Context, report: &Report) {
    let printer = &context.printer;
    let mut table = Table::new(["step", "", "signed by", "made at", "size", "key"]);
    for (lines, what) in [(&report.results, "result"), (&report.lineage, "made from")] {
        for line in lines {
            let tone = if line.signer.trusted { Tone::Good } else { Tone::Plain };
            let kept = if line.whole { units::size(line.bytes) } else { "record only".into() };
            table.row([
                Cell::from(line.step.as_str()),
                Cell::from(what),
                Cell::toned(tone, line.signer.told()),
                Cell::from(line.made_at.as_str()),
                Cell::number(kept),
                Cell::from(&line.action[..12]),
            ]);
        }
    }
    printer.table(&table);
    let all = report.results.iter().chain(&report.lineage);
    let signers: BTreeSet<&Signer> = all.map(|line| &line.signer).collect();
    for signer in &signers {
        let trust = if signer.trusted { "trusted here" } else { "not among the keys that are trusted here" };
        printer.data(&format!("{} is {}: {trust}", signer.told(), signer.key));
    }
    let records = units::plural(report.results.len() + report.lineage.len(), "record");
    match report.missing.as_slice() {
        [] => {
            printer.data(&format!("the lineage is complete: {records} by {}", units::plural(signers.len(), "signer")))
        }
        missing => missing.iter().for_each(|recipe| {
            let message = format!("the lineage is not complete: there is no record of the recipe `{recipe}`");
            printer.error(&message, None);
        }),
    }
    let blobs = units::plural(report.blobs, "blob");
    printer.data(&format!("{blobs} ({}), every digest, key and signature holds", units::size(report.bytes)));
}
