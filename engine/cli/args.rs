//! The command line as types, with the help people read. Parses and explains; does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::allowance::AllowanceArgs;
use crate::artifact::{self, GetArgs, OpenArgs};
use crate::bundle::{self, BundleArgs};
use crate::cache::{self, CacheArgs};
use crate::choice::Choice;
use crate::compare::{self, CompareArgs};
use crate::export::{self, ExportArgs};
use crate::graph::{self, GraphArgs};
use crate::init::{self, InitArgs};
use crate::key::{self, KeyArgs};
use crate::lock::{self, LockArgs};
use crate::log::{self, LogArgs};
use crate::plan::{self, PlanArgs};
use crate::report::{self, ReportArgs};
use crate::resources::ResourceArgs;
use crate::setup::SetupArgs;
use crate::show::{self, ShowArgs};
use crate::status::StatusArgs;
use crate::stop::{self, StopArgs};
use crate::verify::{self, VerifyArgs};
use crate::watch::{self, WatchArgs};
use crate::why::{self, WhyArgs};

const EXAMPLES: &str = "\
Examples:
  plumb demo                              the whole mission in miniature, in minutes, without a GPU
  plumb plan r-align.toml                 what would run, what is in the cache, and why
  plumb run r-align.toml                  run what is missing
  plumb run r-align.toml verdict --set steps=20
  plumb why r-align.toml train@seed=1     why this step runs
  plumb get r-align.toml verdict.table table.md

A pipeline file comes first, then steps: `train` is the stage at every branch, `train@seed=1` the branches
with that seed.
Exit codes: 0 done, 1 a step failed, 2 the pipeline or the command line is wrong, 3 the cache cannot be
used, 130 stopped. `PLUMB_LOG=debug` tells on stderr what plumb itself does.";

/// Runs reward-model experiments that are written down in TOML, and re-runs only what a change invalidates.
#[derive(Debug, Parser)]
#[command(name = "plumb", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 110)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings that every command takes.
    #[command(flatten)]
    pub place: Place,
}

/// Where results are kept.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Folder of the cache [default: $XDG_CACHE_HOME/plumb or ~/.cache/plumb]
    #[arg(long, global = true, env = "PLUMB_CACHE", value_name = "DIR", hide_env_values = true)]
    pub cache: Option<PathBuf>,
    /// Read every source again instead of trusting unchanged size and times
    #[arg(long, global = true)]
    pub paranoid: bool,
    /// Wait until results are on the disk; without, a power cut may lose results, but never gives wrong ones
    #[arg(long, global = true, env = "PLUMB_DURABLE", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set, hide_env_values = true)]
    pub durable: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what is missing
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Run what is missing whenever the pipeline file or a source changes
    #[command(after_help = watch::EXAMPLES)]
    Watch(WatchArgs),
    /// End runs that go on, detached ones too, and steps that outlived theirs
    #[command(after_help = stop::EXAMPLES)]
    Stop(StopArgs),
    /// Say what would run, and why, without running it
    #[command(after_help = plan::EXAMPLES)]
    Plan(PlanArgs),
    /// Explain why a step runs, or what its result came from
    #[command(after_help = why::EXAMPLES)]
    Why(WhyArgs),
    /// Run a step again and compare it with its result in the cache
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArgs),
    /// Set two branches, or all against the baseline, side by side: parameters, metrics, intervals
    #[command(after_help = compare::EXAMPLES)]
    Compare(CompareArgs),
    /// Write what a pipeline found as one HTML page: scores, curves, every judgment
    #[command(after_help = report::EXAMPLES)]
    Report(ReportArgs),
    /// Show per stage what is done and what is missing, and the metrics so far
    Status(StatusArgs),
    /// List the stage kinds, or show one kind's inputs, outputs and parameters
    #[command(after_help = show::EXAMPLES)]
    Show(ShowArgs),
    /// Print the pipeline's graph as a picture (SVG), or for Graphviz or Mermaid
    #[command(after_help = graph::EXAMPLES)]
    Graph(GraphArgs),
    /// List past runs, tell what each step of one took, or print the log of a step
    #[command(after_help = log::EXAMPLES)]
    Log(LogArgs),
    /// Pin what the sources hold, or accept that they changed
    #[command(after_help = lock::EXAMPLES)]
    Lock(LockArgs),
    /// Print the path of an artifact in the cache
    #[command(after_help = artifact::OPEN_EXAMPLES)]
    Open(OpenArgs),
    /// Write a result with its provenance as a Workflow Run RO-Crate
    #[command(after_help = export::EXAMPLES)]
    Export(ExportArgs),
    /// Copy an artifact out of the cache
    #[command(after_help = artifact::GET_EXAMPLES)]
    Get(GetArgs),
    /// Write results with their lineage into one file, check such a file, bring it in
    #[command(after_help = bundle::NOTES)]
    Bundle(BundleArgs),
    /// List, check, pin and collect what the cache holds
    #[command(after_help = cache::EXAMPLES)]
    Cache(CacheArgs),
    /// Your key, and whose results you use
    #[command(after_help = key::EXAMPLES)]
    Key(KeyArgs),
    /// Fetch libtorch and build the worker that trains; says what and how much first
    Setup(SetupArgs),
    /// Write a commented pipeline that runs as it is, to start from
    #[command(after_help = init::EXAMPLES)]
    Init(InitArgs),
    /// Run the miniature: the whole mission on a tiny world, without a GPU or a download of data
    Demo(DemoArgs),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// One step, in its own process
    #[command(name = "__step", hide = true)]
    Step(StepArgs),
    /// What a detached step is kept by
    #[command(name = "__keep", hide = true)]
    Keep(StepArgs),
}

