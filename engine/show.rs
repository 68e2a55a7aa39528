//! What `plumb show` tells: the kinds there are, and of one kind its parameters (types, defaults, docs, from the
//! JSON Schema), inputs and outputs. Returns data and text; prints nothing.

mod parameters;

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value as Json;

pub use self::parameters::Parameter;
use self::parameters::parameters;
use crate::nearest;
use crate::settings::{self, Key};
use crate::stage::{Class, Determinism, Kind, Registry, Worker};

/// Columns of a line of documentation.
const WIDTH: usize = 100;

/// One line of the list of kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindLine {
    /// `noun.verb`.
    pub kind: &'static str,
    /// Behaviour version.
    pub version: u32,
    /// One line.
    pub about: &'static str,
    /// The worker program that runs it; `None` for this one.
    pub worker: Option<&'static str>,
}

/// Everything about one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindPage {
    /// Name, version, one line, worker.
    #[serde(rename = "kind")]
    pub line: KindLine,
    /// How far the key determines the bytes.
    pub determinism: Determinism,
    /// Whether the pipeline names the inputs and outputs.
    pub open: bool,
    /// Under `with`.
    pub parameters: Vec<Parameter>,
    /// Under `inputs`.
    pub inputs: Vec<Port>,
    /// What other stages may refer to.
    pub outputs: Vec<Port>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// `required`, `optional`, `gather`; a file name; `diagnostic`.
    pub is: String,
    /// One line.
    pub about: &'static str,
}

/// The kinds of a registry, by name.
pub fn kinds(registry: &Registry) -> Vec<KindLine> {
    registry.kinds().map(|kind| line(&**kind)).collect()
}

/// The list of kinds as text.
pub fn kinds_text(registry: &Registry) -> String {
    let lines = kinds(registry);
    let width = lines.iter().map(|line| line.kind.len()).max().unwrap_or_default();
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{:width$}  {}", line.kind, line.about);
    }
    text
}

/// What a stage may say under `run`, as text.
pub fn run_text() -> String {
    let mut text = String::from("run   how a stage runs; never part of a key\n\n");
    for Key { name, is, about } in settings::KEYS {
        let _ = writeln!(text, "  {name} = {is}");
        wrap(&mut text, "      ", about);
    }
    text
}

/// One kind; the error holds the nearest name as a hint.
pub fn kind(registry: &Registry, name: &str) -> Result<KindPage, crate::diagnostic::Diagnostic> {
    let name = name.split('@').next().unwrap_or_default();
    let Some(kind) = registry.find(name) else {
        let hint = nearest::did_you_mean(name, registry.kinds().map(|kind| kind.declaration().kind));
        let hint = hint.unwrap_or_else(|| "`plumb show` lists the kinds".into());
        return Err(crate::diagnostic::Diagnostic::new(format!("unknown stage kind `{name}`")).hint(hint));
    };
    Ok(page(&**kind))
}

fn line(kind: &dyn Kind) -> KindLine {
    let declaration = kind.declaration();
    let worker = match declaration.worker {
        Worker::Own => None,
        Worker::Program { name, .. } => Some(name),
    };
    KindLine { kind: declaration.kind, version: declaration.version, about: declaration.about, worker }
}

fn page(kind: &dyn Kind) -> KindPage {
    let declaration = kind.declaration();
    let inputs = declaration.inputs.iter().map(|spec| {
        let is = match (spec.gathers, spec.required) {
            (true, _) => "a table of branches: { all = \"STAGE.OUTPUT\", over = [\"AXIS\"] }",
            (false, true) => "required",
            (false, false) => "optional",
        };
        Port { name: spec.name, is: is.into(), about: spec.about }
    });
    let outputs = declaration.outputs.iter().map(|spec| {
        let is = match spec.class {
            Class::Result => spec.file.to_string(),
            Class::Diagnostic => format!("{}, diagnostic", spec.file),
        };
        Port { name: spec.name, is, about: spec.about }
    });
    KindPage {
        line: line(kind),
        determinism: declaration.determinism,
        open: declaration.open,
        parameters: parameters(&kind.schema()),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    }
}

