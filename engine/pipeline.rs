//! From the text of a pipeline file to a [`Graph`]: parse (`document`), settle names (`resolve`, `order`), make one
//! step a branch (`expand`, `typing`), choose the goals (`select`). Everything that is wrong is told at once. Reads
//! the file and looks whether sources exist; runs, hashes and prints nothing.

mod asking;
mod axes;
mod document;
mod expand;
mod goals;
mod kept;
mod order;
mod plans;
mod reference;
mod resolve;
mod select;
mod settings;
mod sources;
pub(crate) mod table;
mod text;
mod typing;
mod until;
mod with;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::kinds as fake_kinds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use kept::load_kept;
pub use select::{matches, select};
pub use settings::bytes;

use self::document::Document;
use self::goals::Goals;
use self::select::{AxisFilter, Index};
use self::table::{Complaints, Text};
use self::until::Until;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::graph::{Graph, Input, Publication, Reference, Source, SourceId, Step, StepId};
use crate::growth::{self, Growing};
use crate::stage::Registry;

/// What the command line asks of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// `--set NAME=VALUE`, in order; the last of a name wins.
    pub set: Vec<(String, String)>,
    /// `--axis AXIS=LABEL`: which goal steps are built. Never shrinks a gather.
    pub axis: Vec<String>,
    /// How many replicates an axis with `until` has by now; none means as many as it begins with.
    pub grown: Option<usize>,
    /// Steps or branch addresses; empty for the pipeline's own goals.
    pub steps: Vec<String>,
    /// `--from STEP`: only goals that depend on these, and nothing that stands before them runs.
    pub from: Vec<String>,
    /// `--until STEP`: these instead of the goals, as far as the goals need them.
    pub until: Vec<String>,
}

/// Reads a pipeline file and instantiates it.
pub fn load(file: &Path, registry: &Registry, selection: &Selection) -> Result<Graph, Diagnostics> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    parse_text(file, &text, registry, selection)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Diagnostics {
    let one = Diagnostic::new(format!("cannot read the pipeline `{}`: {error}", file.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound => one.hint("name the TOML file first: `plumb run FILE`".to_string()).into(),
        _ => one.into(),
    }
}

/// The same for a text; `file` is what messages call it, and its folder is where relative paths start.
pub fn parse_text(file: &Path, text: &str, registry: &Registry, selection: &Selection) -> Result<Graph, Diagnostics> {
    let root = parse_toml(file, text)?;
    let mut complaints = Complaints::default();
    let graph = build(file, root, registry, selection, &mut complaints);
    match graph {
        Some(mut graph) => {
            graph.warnings = Diagnostics::located(complaints.all, file, text).diagnostics;
            Ok(graph)
        }
        // Beside errors, a warning is often only their echo: a misspelt parameter leaves the real one unused.
        None => {
            complaints.all.retain(Diagnostic::is_error);
            Err(Diagnostics::located(complaints.all, file, text))
        }
    }
}

/// The tables of a TOML file, or what is wrong with its syntax.
pub(crate) fn parse_toml<'t>(file: &Path, text: &'t str) -> Result<toml::Spanned<DeTable<'t>>, Diagnostics> {
    let told = |error: &toml::de::Error| Diagnostic { span: error.span(), ..Diagnostic::new(error.message()) };
    text::parse(text).map_err(|syntax| Diagnostics::located(syntax.iter().map(told).collect(), file, text))
}

/// `None` where an error was told.
fn build<'t>(
    file: &Path,
    root: toml::Spanned<DeTable<'t>>,
    registry: &Registry,
    selection: &'t Selection,
    complaints: &mut Complaints,
) -> Option<Graph> {
    let mut document = document::read(root, selection, complaints);
    let filter = AxisFilter::read(&selection.axis, &document.axes);
    let filter = filter.map_err(|wrong| complaints.all.extend(wrong)).ok();
    let resolved = resolve::resolve(&mut document, registry, complaints);
    let steps = expand::expand(&resolved, &mut document, complaints);
    if complaints.any_errors() {
        check_names(&document, &resolved, complaints);
        return None;
    }
    let growing = growing(&document, &resolved, complaints);
    let folder = folder(file);
    let index = Index::new(&steps, &document.plans.skips);
    let Goals { goals, from } = goals::choose(&steps, &index, &document, selection, &filter?, complaints);
    let publish =
        document.publish.iter().filter_map(|(to, from)| publication(to, from, &folder, &steps, &index, complaints));
    let publish = publish.collect();
    let (steps, sources) = used_sources(steps, &goals, &document, &folder, complaints);
    let name = document.name.as_ref().map(|name| name.get_ref().to_string());
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let graph = Graph {
        name: name.unwrap_or_else(stem),
        file: file.to_path_buf(),
        steps,
        sources,
        goals,
        from,
        publish,
        replicates: replicates(&document),
        growing,
        skips: document.plans.skips.clone(),
        warnings: Vec::new(),
    };
    (!complaints.any_errors()).then_some(graph)
}

fn replicates(document: &Document<'_>) -> Vec<String> {
    let axes = document.axes.iter().filter(|axis| axis.replicate);
    axes.map(|axis| axis.name.get_ref().to_string()).collect()
}

