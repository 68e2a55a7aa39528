//! One attempt at one step, from the scratch folder to the published record. Blocks its thread. A failed attempt
//! publishes nothing; outputs are collected only if the step ended well and every declared one is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionRecord, Artifact, CacheError, Claim, Cost, Publication, RECORD_FORMAT, RecordedOutput, Store};

use super::child::{self, declaration_digest};
use super::executor::{Ending, Environment, Executor, How, Launch};
use super::place::{self, Layout, Origin, Wanted};
use super::stop::Stop;
use super::worker;
use crate::canonical::Value;
use crate::clock::{self, Stopwatch};
use crate::error::EngineError;
use crate::graph::Output;
use crate::io::InputPlace;
use crate::maker;
use crate::protocol::{ExitMarker, PROTOCOL, StepEvent, StepRequest};
use crate::settings::{RetryCause, RunSettings};
use crate::source::Local;
use crate::stage::{Class, Kind, Places, StageError};

/// Everything one attempt needs.
pub(super) struct Task {
    pub(super) kind: Arc<dyn Kind>,
    pub(super) params: Value,
    pub(super) outputs: Vec<Output>,
    pub(super) run: RunSettings,
    pub(super) inputs: BTreeMap<String, Wanted>,
    /// Listed files: name, place, digest in the key.
    pub(super) files: Vec<(String, PathBuf, Artifact)>,
    /// The record without outputs, cost and environment.
    pub(super) draft: ActionRecord,
    /// Whether the result shall be preferred to an earlier one (`--fresh`).
    pub(super) fresh: bool,
    pub(super) gpus: Vec<u32>,
    pub(super) log: PathBuf,
    /// The program that runs kinds of the house itself.
    pub(super) own_program: PathBuf,
    /// Let go once the record is published; a step that runs aside has none.
    pub(super) claim: Option<Claim>,
}

/// What became of an attempt.
pub(super) enum Outcome {
    /// The record is published.
    Made(Box<ActionRecord>, Duration),
    /// The bytes of an input are gone or damaged: its producer has to run first.
    InputGone,
    /// It failed.
    Failed(Failure),
    /// The cache or the engine cannot go on.
    Broken(EngineError),
}

/// What became of a step that ran aside.
pub(super) enum Aside {
    /// What it made; nothing is published.
    Made(Box<ActionRecord>),
    /// It failed.
    Failed { error: String, hint: Option<String> },
    /// The cache or the engine cannot go on.
    Broken(EngineError),
}

/// Why an attempt failed.
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) hint: Option<String>,
    pub(super) cause: RetryCause,
    /// The user stopped it: no failure of the step.
    pub(super) stopped: bool,
    pub(super) took: Duration,
}

impl Failure {
    fn new(error: StageError, cause: RetryCause) -> Self {
        Self { error: error.message, hint: error.hint, cause, stopped: false, took: Duration::ZERO }
    }
}

enum Trouble {
    Failed(Failure),
    Engine(EngineError),
}

impl From<StageError> for Trouble {
    fn from(error: StageError) -> Self {
        Trouble::Failed(Failure::new(error, RetryCause::Failed))
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Trouble::Engine(error)
    }
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        Trouble::Engine(error.into())
    }
}

impl Task {
    /// Makes the attempt.
    pub(super) fn perform(
        self,
        store: &Store,
        executor: &dyn Executor,
        stop: &Stop,
        told: &mut dyn FnMut(StepEvent),
    ) -> Outcome {
        let watch = Stopwatch::start();
        let result = self.attempt(store, executor, stop, told);
        drop(self.claim);
        match result {
            Ok(record) => Outcome::Made(Box::new(record), watch.elapsed()),
            Err(Trouble::Failed(failure)) => Outcome::Failed(Failure { took: watch.elapsed(), ..failure }),
            Err(Trouble::Engine(EngineError::Cache(error))) if error.is_miss() => Outcome::InputGone,
            Err(Trouble::Engine(error)) => Outcome::Broken(error),
        }
    }

    fn attempt(
        &self,
        store: &Store,
        executor: &dyn Executor,
        stop: &Stop,
        told: &mut dyn FnMut(StepEvent),
    ) -> Result<ActionRecord, Trouble> {
        let state = store.state_folder(&self.draft.action)?;
        let made = self.execute(store, executor, stop, told, &state)?;
        let record = self.publish(store, made)?;
        // What is left of it is only disk space, which `cache gc` finds too.
        let _ = fs::remove_dir_all(&state);
        Ok(record)
    }

    /// Runs it with nothing from before, and publishes nothing.
    pub(super) fn aside(self, store: &Store, executor: &dyn Executor, stop: &Stop) -> Aside {
        let made = store.scratch_folder().map_err(Trouble::from).and_then(|state| {
            let quiet = &mut |_| {};
            self.execute(store, executor, stop, quiet, state.path())
        });
        match made {
            Ok(record) => Aside::Made(Box::new(record)),
            Err(Trouble::Failed(Failure { error, hint, .. })) => Aside::Failed { error, hint },
            Err(Trouble::Engine(error)) => Aside::Broken(error),
        }
    }