impl KindPage {
    /// The page as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}@{}  {}\n", self.line.kind, self.line.version, self.line.about);
        let class = match self.determinism {
            Determinism::Exact => "exact: the same bytes on any machine",
            Determinism::Seeded => "seeded: the same bytes on one machine, a draw elsewhere",
            Determinism::Sampled => "sampled: a remote service takes part, the transcript is the artifact",
        };
        let _ = writeln!(text, "{class}");
        if let Some(worker) = self.line.worker {
            let _ = writeln!(text, "runs in `{worker}`");
        }
        if self.open {
            text.push_str("\nThe pipeline names the inputs, and the outputs: outputs = { NAME = \"FILE\" }\n");
        }
        section(&mut text, "inputs", &self.inputs);
        if !self.parameters.is_empty() {
            text.push_str("\nwith\n");
            self.parameters.iter().for_each(|parameter| parameter.write(&mut text));
        }
        section(&mut text, "outputs", &self.outputs);
        text
    }
}

fn section(text: &mut String, title: &str, ports: &[Port]) {
    if ports.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    let width = ports.iter().map(|port| port.name.len()).max().unwrap_or_default();
    for port in ports {
        let _ = writeln!(text, "  {:width$}  {} ({})", port.name, port.about, port.is);
    }
}

impl Parameter {
    fn write(&self, text: &mut String) {
        let default = match &self.default {
            Some(Json::Null) => ", may be left out".to_string(),
            // A table's defaults stand at its fields.
            Some(Json::Object(_)) => String::new(),
            Some(default) => format!(", default {default}"),
            None if self.required => ", required".to_string(),
            None => String::new(),
        };
        let _ = writeln!(text, "  {}: {}{default}", self.name, self.is);
        wrap(text, "      ", &self.about);
        for (value, about) in &self.choices {
            let line = if about.is_empty() { value.clone() } else { format!("{value}: {about}") };
            wrap(text, "      - ", &line);
        }
    }
}

/// Writes words in lines of at most [`WIDTH`] columns.
fn wrap(text: &mut String, indent: &str, words: &str) {
    let mut line = indent.to_string();
    for word in words.split_whitespace() {
        if line.chars().count() + word.chars().count() > WIDTH && !line.trim_start_matches([' ', '-']).is_empty() {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(indent.len());
        }
        line.push_str(word);
        line.push(' ');
    }
    if !words.trim().is_empty() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::pipeline::fake_kinds::registry;

    #[test]
    fn a_kind_shows_its_parameters_inputs_and_outputs() {
        let shown = kind(&registry(), "model.train").unwrap().text();
        expect![[r#"
            model.train@1  trains
            seeded: the same bytes on one machine, a draw elsewhere

            inputs
              pairs  what to learn (required)
              base   where to start (optional)

            with
              kl: number, default 0.0
                  Weight of the KL term.
              learning_rate: number, required
                  Learning rate.
              note: text, may be left out
                  Free name.
              penalty: table
                  Penalties.
              penalty.long: list of number, default []
                  For texts that are too long, by length.
              penalty.wrong: number, default 0.0
                  For a wrong verdict.
              reward: choice, default "label"
                  What is rewarded.
                  - label: The verdict alone.
                  - label-and-rationale: The verdict and its reason.
              seed: whole number from 0, default 0
                  Seed.
              steps: whole number from 0, required
                  Steps of the optimiser.

            outputs
              model  the weights (model)
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn an_open_kind_says_that_the_pipeline_names_its_ports() {
        expect![[r#"
            command@1  any program
            seeded: the same bytes on one machine, a draw elsewhere

            The pipeline names the inputs, and the outputs: outputs = { NAME = "FILE" }

            with
              argv: list of text, required
                  Program and arguments.
        "#]]
        .assert_eq(&kind(&registry(), "command@1").unwrap().text());
    }

    #[test]
    fn the_list_has_a_line_for_each_kind() {
        expect![[r#"
            command      any program
            data.make    makes rows
            model.train  trains
            stats.table  compares
        "#]]
        .assert_eq(&kinds_text(&registry()));
    }

    #[test]
    fn an_unknown_kind_names_the_nearest() {
        expect![[r#"
            error: unknown stage kind `model.trian`
            hint: did you mean `model.train`?
        "#]]
        .assert_eq(&kind(&registry(), "model.trian").unwrap_err().render());
    }

    #[test]
    fn the_page_is_data_too() {
        let json = serde_json::to_value(kind(&registry(), "data.make").unwrap()).unwrap();
        expect![[r#"
            [
              {
                "about": "How many rows.",
                "choices": [],
                "default": 10,
                "is": "whole number from 0",
                "name": "rows",
                "required": false
              },
              {
                "about": "Seed of the draw.",
                "choices": [],
                "default": 0,
                "is": "whole number from 0",
                "name": "seed",
                "required": false
              }
            ]"#]]
        .assert_eq(&serde_json::to_string_pretty(&json["parameters"]).unwrap());
    }
}
