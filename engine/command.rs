//! The kind `command`: any program as a stage. What the program can see is what the key covers: its arguments, the
//! listed files (copied into its working folder under their own names), a closed environment and the probes'
//! output. Never a shell, never the caller's environment.
//!
//! The runner starts the program itself (no worker in between), so a trivial step costs little more than a `fork`.

mod word;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, Value};
use crate::stage::{
    Declaration, Determinism, Kind, Observes, ParamError, Places, Problem, Program, Runner, StageError, Worker,
};

/// Parameters of `command`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments. `{in:NAME}`, `{out:NAME}` and `{state}` become paths when the step runs; for
    /// a gathered input the path is that of a JSON table of the branches. `{{state}}` stands for the text `{state}`.
    /// A number or a truth is passed as written.
    #[serde(deserialize_with = "word::list")]
    pub argv: Vec<String>,
    /// Files and folders of the pipeline's folder that the program reads, such as its script. Their contents are
    /// in the key, and the working folder holds a copy of them and nothing else.
    #[serde(default)]
    pub files: Vec<String>,
    /// The program's environment. Beside it only `PATH` and `HOME` are passed on.
    #[serde(default, deserialize_with = "word::table")]
    pub env: BTreeMap<String, String>,
    /// Programs whose output is in the key, such as `["pip", "freeze"]`: an upgraded library is not a stale hit.
    #[serde(default)]
    pub probe: Vec<Vec<String>>,
}

/// The kind `command`.
#[derive(Debug)]
pub struct Command {
    declaration: Declaration,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            declaration: Declaration {
                kind: "command",
                version: 1,
                about: "Runs any program; the pipeline names its inputs and outputs",
                determinism: Determinism::Seeded,
                inputs: &[],
                outputs: &[],
                worker: Worker::Own,
                neutral: &[],
                open: true,
            },
        }
    }
}

impl Kind for Command {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn type_params(&self, with: toml::Spanned<toml::de::DeTable<'_>>) -> Result<Value, Vec<ParamError>> {
        let whole = |message: String| vec![ParamError { message, span: None, field: None }];
        let params = Params::deserialize(toml::de::Deserializer::from(with))
            .map_err(|error| vec![ParamError { message: error.message().into(), span: error.span(), field: None }])?;
        let problems = params.problems();
        if problems.is_empty() {
            return canonical::to_value(&params).map_err(|error| whole(error.to_string()));
        }
        let told = |Problem { field, message }| ParamError { message, span: None, field: Some(field) };
        Err(problems.into_iter().map(told).collect())
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(Params)
    }

    fn runner(&self) -> Option<&Runner> {
        None
    }

    fn observes(&self, params: &Value) -> Observes {
        // Most steps observe nothing, and a graph may have ten thousand: typing is for those that do.
        if is_empty(params, "files") && is_empty(params, "probe") {
            return Observes::default();
        }
        let Ok(Params { files, env, probe, .. }) = read(params) else { return Observes::default() };
        Observes { files, probes: probe, env }
    }

    fn program(&self, params: &Value, places: Places<'_>) -> Option<Result<Program, StageError>> {
        Some(read(params).and_then(|params| params.resolve(places)))
    }

    fn check_names(&self, params: &Value, inputs: &[&str], outputs: &[&str]) -> Vec<Problem> {
        let known = |hole: &str| match hole.split_once(':') {
            Some(("in", name)) => inputs.contains(&name),
            Some(("out", name)) => outputs.contains(&name),
            _ => hole == "state",
        };
        let mut problems = Vec::new();
        texts(params, |field, text| {
            if let Err(message) = fill(text, |hole| known(hole).then(String::new)) {
                problems.push(Problem::new(field.name(), message));
            }
        });
        problems
    }
}

/// A parameter that may hold placeholders.
#[derive(Clone, Copy)]
enum Field<'p> {
    Argument(usize),
    Variable(&'p str),
}

impl Field<'_> {
    fn name(self) -> String {
        match self {
            Field::Argument(index) => format!("argv[{index}]"),
            Field::Variable(name) => format!("env.{name}"),
        }
    }
}

/// Every text that may hold placeholders. Not typed first: a graph may have ten thousand steps.
fn texts<'p>(params: &'p Value, mut visit: impl FnMut(Field<'p>, &'p str)) {
    let Value::Map(fields) = params else { return };
    if let Some(Value::List(arguments)) = fields.get("argv") {
        for (index, argument) in arguments.iter().enumerate() {
            if let Value::Text(text) = argument {
                visit(Field::Argument(index), text);
            }
        }
    }
    if let Some(Value::Map(variables)) = fields.get("env") {
        for (name, value) in variables {
            if let Value::Text(text) = value {
                visit(Field::Variable(name), text);
            }
        }
    }
}

