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

use crate::canonical::Value;
use crate::graph::{GatheredBranch, Input, Reference, Step};
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
        Value::Text(format!("{}@{}", declaration.kind, declaration.version)).write(&mut text);
        text.push_str(",\"observed\":");
        let observed = observed.iter().map(|(name, digest)| (name.clone(), Value::Text(digest.clone())));
        Value::Map(observed.collect()).write(&mut text);
        text.push_str(",\"outputs\":");
        outputs(step, declaration).write(&mut text);
        text.push_str(",\"params\":");
        write_params(&step.params, declaration, &mut text);
        text.push_str(",\"salt\":");
        step.salt.clone().map_or(Value::Null, Value::Text).write(&mut text);
        text.push('}');
        Frame { head: head(step), rest: text }
    }

    fn document(&self, inputs: &Value) -> Document {
        let mut text = self.head.clone();
        inputs.write(&mut text);
        text.push_str(&self.rest);
        text
    }
}

fn head(step: &Step) -> String {
    let mut text = String::from("{");
    if let Some(code) = &step.code {
        text.push_str("\"code\":");
        Value::Text(code.clone()).write(&mut text);
        text.push(',');
    }
    text.push_str(&format!("\"format\":{FORMAT},\"inputs\":"));
    text
}

/// A file's name is declared by a kind of the house, so its version covers it. An open kind's program is told the
/// name, and may write another format to `plot.pdf` than to `plot.png`.
fn outputs(step: &Step, declaration: &Declaration) -> Value {
    let entry = |class: Class, file: &str| {
        let class = Value::Text(if class == Class::Result { "result" } else { "diagnostic" }.into());
        if !declaration.open {
            return class;
        }
        Value::Map(BTreeMap::from([("class".into(), class), ("file".into(), Value::Text(file.into()))]))
    };
    Value::Map(step.outputs.iter().map(|output| (output.name.clone(), entry(output.class, &output.file))).collect())
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
    let inputs = inputs(step, |reference| match (of(reference), reference) {
        (RecipeReference::Source(artifact), _) => Value::Text(artifact.identity()),
        (RecipeReference::Made(recipe), Reference::Step { output, subpath, .. }) => made(recipe, output, subpath),
        (RecipeReference::Made(recipe), Reference::Source { subpath, .. }) => made(recipe, "", subpath),
    });
    let document = frame.document(&inputs);
    (RecipeKey::of_document(&document), document)
}

fn made(recipe: RecipeKey, output: &str, subpath: &Option<String>) -> Value {
    let mut fields = BTreeMap::from([
        ("output".to_string(), Value::Text(output.to_string())),
        ("recipe".to_string(), Value::Text(recipe.to_string())),
    ]);
    if let Some(subpath) = subpath {
        fields.insert("subpath".into(), Value::Text(subpath.clone()));
    }
    Value::Map(fields)
}

/// The action document: inputs as the bytes they are. `None` for a branch that failed under `missing = "mark"`.
pub fn action_document(
    step: &Step,
    frame: &Frame,
    mut of: impl FnMut(&Reference) -> Option<Artifact>,
) -> (ActionKey, Document) {
    let inputs =
        inputs(step, |reference| of(reference).map_or(Value::Null, |artifact| Value::Text(artifact.identity())));
    let document = frame.document(&inputs);
    (ActionKey::of_document(&document), document)
}

fn inputs(step: &Step, mut of: impl FnMut(&Reference) -> Value) -> Value {
    let mut named = BTreeMap::new();
    for (name, input) in &step.inputs {
        let value = match input {
            Input::One(reference) => of(reference),
            Input::Gathered { branches, adaptive, .. } => {
                gathered(branches.iter().map(|one| gathered_branch(one, of(&one.reference))).collect(), adaptive)
            }
        };
        named.insert(name.clone(), value);
    }
    Value::Map(named)
}

fn gathered_branch(branch: &GatheredBranch, from: Value) -> Value {
    let labels = branch.labels.iter().map(|(axis, label)| (axis.clone(), Value::Text(label.clone())));
    Value::Map(BTreeMap::from([
        ("baseline".into(), Value::Bool(branch.baseline)),
        ("from".into(), from),
        ("labels".into(), Value::Map(labels.collect())),
        ("stage".into(), Value::Text(branch.stage.clone())),
    ]))
}

/// How the number of branches came about is part of what a table of them means: with a rule that added replicates, the
/// rule stands beside them.
fn gathered(branches: Vec<Value>, adaptive: &BTreeMap<String, String>) -> Value {
    if adaptive.is_empty() {
        return Value::List(branches);
    }
    let rules = adaptive.iter().map(|(axis, rule)| (axis.clone(), Value::Text(rule.clone())));
    Value::Map(BTreeMap::from([
        ("adaptive".into(), Value::Map(rules.collect())),
        ("branches".into(), Value::List(branches)),
    ]))
}

#[cfg(test)]
mod tests;
