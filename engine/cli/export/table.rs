//! `plumb export table`: the headline table as LaTeX, Markdown or CSV, with the digests that it was computed from.

use std::path::PathBuf;

use clap::ValueEnum;
use plumb_engine::execute::place;
use plumb_stages::report::Roles;
use plumb_stages::report::headline::Headline;

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::report::{self, AxisArgs};
use crate::trouble::Trouble;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb export table r-align.toml                            Markdown
  plumb export table r-align.toml --format latex -o table.tex
  plumb export table r-align.toml score@arm=r-align --format csv

A row a branch, a column a benchmark and score, each with its 95 % interval: over seeds where there are several, else of
the items of the one. Bold is the best of a column, a dagger what does not differ from it significantly (paired, Holm).";

/// `plumb export table`.
#[derive(Debug, Clone, clap::Args)]
pub struct TableArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Only what these steps are made of, and themselves
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// What it is written in
    #[arg(long, value_enum, default_value_t = TableFormat::Markdown)]
    pub format: TableFormat,
    /// Where to write it; what is there is replaced [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What the branches of the table are.
    #[command(flatten)]
    pub axes: AxisArgs,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What a table is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people, and for GitHub
    Markdown,
    /// For a paper, with booktabs
    Latex,
    /// For programs: a row for each branch, benchmark and score
    Csv,
}

/// Runs the command.
pub fn run(context: &Context, args: &TableArgs) -> Result<Exit, Trouble> {
    let (_, evidence) = report::gathered(context, &args.pipeline, &args.steps)?;
    let roles = Roles::of(&evidence, &args.axes.benchmark, &args.axes.replicates);
    let headline = Headline::of(&evidence, &roles).map_err(report::trouble)?;
    if headline.branches.is_empty() {
        let hint =
            format!("`plumb run {}` makes them, where it has a stage `bench.s-corr`", args.pipeline.file.display());
        return Err(Trouble::failed("no branch has scores yet", hint));
    }
    let text = match args.format {
        TableFormat::Markdown => headline.markdown(),
        TableFormat::Latex => headline.latex(),
        TableFormat::Csv => headline.csv(),
    };
    match &args.output {
        Some(path) => {
            place::write_whole(path, text.as_bytes())?;
            context.printer.note(&format!("wrote {}", path.display()));
        }
        None if args.form.json => context.printer.json(&headline),
        None => context.printer.data(text.trim_end()),
    }
    Ok(Exit::Done)
}
