//! `plumb verify`: runs a step again, aside, and says how like its results are to those in the cache.

use std::sync::Arc;

use std::path::{Path, PathBuf};

use plumb_engine::execute::RunOptions;
use plumb_engine::execute::local::Local;
use plumb_engine::plan::{self, PlanOptions};
use plumb_engine::stage::Determinism;
use plumb_engine::verify::{self, Certificate, Likeness, Tolerance};

use crate::args::{Form, Pipeline};
use crate::artifact;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::signals;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// Shown after the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb verify r-align.toml score
  plumb verify r-align.toml train@seed=1 --times 3 --certificate train.json

Each output is `bit-equal`, `within tolerance` or `diverged`. Kinds declared `exact` are compared by their bytes alone,
and one that differs ends with exit code 1. Results of `seeded` kinds are also compared as numbers (JSON, JSONL and
safetensors, |a - b| <= atol + rtol |b|), and exit code 1 means that they diverged on the machine that made them. Of a
training the first step at which the two parted is told, by its chain of step digests. Any program may tell its steps:
by an output `chain.jsonl`, a JSON row a step with `step` and a digest, best over all before it.

The result in the cache stays the one that is used; one that differs is kept beside it as a witness. The certificate
(JSON: the key's document, both environments, costs and verdicts) is written beside the pipeline unless `--certificate`
says where. Ctrl-C ends the running step and certifies nothing.";

/// `plumb verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The step, one branch
    pub step: String,
    /// How often to run it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub times: u16,
    /// Relative tolerance for the numbers of `seeded` kinds
    #[arg(long, default_value_t = Tolerance::default().relative, value_name = "X")]
    pub rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = Tolerance::default().absolute, value_name = "X")]
    pub atol: f64,
    /// Where the certificate goes [default: PIPELINE.STEP.certificate.json beside the pipeline]
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Runs the command.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Trouble> {
    let mut graph = context.load(&args.pipeline, std::slice::from_ref(&args.step))?;
    let id = artifact::only_goal(&graph, &args.step)?;
    let store = context.store()?;
    graph.goals = verify::goals(&graph, id);
    let plan = plan::plan(&graph, &store, &PlanOptions::default())?;
    let tolerance = Tolerance { relative: args.rtol, absolute: args.atol };
    let options = RunOptions { executor: Arc::new(Local::alone()), ..RunOptions::default() };
    let _heeding = signals::heeding(&options.stop, &context.printer)?;
    let found = verify::verify(&graph, &plan, &store, id, usize::from(args.times), tolerance, &options)?;
    let Some(found) = found else {
        context.printer.note(&format!("`{}` was stopped: nothing is certified", graph.step(id).address));
        return Ok(Exit::Stopped);
    };
    let path = args.certificate.clone().unwrap_or_else(|| beside(&args.pipeline.file, &found.step));
    verify::write(&found, &path)?;
    if args.form.json {
        context.printer.json(&found);
    } else {
        tell(context, &found);
        context.printer.note(&format!("certificate: {}", path.display()));
    }
    Ok(if found.breaks_a_promise() { Exit::Failed } else { Exit::Done })
}

fn beside(pipeline: &Path, step: &str) -> PathBuf {
    let stem = pipeline.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "@=,._-".contains(letter) { letter } else { '_' };
    let step: String = step.chars().map(plain).collect();
    pipeline.with_file_name(format!("{stem}.{step}.certificate.json"))
}

fn tell(context: &Context, found: &Certificate) {
    let mut table = Table::new(["run", "output", "verdict", "", "took"]);
    for (index, repetition) in found.repetitions.iter().enumerate() {
        for (name, likeness) in &repetition.outputs {
            let (tone, verdict, detail) = match likeness {
                Likeness::BitEqual => (Tone::Good, "bit-equal", String::new()),
                Likeness::WithinTolerance { worst_relative, at } => {
                    (Tone::Warn, "within tolerance", format!("{worst_relative:.2e} at most, at {at}"))
                }
                Likeness::Diverged { at } => (Tone::Bad, "diverged", format!("at {at}")),
            };
            let took = Cell::number(units::seconds(repetition.side.cost.wall_seconds));
            table.row([(index + 1).to_string().into(), name.into(), Cell::toned(tone, verdict), detail.into(), took]);
        }
    }
    context.printer.table(&table);
    for (index, repetition) in found.repetitions.iter().enumerate() {
        if let Some(step) = repetition.first_diverging_step {
            context.printer.data(&format!("run {} parted from it at training step {step}", index + 1));
        }
    }
    context.printer.data(&format!("\n{}", verdict(found)));
}

fn verdict(found: &Certificate) -> String {
    let Certificate { step, kind, canonical, tolerance, .. } = found;
    let from = format!("the result made at {} by {}", canonical.made_at, canonical.made_by);
    let class = match found.determinism {
        Determinism::Exact => "exact",
        Determinism::Seeded => "seeded",
        Determinism::Sampled => "sampled",
    };
    let numbers = format!("rtol {:e}, atol {:e}", tolerance.relative, tolerance.absolute);
    match found.worst() {
        Likeness::BitEqual => format!("`{step}` ({kind}, {class}) is reproduced bit for bit: {from}"),
        Likeness::WithinTolerance { .. } => {
            format!("`{step}` ({kind}, {class}) is reproduced within tolerance ({numbers}): {from}")
        }
        Likeness::Diverged { .. } if found.determinism == Determinism::Exact => {
            format!("`{step}` ({kind}) differs from {from}, and its kind is declared exact")
        }
        Likeness::Diverged { .. } => format!("`{step}` ({kind}, {class}) differs from {from} by more than {numbers}"),
    }
}
