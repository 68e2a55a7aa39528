//! `plumb show`: the stage kinds, one kind's page, or the JSON Schema of its parameters or of pipeline files.

use clap::Args;
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::{schema, settings, show};

use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb show                      every stage kind
  plumb show genrm.train          its inputs, outputs and parameters, with defaults
  plumb show run                  what a stage may say under `run`: resources, retries, secrets, sandbox
  plumb show genrm.train --schema the JSON Schema of its parameters
  plumb show --schema             the JSON Schema of pipeline files, for editors (`plumb init` writes it too)";

/// `plumb show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The kind, as `genrm.train`
    pub kind: Option<String>,
    /// Print the JSON Schema of the kind's parameters; without a kind that of pipeline files
    #[arg(long)]
    pub schema: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Runs the command.
pub fn run(context: &Context, args: &ShowArgs) -> Result<Exit, Trouble> {
    let Context { registry, printer, .. } = context;
    match &args.kind {
        None if args.schema => printer.data(schema::text(registry).trim_end()),
        None if args.form.json => printer.json(&show::kinds(registry)),
        None => printer.data(show::kinds_text(registry).trim_end()),
        Some(name) if name == "run" && args.form.json => printer.json(&settings::KEYS),
        Some(name) if name == "run" => printer.data(show::run_text().trim_end()),
        Some(name) => {
            let page = show::kind(registry, name).map_err(Diagnostics::from)?;
            match registry.find(page.line.kind).filter(|_| args.schema) {
                Some(kind) => printer.json(&kind.schema()),
                None if args.form.json => printer.json(&page),
                None => printer.data(page.text().trim_end()),
            }
        }
    }
    Ok(Exit::Done)
}
