//! `plumb bundle import`: the results of a bundle become hits, if whoever signed them is trusted.

use std::path::PathBuf;

use clap::Args;
use plumb_cache::{Imported, Importing, Progress, SignedRecord, Verdict};
use plumb_engine::upstream;
use serde::Serialize;

use super::{Signer, read, refused};
use crate::args::Form;
use crate::cache::bar::Bar;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb key trust alice ed25519:9f…       once; the key as alice told you, not as the file says
  plumb bundle import supplement.plumb

The whole file is checked first, as by `plumb bundle verify`; then either all of it comes or nothing. A result is trusted
only together with everything that it was made from.";

/// `plumb bundle import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The bundle
    #[arg(value_name = "FILE.plumb")]
    pub file: PathBuf,
    /// Import it whoever signed it, this once; what it brings stays
    #[arg(long)]
    pub trust_any: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed of a result.
#[derive(Debug, Serialize)]
struct Line {
    step: String,
    pipeline: String,
    signer: Signer,
    became: &'static str,
    bytes: u64,
}

/// Runs the command.
pub fn run(context: &Context, args: &ImportArgs) -> Result<Exit, Trouble> {
    let bundle = read(&args.file)?;
    let people = upstream::people()?;
    let policy = if args.trust_any { upstream::people()?.of_anybody() } else { upstream::people()? };
    let store = context.store()?;
    let bar = Bar::new(context, "importing");
    let imported =
        store.import_bundle(&bundle, &policy, &|bytes| bar.show(Progress::Hashed(bytes))).map_err(refused)?;
    drop(bar);
    let done = match imported {
        Imported::Done(done) => done,
        Imported::Refused(signed, verdict) => return Err(stranger(args, &signed, &verdict)),
    };
    let line = |(signed, became): &(SignedRecord, Importing)| Line {
        step: signed.record().step.clone(),
        pipeline: signed.record().pipeline.clone(),
        signer: Signer::of(&signed.signer(), &people),
        became: word(*became),
        bytes: signed.record().outputs.values().map(|output| output.artifact.size).sum(),
    };
    let lines: Vec<Line> = done.iter().map(line).collect();
    if args.form.json {
        context.printer.json(&lines);
        return Ok(Exit::Done);
    }
    for Line { step, signer, became, bytes, .. } in &lines {
        context.printer.note(&format!("`{step}` ({}), signed by {}: {became}", units::size(*bytes), signer.told()));
    }
    Ok(Exit::Done)
}

fn word(became: Importing) -> &'static str {
    match became {
        Importing::New => "imported",
        Importing::Here => "here already",
        Importing::Witness => "differs from the result here, and is kept beside it",
        Importing::Disowned => "disowned here, and stays out",
    }
}

fn stranger(args: &ImportArgs, signed: &SignedRecord, verdict: &Verdict) -> Trouble {
    let (file, step) = (args.file.display(), &signed.record().step);
    let once = "`--trust-any` imports it once, whoever signed it";
    match verdict {
        Verdict::Stranger { step: by, signer, name } => {
            let whose = name.as_ref().map_or_else(|| format!("`{signer}`"), |name| format!("{name} (`{signer}`)"));
            let what = if by == step { String::new() } else { format!(", which was made from `{by}`") };
            let hint =
                format!("ask its owner for the key, by another way, and type `plumb key trust NAME KEY`; {once}");
            Trouble::failed(
                format!("nothing of `{file}` was imported: `{step}`{what} is signed by {whose}, who is not trusted"),
                hint,
            )
        }
        Verdict::Unvouched { .. } | Verdict::Trusted => Trouble::failed(
            format!(
                "nothing of `{file}` was imported: nobody who is trusted says how all that `{step}` was made from came to be"
            ),
            once.to_owned(),
        ),
    }
}
