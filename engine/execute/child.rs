//! The step's own process (`plumb __step`, `plumb-torch __step`): reads `step.json`, refuses what it was not built
//! for, runs the stage, and writes `exit.json` last. Never touches the cache: only a stage that asks a remote service does,
//! through the handle of `answers.rs`.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use plumb_cache::Digest;

use crate::canonical::{self, Value};
use crate::io::Io;
use crate::protocol::{ExitMarker, PROTOCOL, StepRequest};
use crate::stage::{Class, Kind, Registry, Runner, StageError};

/// The request, in the scratch folder.
pub const REQUEST: &str = "step.json";
/// The step's events, in the scratch folder.
pub const EVENTS: &str = "events.jsonl";
/// The step's own verdict, in the scratch folder.
pub const EXIT: &str = "exit.json";

/// Runs the step whose scratch folder this is, and says so in `exit.json`.
pub fn step_main(registry: &Registry, scratch: &Path) -> ExitCode {
    step_main_in(registry, scratch, BTreeMap::new())
}

/// The same, for a worker that has something to say about what it runs on (libtorch, device, CPU features).
pub fn step_main_in(registry: &Registry, scratch: &Path, environment: BTreeMap<String, String>) -> ExitCode {
    let verdict = run(registry, scratch);
    let marker = match &verdict {
        Ok(()) => ExitMarker { ok: true, error: None, hint: None, environment },
        Err(error) => {
            ExitMarker { ok: false, error: Some(error.message.clone()), hint: error.hint.clone(), environment }
        }
    };
    match write_marker(scratch, &marker) {
        Ok(()) if verdict.is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run(registry: &Registry, scratch: &Path) -> Result<(), StageError> {
    let request = read_request(&scratch.join(REQUEST))?;
    let runner = find(registry, &request)?;
    let StepRequest { params, inputs, outputs, state, manner, secrets, answers, .. } = request;
    let io = Io::new(inputs, outputs, state, manner, Some(&scratch.join(EVENTS)))?
        .with_secrets(secrets)
        .with_answers(answers);
    catch_unwind(AssertUnwindSafe(|| runner(params, &io))).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn read_request(path: &Path) -> Result<StepRequest, StageError> {
    let text = std::fs::read(path).map_err(|error| StageError::file("read", path, &error))?;
    let loose: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| StageError::file("read", path, &error))?;
    let protocol = loose.get("protocol").and_then(serde_json::Value::as_u64);
    if protocol != Some(u64::from(PROTOCOL)) {
        let theirs = protocol.map_or("no number".into(), |number| number.to_string());
        return Err(stale(format!("the runner speaks protocol {theirs}, this worker {PROTOCOL}")));
    }
    serde_json::from_value(loose).map_err(|error| StageError::file("read", path, &error))
}

fn find<'a>(registry: &'a Registry, request: &StepRequest) -> Result<&'a Runner, StageError> {
    let StepRequest { kind, version, declaration, .. } = request;
    let found = registry.find(kind).ok_or_else(|| stale(format!("this worker knows no kind `{kind}`")))?;
    let ours = found.declaration().version;
    if ours != *version {
        return Err(stale(format!("the runner asks for `{kind}@{version}`, this worker has `{kind}@{ours}`")));
    }
    if declaration_digest(found.as_ref()) != *declaration {
        return Err(stale(format!("this worker was built with another declaration of `{kind}@{version}`")));
    }
    found.runner().ok_or_else(|| stale(format!("this worker declares `{kind}` but cannot run it")))
}

fn stale(message: String) -> StageError {
    StageError::new(message).hint("the runner and its worker are of different builds: build both again")
}

fn panicked(panic: &(dyn Any + Send)) -> StageError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into());
    StageError::new(format!("this is a bug of the stage: it panicked: {text}"))
        .hint("please report it with the step's log, which says where")
}

fn write_marker(scratch: &Path, marker: &ExitMarker) -> std::io::Result<()> {
    let temporary = scratch.join(".exit.json.tmp");
    std::fs::write(&temporary, serde_json::to_vec(marker)?)?;
    std::fs::rename(&temporary, scratch.join(EXIT))
}

/// The digest of all that a declaration promises; prose is left out, so that a better sentence makes no worker stale.
pub fn declaration_digest(kind: &dyn Kind) -> String {
    let declaration = kind.declaration();
    let text = |text: &str| Value::Text(text.into());
    let inputs = declaration.inputs.iter().map(|input| {
        let flags = [input.required, input.gathers, input.mutable].map(Value::Bool);
        Value::List([vec![text(input.name)], flags.to_vec()].concat())
    });
    let outputs = declaration.outputs.iter().map(|output| {
        let class = Value::Bool(output.class == Class::Result);
        Value::List(vec![text(output.name), text(output.file), class])
    });
    let neutral = declaration.neutral.iter().map(|(name, value)| Value::List(vec![text(name), text(value)]));
    let schema = canonical::to_value(&kind.schema()).unwrap_or(Value::Null);
    let promise = Value::Map(BTreeMap::from([
        ("kind".into(), text(declaration.kind)),
        ("version".into(), Value::Int(declaration.version.into())),
        ("inputs".into(), Value::List(inputs.collect())),
        ("outputs".into(), Value::List(outputs.collect())),
        ("neutral".into(), Value::List(neutral.collect())),
        ("open".into(), Value::Bool(declaration.open)),
        ("schema".into(), without_prose(schema)),
    ]));
    Digest::of(promise.canonical().as_bytes()).to_string()
}