impl Params {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.argv.first().is_none_or(String::is_empty) {
            problems.push(Problem::new("argv", "expected a program and its arguments, found nothing"));
        }
        for (index, probe) in self.probe.iter().enumerate() {
            if probe.first().is_none_or(String::is_empty) {
                problems.push(Problem::new(format!("probe[{index}]"), "expected a program, found nothing"));
            }
        }
        for (index, file) in self.files.iter().enumerate() {
            if !inside(Path::new(file)) {
                let message = format!("`{file}` is not inside the pipeline's folder; make it a `[source]` instead");
                problems.push(Problem::new(format!("files[{index}]"), message));
            }
        }
        problems
    }

    fn resolve(&self, places: Places<'_>) -> Result<Program, StageError> {
        let place = |hole: &str| match hole.split_once(':') {
            Some(("in", name)) => places.inputs.get(name).map(|path| path.display().to_string()),
            Some(("out", name)) => places.outputs.get(name).map(|path| path.display().to_string()),
            _ => (hole == "state").then(|| places.state.display().to_string()),
        };
        let argv = self.argv.iter().map(|text| fill(text, place)).collect::<Result<_, String>>();
        let filled = |(name, text): (&String, &String)| Ok((name.clone(), fill(text, place)?));
        let env = self.env.iter().map(filled).collect::<Result<_, String>>();
        Ok(Program { argv: argv.map_err(StageError::new)?, env: env.map_err(StageError::new)? })
    }
}

fn read(params: &Value) -> Result<Params, StageError> {
    serde_json::from_value(params.to_json())
        .map_err(|error| StageError::new(format!("parameters of this step do not type: {error}")))
}

fn is_empty(params: &Value, list: &str) -> bool {
    matches!(params, Value::Map(fields) if matches!(fields.get(list), Some(Value::List(values)) if values.is_empty()))
}

fn inside(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Replaces each `{in:…}`, `{out:…}` and `{state}`. Any other brace stands for itself, so that JSON and shell
/// functions need no escapes; `{{state}}` is for who wants the text `{state}`.
fn fill(text: &str, place: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..];
        if let Some(hole) = hole(brace) {
            let path = place(hole).ok_or_else(|| format!("`{{{hole}}}` names nothing of this step"))?;
            filled.push_str(&path);
            rest = &brace[hole.len() + 2..];
        } else if let Some(hole) = escaped(brace) {
            filled.push_str(&brace[1..hole.len() + 3]);
            rest = &brace[hole.len() + 4..];
        } else {
            filled.push('{');
            rest = &brace[1..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The name inside a leading placeholder with doubled braces.
fn escaped(text: &str) -> Option<&str> {
    let hole = hole(text.strip_prefix('{')?)?;
    text[hole.len() + 3..].starts_with('}').then_some(hole)
}

/// The name inside a leading placeholder.
fn hole(text: &str) -> Option<&str> {
    let (hole, _) = text.strip_prefix('{')?.split_once('}')?;
    (hole == "state" || hole.starts_with("in:") || hole.starts_with("out:")).then_some(hole)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn typed(text: &str) -> Result<Value, Vec<ParamError>> {
        let table = toml::de::DeTable::parse(text).unwrap();
        Command::default().type_params(table)
    }

    fn check_errors(text: &str, expect: Expect) {
        let errors = typed(text).unwrap_err();
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field.as_deref().unwrap_or("-"), error.message))
            .collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn wrong_parameters_are_told_with_their_fields() {
        check_errors(
            "argv = []\nfiles = [\"../x\", \"/y\"]\nprobe = [[]]",
            expect![[r#"
            argv: expected a program and its arguments, found nothing
            probe[0]: expected a program, found nothing
            files[0]: `../x` is not inside the pipeline's folder; make it a `[source]` instead
            files[1]: `/y` is not inside the pipeline's folder; make it a `[source]` instead"#]],
        );
        check_errors(
            "argv = [\"true\"]\nargs = 1",
            expect!["-: unknown field `args`, expected one of `argv`, `files`, `env`, `probe`"],
        );
    }

    #[test]
    fn scalars_are_passed_as_the_file_writes_them() {
        let params = typed("argv = [\"p\", 3, 0.0, 1e-5, true]\nenv = { N = 7 }").unwrap();
        let Params { argv, env, .. } = read(&params).unwrap();
        assert_eq!(argv, ["p", "3", "0.0", "1e-5", "true"]);
        assert_eq!(env["N"], "7");
        check_errors("argv = [[\"p\"]]", expect!["-: invalid type: sequence, expected text, a number, true or false"]);
    }

    fn check_fill(text: &str, expect: Expect) {
        let place = |hole: &str| (hole != "in:nobody").then(|| format!("/{}", hole.replace(':', "/")));
        let told = fill(text, place).unwrap_or_else(|error| format!("error: {error}"));
        expect.assert_eq(&told);
    }

    #[test]
    fn placeholders_become_paths_and_other_braces_stay() {
        check_fill("--from={in:pairs} --to {out:table}{state}", expect!["--from=/in/pairs --to /out/table/state"]);
        check_fill(r#"{"json": {"a": 1}} awk '{print $1}'"#, expect![[r#"{"json": {"a": 1}} awk '{print $1}'"#]]);
        check_fill("{in:nobody}", expect!["error: `{in:nobody}` names nothing of this step"]);
        check_fill("{open {{state}} {{in:x}", expect!["{open {state} {/in/x"]);
    }

    #[test]
    fn a_placeholder_that_names_nothing_is_found_before_the_step_runs() {
        let params = typed("argv = [\"cp\", \"{in:a}\", \"{out:c}\"]\nenv = { X = \"{in:b}\" }").unwrap();
        let problems = Command::default().check_names(&params, &["a"], &["b"]);
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["argv[2]", "env.X"]);
    }
}
