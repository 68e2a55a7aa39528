//! `plumb cache`: what the cache holds, whether it is whole, what need not be in it, and what others share.

pub(crate) mod bar;
mod diff;
mod disown;
mod gc;
mod ls;
mod pin;
mod pull;
mod push;
mod share;
mod stats;
pub(crate) mod target;
mod verify;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// Shown below the help of `plumb cache`.
pub const EXAMPLES: &str = "\
Examples:
  plumb cache ls --sort size              the results, the largest first
  plumb cache stats                       what the bytes are, and what the cache has saved
  plumb cache gc --max-size 200GiB -n     what would go, and what it would cost to make again
  plumb cache pin r-align.toml verdict    never to be collected
  plumb cache verify                      read every byte again

A result is named by its pipeline file and step, or by the first digits of its key, as `ls` prints them.";

/// `plumb cache`.
#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with a cache.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// List the results: which step, how large, how old, at what cost, by whom
    #[command(after_help = ls::EXAMPLES)]
    Ls(ls::LsArgs),
    /// Say what the bytes are, what is shared, what hits have saved, and how files get out
    Stats(stats::StatsArgs),
    /// Hash every blob again and read every record; drop what is not whole any more
    #[command(after_help = verify::NOTES)]
    Verify(verify::VerifyArgs),
    /// Send results to a layer, for others to use
    #[command(after_help = push::NOTES)]
    Push(push::PushArgs),
    /// Bring results from layers, before somebody needs them
    #[command(after_help = pull::NOTES)]
    Pull(pull::PullArgs),
    /// Set two layers, or this cache and one, side by side: what one lacks, what differs, what pulling would save
    #[command(after_help = diff::NOTES)]
    Diff(diff::DiffArgs),
    /// Keep results from ever being collected
    #[command(after_help = pin::EXAMPLES)]
    Pin(pin::PinArgs),
    /// Let pinned results be collected again
    Unpin(pin::UnpinArgs),
    /// Mark results as not to be used, nor what was made from them
    #[command(after_help = disown::NOTES)]
    Disown(disown::DisownArgs),
    /// Take such marks back
    Own(disown::OwnArgs),
    /// Take away what nobody can ask for any more, and results down to a size
    #[command(after_help = gc::NOTES)]
    Gc(gc::GcArgs),
}

/// Runs the command.
pub fn run(context: &Context, args: &CacheArgs) -> Result<Exit, Trouble> {
    match &args.command {
        CacheCommand::Ls(args) => ls::run(context, args),
        CacheCommand::Stats(args) => stats::run(context, args),
        CacheCommand::Verify(args) => verify::run(context, args),
        CacheCommand::Push(args) => push::run(context, args),
        CacheCommand::Pull(args) => pull::run(context, args),
        CacheCommand::Diff(args) => diff::run(context, args),
        CacheCommand::Pin(args) => pin::pin(context, args),
        CacheCommand::Unpin(args) => pin::unpin(context, args),
        CacheCommand::Disown(args) => disown::disown(context, args),
        CacheCommand::Own(args) => disown::own(context, args),
        CacheCommand::Gc(args) => gc::run(context, args),
    }
}