/// The axis that grows, and the stages that may measure its metric.
fn growing(document: &Document<'_>, resolved: &resolve::Resolved<'_>, complaints: &mut Complaints) -> Option<Growing> {
    let (index, axis, growth) =
        document.axes.iter().enumerate().find_map(|(index, axis)| Some((index, axis, axis.growth.as_ref()?)))?;
    let Until { stage, span, .. } = growth.until.clone();
    let writes = |one: &&resolve::Stage<'_>| {
        one.axes.holds(index) && one.outputs.iter().any(|output| growth::is_metrics(&output.file))
    };
    let name = |one: &resolve::Stage<'_>| one.text.name.get_ref().to_string();
    let measuring: Vec<String> = resolved.stages.iter().filter(writes).map(name).collect();
    let stages: Vec<String> =
        measuring.iter().filter(|one| stage.as_ref().is_none_or(|stage| stage == *one)).cloned().collect();
    let axis = axis.name.get_ref().to_string();
    if stages.is_empty() {
        let what = stage.as_ref().map_or_else(|| "no stage".into(), |stage| format!("`{stage}` is no stage that"));
        let message = format!("{what} sees `{axis}` and has an output `{}`", growth::METRICS);
        let wanted = stage.as_deref().unwrap_or_default();
        let hint = crate::nearest::hint("stages that do", wanted, measuring.iter().map(String::as_str));
        complaints.add(Diagnostic::at(span, message).hint(hint));
        return None;
    }
    let rule = growth.rule(&axis);
    let count = document.axes[index].choices.len();
    Some(Growing { rule, count, stages, state: growth::State::Open })
}

/// The pipeline's folder, absolute.
fn folder(file: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(Path::new(""));
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    std::path::absolute(parent).unwrap_or_else(|_| parent.to_path_buf())
}

/// Goals whose stage does not exist, where other errors keep the steps from being made.
fn check_names(document: &Document<'_>, resolved: &resolve::Resolved<'_>, complaints: &mut Complaints) {
    let names: BTreeSet<&str> = resolved.stages.iter().map(|stage| stage.text.name.get_ref().as_ref()).collect();
    for goal in document.goal.iter().flatten() {
        let stage = goal.get_ref().split('@').next().unwrap_or_default();
        if !stage.contains('*') && !names.contains(stage) {
            complaints.unknown(goal.span(), "stage", stage, names.iter().copied());
        }
    }
}

fn references(step: &Step) -> impl Iterator<Item = &Reference> {
    step.inputs.values().flat_map(|input| {
        let (one, many) = match input {
            Input::One(reference) => (Some(reference), [].as_slice()),
            Input::Gathered { branches, .. } => (None, branches.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|branch| &branch.reference))
    })
}

/// `"results/table.md" = "verdict.table"`: exactly one step; axes that are not named are at their baseline.
fn publication(
    to: &Text<'_>,
    from: &Text<'_>,
    folder: &Path,
    steps: &[Step],
    index: &Index<'_>,
    complaints: &mut Complaints,
) -> Option<Publication> {
    let Some((selector, output)) = from.get_ref().rsplit_once('.') else {
        let message = format!("`{}` is no `STAGE.OUTPUT`", from.get_ref());
        complaints.error(from.span(), message);
        return None;
    };
    let found =
        index.select(selector).map_err(|one| complaints.add(Diagnostic { span: Some(from.span()), ..one })).ok()?;
    let plain = |id: &&StepId| {
        let branch = &steps[id.0].address.branch;
        branch.iter().all(|value| value.baseline || selector.contains(&format!("{}=", value.axis)))
    };
    let step = *found.iter().find(plain).or(found.first())?;
    let outputs = &steps[step.0].outputs;
    if !outputs.iter().any(|known| known.name == output) {
        let hint = crate::nearest::hint("outputs", output, outputs.iter().map(|known| known.name.as_str()));
        let message = format!("stage `{}` has no output `{output}`", steps[step.0].address.stage);
        complaints.add(Diagnostic::at(from.span(), message).hint(hint));
        return None;
    }
    Some(Publication { destination: folder.join(to.get_ref().as_ref()), step, output: output.to_string() })
}

/// The sources that steps use, numbered anew. One that a goal needs must exist; another that does not is a warning.
fn used_sources(
    mut steps: Vec<Step>,
    goals: &[StepId],
    document: &Document<'_>,
    folder: &Path,
    complaints: &mut Complaints,
) -> (Vec<Step>, Vec<Source>) {
    let needed = goals::needed(&steps, goals);
    // For each source of the file, whether a step uses it, and whether a needed one does.
    let mut uses = vec![(false, false); document.sources.len()];
    for (position, step) in steps.iter().enumerate() {
        for reference in references(step) {
            if let Reference::Source { source, .. } = reference {
                uses[source.0].0 = true;
                uses[source.0].1 |= needed[position];
            }
        }
    }
    let (mut sources, mut numbers) = (Vec::new(), vec![SourceId(0); uses.len()]);
    for (position, (text, (used, needed))) in document.sources.iter().zip(uses).enumerate() {
        if !used {
            continue;
        }
        numbers[position] = SourceId(sources.len());
        sources.extend(text.settle(folder, needed, complaints));
    }
    steps.iter_mut().for_each(|step| renumber(step, &numbers));
    (steps, sources)
}

fn renumber(step: &mut Step, numbers: &[SourceId]) {
    let one = |reference: &mut Reference| {
        if let Reference::Source { source, .. } = reference {
            *source = numbers[source.0];
        }
    };
    for input in step.inputs.values_mut() {
        match input {
            Input::One(reference) => one(reference),
            Input::Gathered { branches, .. } => branches.iter_mut().for_each(|branch| one(&mut branch.reference)),
        }
    }
}