/// The pipeline and how it is instantiated.
#[derive(Debug, Clone, Args)]
pub struct Pipeline {
    /// The pipeline file
    pub file: PathBuf,
    /// How it is instantiated.
    #[command(flatten)]
    pub variant: Variant,
}

/// How a pipeline is instantiated.
#[derive(Debug, Clone, Default, Args)]
pub struct Variant {
    /// Give a parameter of `[params]` another value
    #[arg(long = "set", value_name = "NAME=VALUE", help_heading = "Pipeline")]
    pub set: Vec<String>,
    /// Keep only these values of an axis: `seed=0..2`, `reward=label,graded`, `seed=*`
    #[arg(long = "axis", value_name = "AXIS=VALUES", help_heading = "Pipeline")]
    pub axis: Vec<String>,
    /// Apply `[profile.NAME]`
    #[arg(long, value_name = "NAME", help_heading = "Pipeline")]
    pub profile: Option<String>,
    /// Put the fingerprint of each kind's source into its keys: only results of this very code count
    #[arg(long, help_heading = "Pipeline")]
    pub strict_code: bool,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Form {
    /// Print JSON for machines
    #[arg(long)]
    pub json: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  plumb run r-align.toml                          everything under `[pipeline] goal`
  plumb run r-align.toml train score              these stages, at every branch, and what they need
  plumb run r-align.toml train@reward=label       one branch
  plumb run r-align.toml 'tr*@seed=0..2'          quoted, `*` is any text and `0..2` holds both ends
  plumb run r-align.toml --axis seed=0..2         the goals at these seeds; a gather keeps all its branches
  plumb run r-align.toml --from score             what depends on `score`; nothing before it runs
  plumb run r-align.toml --until train            what the goals need, up to `train`
  plumb run r-align.toml --fresh 'train@seed=1'   once more, although its result is there
  plumb run r-align.toml --profile smoke -j 2 --keep-going
  plumb run r-align.toml --json                   one event a line
  plumb run r-align.toml --detach                 in the background; says how to follow it
  plumb run r-align.toml --gpus 0,1 --mem 64GiB   of this machine, use only so much

Ctrl-C ends the running steps and keeps what is done; checkpoints stay, so the next run continues from them.";

/// `plumb run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Which steps.
    #[command(flatten)]
    pub choice: Choice,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// What it may cost.
    #[command(flatten)]
    pub allowance: AllowanceArgs,
    /// When a step fails, go on with the steps that do not need it
    #[arg(short, long)]
    pub keep_going: bool,
    /// Return at once: run and steps go on without this terminal, and the next `plumb run` re-attaches to them
    #[arg(long)]
    pub detach: bool,
    /// The process that `--detach` starts
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Tell every step, hits included
    #[arg(short, long)]
    pub verbose: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `plumb demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Apply a profile of the miniature, as `paper` (five seeds)
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Folder to put the miniature's pipeline in
    #[arg(default_value = "plumb-demo", value_name = "DIR")]
    pub folder: PathBuf,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  plumb completions bash > ~/.local/share/bash-completion/completions/plumb
  plumb completions zsh > ~/.zfunc/_plumb
  plumb completions fish > ~/.config/fish/completions/plumb.fish";

/// `plumb completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `plumb __step`.
#[derive(Debug, Clone, Args)]
pub struct StepArgs {
    /// The step's scratch folder, which holds `step.json`
    pub folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }
}
