//! `plumb bundle`: results with everything that proves them in one file, for whoever has neither the cache nor a layer.

mod export;
mod import;
mod verify;

use std::path::Path;

use clap::{Args, Subcommand};
use plumb_cache::{Bundle, CacheError, Policy, PublicKey};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// Shown below the help of `plumb bundle`.
pub const NOTES: &str = "\
Examples:
  plumb bundle export r-align.toml verdict -o supplement.plumb
  plumb bundle verify supplement.plumb    every byte, key and signature; needs no cache and no network
  plumb bundle import supplement.plumb    its results become hits, if you trust who signed them

A bundle is a tar archive: the results' bytes, and the signed records of everything they were made from, as a layer has
them. The same content is the same file, byte for byte. `tar xf` makes a folder that can be named as a layer.";

/// `plumb bundle`.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BundleCommand,
}

/// What can be done with bundles.
#[derive(Debug, Clone, Subcommand)]
pub enum BundleCommand {
    /// Write results with their lineage into one file
    #[command(after_help = export::NOTES)]
    Export(export::ExportArgs),
    /// Bring the results of a bundle into the cache
    #[command(after_help = import::NOTES)]
    Import(import::ImportArgs),
    /// Check a bundle, all of it, and say who signed what
    #[command(after_help = verify::NOTES)]
    Verify(verify::VerifyArgs),
}

/// Runs the command.
pub fn run(context: &Context, args: &BundleArgs) -> Result<Exit, Trouble> {
    match &args.command {
        BundleCommand::Export(args) => export::run(context, args),
        BundleCommand::Import(args) => import::run(context, args),
        BundleCommand::Verify(args) => verify::run(context, args),
    }
}

/// Who signed, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Signer {
    /// What the settings call the key.
    name: Option<String>,
    key: String,
    trusted: bool,
}

impl Signer {
    fn of(key: &PublicKey, people: &Policy) -> Signer {
        Signer { name: people.name(key).map(str::to_owned), key: key.to_string(), trusted: people.trusts(key) }
    }

    fn told(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{}…", &self.key[..20]))
    }
}

/// A file that is not there is the user's mistake; one that is no bundle is a bundle that is not used.
fn read(file: &Path) -> Result<Bundle, Trouble> {
    if let Err(error) = std::fs::File::open(file) {
        let message = format!("cannot read the bundle `{}`: {error}", file.display());
        return Err(Trouble::Usage { message, hint: None });
    }
    Bundle::read(file).map_err(refused)
}

fn refused(error: CacheError) -> Trouble {
    let hint = "ask for it again, by another way: nothing of it was kept".to_owned();
    match error {
        CacheError::BadBundle { .. } => Trouble::Failed { message: error.to_string(), hint: Some(hint) },
        other => other.into(),
    }
}
