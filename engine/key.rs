//! Keys: one canonical document for each, and nothing else is hashed.
//!
//! ```text
//! field     recipe document                            action document
//! code      the kind's source fingerprint; only under  the same
//!           `--strict-code`
//! format    number of this layout                      the same
//! inputs    source's digest | producer's recipe key,   digest of the bytes (`file:…`, `tree:…`)
//!           output, subpath
//! kind      kind@behaviour version                     the same
//! observed  digests of listed files, probes' output    the same
//! outputs   name -> class (and file name, where the    the same
//!           program can see it: open kinds)
//! params    typed, defaults filled, neutral ones out   the same
//! salt      as written, or null                        the same
//! ```
//!
//! A gather is in both the ordered list of (stage, labels, is-baseline, reference). Never in a key: names of
//! pipelines, stages, sources and axes (but for a gather's labels, which the step can see), and the manner of running.

use std::collections::BTreeMap;

use plumb_cache::{ActionKey, Artifact, RecipeKey};

use crate::canonical::{Value, write_list, write_map, write_text};
use crate::graph::{GatheredBranch, Input, Output, Reference, Step};
use crate::stage::{Class, Declaration};

/// Number of the documents' layout.
pub const FORMAT: u32 = 1;

/// A canonical document of either kind.
pub type Document = String;

/// The part of both documents that no input enters: what stands before and after `inputs`. Made once a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    head: String,
    rest: String,
}

impl Frame {
    /// The frame of a step, with what was observed for it.
    pub fn new(step: &Step, observed: &BTreeMap<String, String>) -> Frame {
        let declaration = step.kind.declaration();
        let mut text = String::with_capacity(256);
        text.push_str(",\"kind\":");
        write_text(&mut text, &format!("{}@{}", declaration.kind, declaration.version));
        text.push_str(",\"observed\":");
        write_map(&mut text, named(observed), |text, digest| write_text(text, digest));
        text.push_str(",\"outputs\":");
        write_outputs(step, declaration, &mut text);
        text.push_str(",\"params\":");
        write_params(&step.params, declaration, &mut text);
        text.push_str(",\"salt\":");
        match &step.salt {
            Some(salt) => write_text(&mut text, salt),
            None => text.push_str("null"),
        }
        text.push('}');
        Frame { head: head(step), rest: text }
    }

    /// The document of a step: its inputs, each reference as it is written here, within the frame.
    fn document(&self, step: &Step, of: impl FnMut(&mut String, &Reference)) -> Document {
        let length = self.head.len() + self.rest.len() + 16 + 160 * step.inputs.len();
        let mut text = String::with_capacity(length);
        text.push_str(&self.head);
        write_inputs(step, &mut text, of);
        text.push_str(&self.rest);
        text
    }
}

fn head(step: &Step) -> String {
    let mut text = String::from("{");
    if let Some(code) = &step.code {
        text.push_str("\"code\":");
        write_text(&mut text, code);
        text.push(',');
    }
    text.push_str(&format!("\"format\":{FORMAT},\"inputs\":"));
    text
}

fn named<T>(entries: &BTreeMap<String, T>) -> impl Iterator<Item = (&str, &T)> {
    entries.iter().map(|(name, value)| (name.as_str(), value))
}

/// A file's name is declared by a kind of the house, so its version covers it. An open kind's program is told the
/// name, and may write another format to `plot.pdf` than to `plot.png`.
fn write_outputs(step: &Step, declaration: &Declaration, text: &mut String) {
    let mut outputs: Vec<&Output> = step.outputs.iter().collect();
    outputs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    write_map(text, outputs.into_iter().map(|output| (output.name.as_str(), output)), |text, output| {
        let class = if output.class == Class::Result { "result" } else { "diagnostic" };
        match declaration.open {
            true => write_map(text, [("class", class), ("file", &output.file)], write_text),
            false => write_text(text, class),
        }
    });
}

fn write_params(params: &Value, declaration: &Declaration, text: &mut String) {
    if declaration.neutral.is_empty() {
        return params.write(text);
    }
    let mut kept = params.clone();
    for (name, neutral) in declaration.neutral {
        if let Ok(neutral) = Value::parse(neutral) {
            remove_neutral(&mut kept, name, &neutral);
        }
    }
    kept.write(text);
}