fn without_prose(value: Value) -> Value {
    match value {
        Value::Map(fields) => {
            let prose = |name: &str, value: &Value| {
                matches!(name, "description" | "title" | "$schema") && matches!(value, Value::Text(_))
            };
            let kept = fields.into_iter().filter(|(name, value)| !prose(name, value));
            Value::Map(kept.map(|(name, value)| (name, without_prose(value))).collect())
        }
        Value::List(values) => Value::List(values.into_iter().map(without_prose).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use expect_test::{Expect, expect};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::io::{InputPlace, Manner};
    use crate::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage};

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Params {
        mode: String,
    }

    struct Copy;
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    impl Declare for Copy {
        const KIND: &'static str = "test.copy";
        const VERSION: u32 = 2;
        const ABOUT: &'static str = "Copies";
        const DETERMINISM: Determinism = Determinism::Exact;
        const INPUTS: &'static [InputSpec] = &[InputSpec::required("from", "What")];
        const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("to", "to.txt", "The copy")];
        type Params = Params;
    }

    impl Stage for Copy {
        fn run(params: Params, io: &Io) -> Result<(), StageError> {
            RUNS.fetch_add(1, Ordering::SeqCst);
            match params.mode.as_str() {
                "panic" => panic!("index {} is out of range", 3),
                "fail" => Err(StageError::new("row 3 has no `chosen`").hint("set `with.on_bad_row`")),
                _ => {
                    io.progress(1, Some(1), "rows");
                    std::fs::copy(io.input("from")?, io.output("to")?)
                        .map(|_| ())
                        .map_err(|error| StageError::file("copy", Path::new("from"), &error))
                }
            }
        }
    }

    fn request(scratch: &Path, mode: &str) -> StepRequest {
        std::fs::write(scratch.join("from"), "text").unwrap();
        let registry = Registry::default().with::<Copy>();
        StepRequest {
            protocol: PROTOCOL,
            kind: "test.copy".into(),
            version: 2,
            declaration: declaration_digest(registry.find("test.copy").unwrap().as_ref()),
            step: "copy".into(),
            params: serde_json::json!({ "mode": mode }),
            inputs: BTreeMap::from([("from".into(), InputPlace::One(scratch.join("from")))]),
            outputs: BTreeMap::from([("to".into(), scratch.join("to"))]),
            state: scratch.to_path_buf(),
            manner: Manner::default(),
            secrets: Vec::new(),
            answers: None,
        }
    }

    fn verdict(scratch: &Path, request: &serde_json::Value) -> ExitMarker {
        std::fs::write(scratch.join(REQUEST), request.to_string()).unwrap();
        step_main(&Registry::default().with::<Copy>(), scratch);
        serde_json::from_slice(&std::fs::read(scratch.join(EXIT)).unwrap()).unwrap()
    }

    fn check(mode: &str, change: impl FnOnce(&mut serde_json::Value), expect: Expect) {
        let scratch = tempfile::tempdir().unwrap();
        let mut asked = serde_json::to_value(request(scratch.path(), mode)).unwrap();
        change(&mut asked);
        let marker = verdict(scratch.path(), &asked);
        assert_eq!(marker.ok, marker.error.is_none());
        let told = [marker.error, marker.hint].map(|text| text.unwrap_or_else(|| "-".into()));
        expect.assert_eq(&told.join("\n"));
    }

    #[test]
    fn a_step_writes_its_output_its_events_and_then_its_verdict() {
        let scratch = tempfile::tempdir().unwrap();
        let asked = serde_json::to_value(request(scratch.path(), "copy")).unwrap();
        assert!(verdict(scratch.path(), &asked).ok);
        assert_eq!(std::fs::read_to_string(scratch.path().join("to")).unwrap(), "text");
        let events = std::fs::read_to_string(scratch.path().join(EVENTS)).unwrap();
        expect![[r#"{"event":"progress","done":1,"total":1,"unit":"rows"}"#]].assert_eq(events.trim_end());
    }

    #[test]
    fn a_failed_stage_and_a_panic_are_told_in_the_exit_marker() {
        check(
            "fail",
            |_| {},
            expect![[r#"
            row 3 has no `chosen`
            set `with.on_bad_row`"#]],
        );
        check(
            "panic",
            |_| {},
            expect![[r#"
            this is a bug of the stage: it panicked: index 3 is out of range
            please report it with the step's log, which says where"#]],
        );
    }

    #[test]
    fn a_worker_of_another_build_refuses_and_runs_nothing() {
        let hint = "the runner and its worker are of different builds: build both again";
        let refused: [(&str, serde_json::Value, &str); 4] = [
            ("protocol", 99.into(), "the runner speaks protocol 99, this worker 1"),
            ("version", 3.into(), "the runner asks for `test.copy@3`, this worker has `test.copy@2`"),
            ("declaration", "0".into(), "this worker was built with another declaration of `test.copy@2`"),
            ("kind", "test.other".into(), "this worker knows no kind `test.other`"),
        ];
        for (field, value, error) in refused {
            let scratch = tempfile::tempdir().unwrap();
            let mut asked = serde_json::to_value(request(scratch.path(), "copy")).unwrap();
            asked[field] = value;
            let marker = verdict(scratch.path(), &asked);
            assert_eq!((marker.error.as_deref(), marker.hint.as_deref()), (Some(error), Some(hint)));
            assert!(!scratch.path().join("to").exists());
        }
    }
}