    /// From the scratch folder to the stored outputs. The record is nobody's yet.
    fn execute(
        &self,
        store: &Store,
        executor: &dyn Executor,
        stop: &Stop,
        told: &mut dyn FnMut(StepEvent),
        state: &Path,
    ) -> Result<ActionRecord, Trouble> {
        let scratch = store.scratch_folder()?;
        let scratch = scratch.path();
        let outputs = self.output_places(scratch)?;
        let inputs = Layout { store, scratch, kind: self.kind.as_ref() }.inputs(&self.inputs)?;
        let launch = self.launch(scratch, inputs, &outputs, state)?;
        let ending = executor.run(&launch, stop, told);
        let environment = self.verdict(scratch, &ending)?;
        if let Some(name) = place::changed(store, self.outside())? {
            let error = StageError::new(format!("`{name}` changed while the step ran, so its result is not kept"));
            return Err(error.hint("run again once nothing writes to it").into());
        }
        // No collector comes between the blobs and the record that names them.
        let _hold = store.hold()?;
        let collected = self.collect(store, &outputs)?;
        Ok(self.record(collected, environment, &ending))
    }

    fn output_places(&self, scratch: &Path) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        let folder = scratch.join("outputs");
        fs::create_dir(&folder).map_err(EngineError::io("make the folder", &folder))?;
        let mut places = BTreeMap::new();
        for output in &self.outputs {
            let path = folder.join(&output.file);
            if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
                fs::create_dir_all(parent).map_err(EngineError::io("make the folder", parent))?;
            }
            places.insert(output.name.clone(), path);
        }
        Ok(places)
    }

    fn launch(
        &self,
        scratch: &Path,
        inputs: BTreeMap<String, InputPlace>,
        outputs: &BTreeMap<String, PathBuf>,
        state: &Path,
    ) -> Result<Launch, Trouble> {
        let mut launch = Launch {
            program: "".into(),
            arguments: Vec::new(),
            folder: scratch.to_owned(),
            environment: Environment::Inherited,
            gpus: (self.run.gpu > 0).then(|| self.gpus.clone()),
            log: self.log.clone(),
            events: scratch.join(child::EVENTS),
            time: self.run.time,
        };
        let paths = place::paths_for_program(&inputs, scratch);
        if let Some(program) = self.kind.program(&self.params, Places { inputs: &paths?, outputs, state }) {
            let program = program?;
            let mut argv = program.argv.into_iter().map(Into::into);
            launch.folder = self.work_folder(scratch)?;
            launch.program = argv.next().ok_or_else(|| StageError::new("`with.argv` names no program"))?;
            launch.arguments = argv.collect();
            launch.environment = Environment::Closed(program.env);
            return Ok(launch);
        }
        launch.program = worker::find(self.kind.declaration().worker, &self.own_program)?.into();
        launch.arguments = vec!["__step".into(), scratch.into()];
        self.write_request(scratch, inputs, outputs, state)?;
        Ok(launch)
    }

    fn work_folder(&self, scratch: &Path) -> Result<PathBuf, EngineError> {
        let work = scratch.join("work");
        fs::create_dir(&work).map_err(EngineError::io("make the folder", &work))?;
        for (name, path, _) in &self.files {
            place::copy(path, &work.join(name))?;
        }
        Ok(work)
    }

    fn write_request(
        &self,
        scratch: &Path,
        inputs: BTreeMap<String, InputPlace>,
        outputs: &BTreeMap<String, PathBuf>,
        state: &Path,
    ) -> Result<(), EngineError> {
        let declaration = self.kind.declaration();
        let request = StepRequest {
            protocol: PROTOCOL,
            kind: declaration.kind.into(),
            version: declaration.version,
            declaration: declaration_digest(self.kind.as_ref()),
            step: self.draft.step.clone(),
            params: self.params.to_json(),
            inputs,
            outputs: outputs.clone(),
            state: state.to_owned(),
            manner: self.run.manner.clone(),
        };
        let path = scratch.join(child::REQUEST);
        let text = serde_json::to_vec(&request).map_err(|error| EngineError::Bug(error.to_string()))?;
        fs::write(&path, text).map_err(EngineError::io("write", &path))
    }

    /// The worker's environment if the step ended well.
    fn verdict(&self, scratch: &Path, ending: &Ending) -> Result<BTreeMap<String, String>, Trouble> {
        let marker = fs::read(scratch.join(child::EXIT)).ok();
        let marker = marker.and_then(|text| serde_json::from_slice::<ExitMarker>(&text).ok());
        let failed = |error: StageError, cause| Err(Trouble::Failed(Failure::new(error, cause)));
        match (&ending.how, marker) {
            (How::Exited(0), None) if self.kind.declaration().open => Ok(BTreeMap::new()),
            (How::Exited(0), Some(ExitMarker { ok: true, environment, .. })) => Ok(environment),
            (How::Exited(_), Some(ExitMarker { error: Some(error), hint, .. })) => {
                let cause = if is_out_of_memory(&error) { RetryCause::Oom } else { RetryCause::Failed };
                failed(StageError { message: error, hint }, cause)
            }
            (How::Exited(status @ (126 | 127)), _) if self.kind.declaration().open => {
                let error =
                    StageError::new(format!("the program exited with status {status}: a command was not found"));
                let seen = "only `PATH` and `HOME` are passed on, and the working folder holds only `with.files`";
                failed(error.hint(seen), RetryCause::Failed)
            }
            (How::Exited(status), _) => {
                let cause = if *status == 137 { RetryCause::Oom } else { RetryCause::Failed };
                failed(StageError::new(format!("the program exited with status {status}")), cause)
            }
            (How::Signalled(9), _) => {
                let error = StageError::new("the program was killed (signal 9), perhaps for want of memory");
                failed(error, RetryCause::Oom)
            }
            (How::Signalled(signal), _) => {
                let cause = if *signal == 15 { RetryCause::Preempted } else { RetryCause::Failed };
                failed(StageError::new(format!("the program died of signal {signal}")), cause)
            }
            (How::TimedOut, _) => {
                let limit = self.run.time.unwrap_or_default().as_secs();
                let error = StageError::new(format!("the step ran past its time of {limit} s"));
                failed(error.hint("raise `run.time`"), RetryCause::Timeout)
            }
            (How::Stopped, _) => {
                let failure = Failure::new(StageError::new("stopped"), RetryCause::Failed);
                Err(Trouble::Failed(Failure { stopped: true, ..failure }))
            }
            (How::NotStarted(why), _) => failed(StageError::new(why.clone()), RetryCause::Failed),
        }
    }

    /// What came from outside the cache: name, place, digest in the key.
    fn outside(&self) -> impl Iterator<Item = (&str, Local, &Artifact)> {
        let origins = self.inputs.values().flat_map(|wanted| match wanted {
            Wanted::One(origin) => vec![origin],
            Wanted::Gathered(branches) => branches.iter().filter_map(|(_, origin)| origin.as_ref()).collect(),
        });
        let sources = origins.filter_map(|origin| match origin {
            Origin::Source { name, local, artifact } => Some((name.as_str(), local.clone(), artifact)),
            Origin::Cache(_) => None,
        });
        sources
            .chain(self.files.iter().map(|(name, path, artifact)| (name.as_str(), Local::At(path.clone()), artifact)))
    }

    fn collect(
        &self,
        store: &Store,
        places: &BTreeMap<String, PathBuf>,
    ) -> Result<BTreeMap<String, RecordedOutput>, Trouble> {
        for Output { name, file, .. } in &self.outputs {
            if !places[name].exists() {
                let error = format!("the step ended well but did not write its output `{name}` (`{file}`)");
                return Err(StageError::new(error).into());
            }
        }
        let mut collected = BTreeMap::new();
        for Output { name, file, class } in &self.outputs {
            let artifact = store.ingest(&places[name]).map_err(|error| match error {
                CacheError::BadTree { .. } => Trouble::from(StageError {
                    message: format!("the output `{name}` cannot be kept: {error}"),
                    hint: error.hint(),
                }),
                error => error.into(),
            })?;
            let diagnostic = *class == Class::Diagnostic;
            collected.insert(name.clone(), RecordedOutput { artifact, file: file.clone(), diagnostic });
        }
        Ok(collected)
    }

    fn record(
        &self,
        outputs: BTreeMap<String, RecordedOutput>,
        worker: BTreeMap<String, String>,
        ending: &Ending,
    ) -> ActionRecord {
        let mut environment = worker;
        environment.insert("os".into(), std::env::consts::OS.into());
        environment.insert("arch".into(), std::env::consts::ARCH.into());
        environment.insert("plumb".into(), env!("CARGO_PKG_VERSION").into());
        environment.insert("host".into(), maker::host());
        environment.insert("resources".into(), self.run.resources());
        let cost = Cost {
            wall_seconds: ending.wall.as_secs_f64(),
            cpu_seconds: ending.cpu.as_secs_f64(),
            peak_memory_bytes: ending.peak_memory_bytes,
        };
        let format = RECORD_FORMAT;
        ActionRecord { format, outputs, cost, environment, made_at: clock::now(), ..self.draft.clone() }
    }

    fn publish(&self, store: &Store, record: ActionRecord) -> Result<ActionRecord, Trouble> {
        let publication = if self.fresh { store.publish_fresh(&record) } else { store.publish(&record) };
        // Another runner was faster with another result: the first one counts, for us too.
        if publication? == Publication::Witness
            && let Some(first) = store.action(&record.action)?
        {
            return Ok(ActionRecord { outputs: first.outputs, cost: first.cost, ..record });
        }
        Ok(record)
    }
}

fn is_out_of_memory(error: &str) -> bool {
    error.to_lowercase().contains("out of memory")
}