fn remove_neutral(params: &mut Value, path: &str, neutral: &Value) {
    let Value::Map(fields) = params else { return };
    if let Some((first, rest)) = path.split_once('.') {
        if let Some(inner) = fields.get_mut(first) {
            remove_neutral(inner, rest, neutral);
        }
    } else if fields.get(path).is_some_and(|value| same(value, neutral)) {
        fields.remove(path);
    }
}

/// Whether a value is the declared neutral one; `0` in a declaration means 0.0 for a float.
#[expect(clippy::float_cmp, reason = "neutral is one exact value")]
#[expect(clippy::cast_precision_loss, reason = "a neutral value is a small number")]
fn same(value: &Value, neutral: &Value) -> bool {
    match (value, neutral) {
        (Value::Float(value), Value::Int(neutral)) => *value == *neutral as f64,
        _ => value == neutral,
    }
}

/// What a recipe document says of one reference.
#[derive(Debug, Clone, PartialEq)]
pub enum RecipeReference {
    /// An output of a step, by the step's recipe key.
    Made(RecipeKey),
    /// A source (with its subpath already followed), by its bytes.
    Source(Artifact),
}

/// The recipe document: known before anything runs.
pub fn recipe_document(
    step: &Step,
    frame: &Frame,
    mut of: impl FnMut(&Reference) -> RecipeReference,
) -> (RecipeKey, Document) {
    let document = frame.document(step, |text, reference| match (of(reference), reference) {
        (RecipeReference::Source(artifact), _) => write_text(text, &artifact.identity()),
        (RecipeReference::Made(recipe), Reference::Step { output, subpath, .. }) => {
            write_made(text, recipe, output, subpath.as_deref());
        }
        (RecipeReference::Made(recipe), Reference::Source { subpath, .. }) => {
            write_made(text, recipe, "", subpath.as_deref());
        }
    });
    (RecipeKey::of_document(&document), document)
}

fn write_made(text: &mut String, recipe: RecipeKey, output: &str, subpath: Option<&str>) {
    let recipe = recipe.to_string();
    let fields = [Some(("output", output)), Some(("recipe", &recipe)), subpath.map(|subpath| ("subpath", subpath))];
    write_map(text, fields.into_iter().flatten(), write_text);
}

/// The action document: inputs as the bytes they are. `None` for a branch that failed under `missing = "mark"`.
pub fn action_document(
    step: &Step,
    frame: &Frame,
    mut of: impl FnMut(&Reference) -> Option<Artifact>,
) -> (ActionKey, Document) {
    let document = frame.document(step, |text, reference| match of(reference) {
        Some(artifact) => write_text(text, &artifact.identity()),
        None => text.push_str("null"),
    });
    (ActionKey::of_document(&document), document)
}

fn write_inputs(step: &Step, text: &mut String, mut of: impl FnMut(&mut String, &Reference)) {
    write_map(text, named(&step.inputs), |text, input| match input {
        Input::One(reference) => of(text, reference),
        Input::Gathered { branches, adaptive, .. } => write_gathered(text, branches, adaptive, &mut of),
    });
}

/// How the number of branches came about is part of what a table of them means: with a rule that added replicates, the
/// rule stands beside them.
fn write_gathered(
    text: &mut String,
    branches: &[GatheredBranch],
    adaptive: &BTreeMap<String, String>,
    of: &mut impl FnMut(&mut String, &Reference),
) {
    if !adaptive.is_empty() {
        text.push_str("{\"adaptive\":");
        write_map(text, named(adaptive), |text, rule| write_text(text, rule));
        text.push_str(",\"branches\":");
    }
    write_list(text, branches, |text, branch| write_branch(text, branch, of));
    if !adaptive.is_empty() {
        text.push('}');
    }
}

fn write_branch(text: &mut String, branch: &GatheredBranch, of: &mut impl FnMut(&mut String, &Reference)) {
    text.push_str(if branch.baseline { "{\"baseline\":true,\"from\":" } else { "{\"baseline\":false,\"from\":" });
    of(text, &branch.reference);
    text.push_str(",\"labels\":");
    write_map(text, named(&branch.labels), |text, label| write_text(text, label));
    text.push_str(",\"stage\":");
    write_text(text, &branch.stage);
    text.push('}');
}

#[cfg(test)]
mod tests;
