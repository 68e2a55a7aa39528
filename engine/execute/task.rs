//! One attempt at one step, from the scratch folder to the published record. Blocks its thread. A failed attempt
//! publishes nothing; outputs are collected only if the step ended well and every declared one is there.

mod launch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionRecord, Artifact, CacheError, Claim, Cost, Publication, RECORD_FORMAT, RecordedOutput, Store};

use super::bring;
use super::executor::{Ending, Executor, Launch};
use super::keeper::{self, KeptStep};
use super::place::{self, Origin, Wanted};
use super::secrets::Secrets;
use super::stop::Stop;
use super::verdict::{Ended, Verdict, log_length};
use crate::canonical::Value;
use crate::clock::{self, Stopwatch};
use crate::courier::Courier;
use crate::error::EngineError;
use crate::graph::Output;
use crate::maker;
use crate::protocol::StepEvent;
use crate::settings::{RetryCause, RunSettings};
use crate::source::{Local, Tell};
use crate::stage::{Class, Kind, StageError};

/// Everything one attempt needs.
pub(super) struct Task {
    pub(super) kind: Arc<dyn Kind>,
    pub(super) params: Value,
    pub(super) outputs: Vec<Output>,
    pub(super) run: RunSettings,
    pub(super) inputs: BTreeMap<String, Wanted>,
    /// Results that it reads and that lie in layers.
    pub(super) offered: Vec<Arc<ActionRecord>>,
    /// Listed files: name, place, digest in the key.
    pub(super) files: Vec<(String, PathBuf, Artifact)>,
    /// The record without outputs, cost and environment.
    pub(super) draft: ActionRecord,
    /// Whether the result shall be preferred to an earlier one (`--fresh`).
    pub(super) fresh: bool,
    /// As `CUDA_VISIBLE_DEVICES` names them.
    pub(super) gpus: Vec<String>,
    /// Where relative files of secrets start from.
    pub(super) pipeline_folder: PathBuf,
    pub(super) log: PathBuf,
    /// The program that runs kinds of the house itself.
    pub(super) own_program: PathBuf,
    /// Whether the step outlives this process.
    pub(super) detached: bool,
    /// Who sends the result to a layer.
    pub(super) courier: Option<Courier>,
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
    /// Of its program; nothing where none ran.
    pub(super) cost: Cost,
}

impl Failure {
    pub(super) fn new(error: StageError, cause: RetryCause) -> Self {
        Self {
            error: error.message,
            hint: error.hint,
            cause,
            stopped: false,
            took: Duration::ZERO,
            cost: Cost::default(),
        }
    }

    /// The same, as what the user asked for.
    pub(super) fn by_the_user(self) -> Self {
        Self { stopped: true, ..self }
    }
}

pub(super) enum Trouble {
    Failed(Failure),
    Engine(EngineError),
}

