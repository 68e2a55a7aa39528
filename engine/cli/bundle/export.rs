//! `plumb bundle export`: results, their lineage, and their bytes in one new file.

use std::path::PathBuf;

use clap::Args;
use plumb_cache::{Inputs, Progress, SecretKey, Store};
use plumb_engine::config::Home;
use plumb_engine::upstream::Reading;
use serde::Serialize;

use crate::args::Form;
use crate::cache::bar::Bar;
use crate::cache::target::{Target, Targets};
use crate::context::Context;
use crate::exit::Exit;
use crate::key::of_key;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb bundle export r-align.toml -o supplement.plumb          the goals
  plumb bundle export r-align.toml 'train@seed=*' -o models.plumb --with-inputs

Every record of the lineage is in it, in the words of who signed it; what was made here is signed with your key (`plumb
key new`). Sources are named by their digests and not copied. `plumb export` writes the same result as an RO-Crate.";

/// `plumb bundle export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// What to export.
    #[command(flatten)]
    pub targets: Targets,
    /// The file to make
    #[arg(short, long, value_name = "OUT.plumb")]
    pub output: PathBuf,
    /// The bytes of everything that they were made from too
    #[arg(long)]
    pub with_inputs: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    results: usize,
    records: usize,
    blobs: usize,
    bytes: u64,
    /// Results in the lineage that nothing is known of any more.
    missing: usize,
}

/// Runs the command.
pub fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Trouble> {
    let file = &args.output;
    if file.symlink_metadata().is_ok() {
        let told = format!("`{}` is there already", file.display());
        return Err(Trouble::usage(told, "remove it, or name another place"));
    }
    let key = SecretKey::read(&Home::required()?.secret_key()).map_err(of_key)?;
    let key = key.ok_or_else(|| Trouble::usage("there is no key to sign with", "make one with `plumb key new`"))?;
    let store = context.store_asking(args.targets.file(), Reading::default())?;
    let targets = args.targets.resolve(context, &store)?;
    let lineages = targets.iter().map(|target| store.signed_lineage(&target.record, &key));
    let lineages = lineages.collect::<Result<Vec<_>, _>>()?;
    let inputs = if args.with_inputs { Inputs::Bytes } else { Inputs::Records };
    let bar = Bar::new(context, "exporting");
    let progress = |bytes| bar.show(Progress::Hashed(bytes));
    let exported = store.export_bundle(&lineages, inputs, file, &progress);
    drop(bar);
    let exported =
        exported.map_err(|error| if error.is_miss() { gone(&store, &targets, args) } else { error.into() })?;
    let plumb_cache::Exported { records, blobs, bytes, missing } = exported;
    if missing > 0 {
        context.printer.warning(&format!(
            "nothing is known any more of {} in the lineage: `plumb bundle verify` will say so",
            units::plural(missing, "result")
        ));
    }
    let results = targets.len();
    if args.form.json {
        context.printer.json(&Report { file: file.clone(), results, records, blobs, bytes, missing });
    } else {
        context.printer.note(&format!(
            "wrote {} with {} and {} ({}) to `{}`",
            units::plural(results, "result"),
            units::plural(records, "record"),
            units::plural(blobs, "blob"),
            units::size(bytes),
            file.display()
        ));
    }
    Ok(Exit::Done)
}

fn gone(store: &Store, targets: &[Target], args: &ExportArgs) -> Trouble {
    let whole = |target: &&Target| target.record.outputs.values().all(|output| store.present(&output.artifact));
    match targets.iter().find(|target| !whole(target)) {
        Some(target) => Trouble::failed(
            format!("the cache has lost bytes of `{}`", target.step),
            "`plumb run` makes them again, `plumb cache pull` brings them from a layer",
        ),
        None => Trouble::failed(
            "the cache has not got all bytes of what these results were made from",
            if args.with_inputs { "leave out `--with-inputs`, or make them with `plumb run`" } else { "try again" },
        ),
    }
}
