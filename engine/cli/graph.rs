//! `plumb graph`: the pipeline as a picture, or as text for a program that draws.

use clap::{Args, ValueEnum};

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::drawing::{self, Drawing};
use crate::exit::Exit;
use crate::trouble::Trouble;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb graph r-align.toml | dot -Tsvg > r-align.svg
  plumb graph r-align.toml --format svg > r-align.svg
  plumb graph r-align.toml --format mermaid
  plumb graph r-align.toml --steps                every branch, not only the stages";

/// `plumb graph`.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Language of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
    pub format: GraphFormat,
    /// Draw every step rather than one node a stage
    #[arg(long)]
    pub steps: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What a graph is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz
    Dot,
    /// Mermaid, for Markdown
    Mermaid,
    /// A picture, laid out by plumb itself
    Svg,
}

/// Runs the command.
pub fn run(context: &Context, args: &GraphArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, &[])?;
    let drawing = if args.steps { Drawing::of_steps(&graph) } else { Drawing::of_stages(&graph) };
    if args.form.json {
        context.printer.json(&drawing);
    } else {
        let too_many = || {
            let told = format!("a picture of {} nodes shows nothing", drawing.nodes.len());
            Trouble::usage(
                told,
                format!("draw the stages only, or up to {} nodes; `--format dot` has no limit", drawing::MOST_NODES),
            )
        };
        context.printer.data(&drawing.text(args.format).ok_or_else(too_many)?);
    }
    Ok(Exit::Done)
}