impl Trouble {
    fn after(self, ending: &Ending) -> Self {
        match self {
            Trouble::Failed(failure) => Trouble::Failed(Failure { cost: cost(ending), ..failure }),
            Trouble::Engine(error) => Trouble::Engine(error),
        }
    }
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
        tell: Tell<'_>,
    ) -> Outcome {
        let watch = Stopwatch::start();
        let result = self.bring_inputs(store, tell).and_then(|()| self.attempt(store, executor, stop, told));
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
        let folder = keeper::folder(&state);
        let publish = |record| self.publish(store, record);
        let record = match KeptStep::find(&folder)? {
            Some(step) => {
                self.attach(&step, told);
                self.follow_kept(store, step, &folder, stop, told)
            }
            None if self.detached => {
                fs::create_dir(&folder).map_err(EngineError::io("make the folder", &folder))?;
                let launch = self.lay_out(store, &folder, &state)?;
                let step = KeptStep::start(&folder, launch, &self.own_program)?;
                self.follow_kept(store, step, &folder, stop, told)
            }
            None => self.execute(store, executor, stop, told, &state, publish),
        }?;
        // What is left of it is only disk space, which `cache gc` finds too.
        let _ = fs::remove_dir_all(&state);
        Ok(record)
    }

    /// An input that its layer has lost is gone like any other.
    fn bring_inputs(&self, store: &Store, tell: Tell<'_>) -> Result<(), Trouble> {
        for record in &self.offered {
            match bring::input(store, record, tell) {
                Ok(true) => {}
                Ok(false) => return Err(CacheError::Missing { digest: record.result_digest() }.into()),
                Err(EngineError::Cache(error @ CacheError::Stopped)) => {
                    let failure = Failure::new(StageError::new(error.to_string()), RetryCause::Failed);
                    return Err(Trouble::Failed(failure.by_the_user()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Runs it with nothing from before, and publishes nothing.
    pub(super) fn aside(self, store: &Store, executor: &dyn Executor, stop: &Stop) -> Aside {
        let made = store.scratch_folder().map_err(Trouble::from).and_then(|state| {
            let quiet = &mut |_| {};
            self.execute(store, executor, stop, quiet, state.path(), Ok)
        });
        match made {
            Ok(record) => Aside::Made(Box::new(record)),
            Err(Trouble::Failed(Failure { error, hint, .. })) => Aside::Failed { error, hint },
            Err(Trouble::Engine(error)) => Aside::Broken(error),
        }
    }

    /// From a scratch folder of this process to what came of it.
    fn execute(
        &self,
        store: &Store,
        executor: &dyn Executor,
        stop: &Stop,
        told: &mut dyn FnMut(StepEvent),
        state: &Path,
        publish: impl FnOnce(ActionRecord) -> Result<ActionRecord, Trouble>,
    ) -> Result<ActionRecord, Trouble> {
        let scratch = store.scratch_folder()?;
        let launch = self.lay_out(store, scratch.path(), state)?;
        let before = log_length(&launch);
        let ending = executor.run(&launch, stop, told);
        self.conclude(store, scratch.path(), &Ended { launch: &launch, ending: &ending, before }, publish)
    }

    /// The step was started by a run that is gone. Its log goes on in this run's; where that cannot be, the old one
    /// still has it.
    fn attach(&self, step: &KeptStep, told: &mut dyn FnMut(StepEvent)) {
        let _ = fs::hard_link(&step.launch().log, &self.log);
        told(StepEvent::Attached { process: step.process() });
    }

    fn follow_kept(
        &self,
        store: &Store,
        step: KeptStep,
        folder: &Path,
        stop: &Stop,
        told: &mut dyn FnMut(StepEvent),
    ) -> Result<ActionRecord, Trouble> {
        let launch =
            Launch { secrets: Secrets::read(&self.run.secrets, &self.pipeline_folder)?, ..step.launch().clone() };
        let ending = step.follow(stop, told);
        let ended = Ended { launch: &launch, ending: &ending, before: 0 };
        let concluded = self.conclude(store, folder, &ended, |record| self.publish(store, record));
        // Whatever came of it: what is left is only disk space.
        let _ = fs::remove_dir_all(folder);
        concluded
    }

    /// What came of a program that has ended: its record once its outputs are stored, or why not.
    fn conclude(
        &self,
        store: &Store,
        scratch: &Path,
        ended: &Ended<'_>,
        publish: impl FnOnce(ActionRecord) -> Result<ActionRecord, Trouble>,
    ) -> Result<ActionRecord, Trouble> {
        self.concluded(store, scratch, ended, publish).map_err(|trouble| trouble.after(ended.ending))
    }

    fn concluded(
        &self,
        store: &Store,
        scratch: &Path,
        ended: &Ended<'_>,
        publish: impl FnOnce(ActionRecord) -> Result<ActionRecord, Trouble>,
    ) -> Result<ActionRecord, Trouble> {
        let environment = Verdict { task: self, ended }.of(scratch)?;
        if let Some(name) = place::changed(store, self.outside())? {
            let error = StageError::new(format!("`{name}` changed while the step ran, so its result is not kept"));
            return Err(error.hint("run again once nothing writes to it").into());
        }
        // No collector comes between the blobs and the record that names them.
        let _hold = store.hold()?;
        let collected = self.collect(store, &self.output_places(scratch)?)?;
        publish(self.record(collected, environment, ended.ending))
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
        if !self.gpus.is_empty() {
            environment.insert("gpus".into(), self.gpus.len().to_string());
        }
        if !self.run.secrets.is_empty() {
            let names: Vec<&str> = self.run.secrets.iter().map(|secret| secret.name.as_str()).collect();
            environment.insert("secrets".into(), names.join(", "));
        }
        let (format, cost) = (RECORD_FORMAT, cost(ending));
        ActionRecord { format, outputs, cost, environment, made_at: clock::now(), ..self.draft.clone() }
    }

    fn publish(&self, store: &Store, record: ActionRecord) -> Result<ActionRecord, Trouble> {
        // Before it is published, so that no death in between forgets to send it.
        self.courier.as_ref().map_or(Ok(()), |courier| courier.post(store, &record))?;
        let publication = if self.fresh { store.publish_fresh(&record) } else { store.publish(&record) };
        self.courier.iter().for_each(Courier::hurry);
        if matches!(publication, Ok(Publication::New | Publication::Same)) {
            store.confirm(&record)?;
        }
        // Another runner was faster with another result: the first one counts, for us too.
        if publication? == Publication::Witness
            && let Some(first) = store.action(&record.action)?
        {
            return Ok(ActionRecord { outputs: first.outputs, cost: first.cost, ..record });
        }
        Ok(record)
    }
}

fn cost(ending: &Ending) -> Cost {
    Cost {
        wall_seconds: ending.wall.as_secs_f64(),
        cpu_seconds: ending.cpu.as_secs_f64(),
        peak_memory_bytes: ending.peak_memory_bytes,
    }
}
