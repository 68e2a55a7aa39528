//! The way to a step's program: inputs and outputs in a scratch folder, and what is to run there. Starts nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use plumb_cache::Store;

use super::{Task, Trouble};
use crate::answers::Handle;
use crate::error::EngineError;
use crate::execute::child::{self, declaration_digest};
use crate::execute::executor::{Environment, Launch};
use crate::execute::place::{self, Layout};
use crate::execute::sandbox::{self, Inside};
use crate::execute::secrets::Secrets;
use crate::execute::worker;
use crate::io::InputPlace;
use crate::maker;
use crate::protocol::{PROTOCOL, StepRequest};
use crate::stage::{Places, Program, StageError};

/// The variable that names the state folder to a user's program.
const STATE: &str = "PLUMB_STATE";
/// The variable that names the file to which a user's program may append its events.
const EVENTS: &str = "PLUMB_EVENTS";

impl Task {
    /// Inputs and outputs in a scratch folder, and the program that is to run there.
    pub(super) fn lay_out(&self, store: &Store, scratch: &Path, state: &Path) -> Result<Launch, Trouble> {
        let folder = scratch.join("outputs");
        fs::create_dir(&folder).map_err(EngineError::io("make the folder", &folder))?;
        let outputs = self.output_places(scratch)?;
        let inputs = Layout { store, scratch, kind: self.kind.as_ref() }.inputs(&self.inputs)?;
        self.launch(store, scratch, inputs, &outputs, state)
    }

    /// Where the outputs go, with their folders made.
    pub(super) fn output_places(&self, scratch: &Path) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        let folder = scratch.join("outputs");
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
        store: &Store,
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
            cpu: self.run.cpu,
            gpus: self.gpus.clone(),
            gpu_share: self.run.gpu_share,
            secrets: Secrets::read(&self.run.secrets, &self.pipeline_folder)?,
            host: maker::host(),
            log: self.log.clone(),
            events: scratch.join(child::EVENTS),
            time: self.run.time,
            mem: self.run.mem,
            disk: self.run.disk,
            writes: vec![scratch.join("outputs"), scratch.join("work"), state.to_owned()],
        };
        let paths = place::paths_for_program(&inputs, scratch);
        if let Some(program) = self.kind.program(&self.params, Places { inputs: &paths?, outputs, state }) {
            self.launch_program(&mut launch, program?, scratch, state)?;
            return Ok(launch);
        }
        launch.program = worker::find(self.kind.declaration().worker, &self.own_program)?.into();
        launch.arguments = vec!["__step".into(), scratch.into()];
        self.write_request(store, scratch, inputs, outputs, state)?;
        Ok(launch)
    }

    /// A program of the user's: in a folder with the listed files, in a closed environment, in a sandbox if asked for.
    fn launch_program(
        &self,
        launch: &mut Launch,
        program: Program,
        scratch: &Path,
        state: &Path,
    ) -> Result<(), Trouble> {
        let work = self.work_folder(scratch)?;
        let mut environment = program.env;
        for (name, path) in [(STATE, state), (EVENTS, &launch.events)] {
            environment.entry(name.into()).or_insert_with(|| path.display().to_string());
        }
        launch.environment = Environment::Closed(environment);
        let mut argv: Vec<OsString> = program.argv.into_iter().map(Into::into).collect();
        if let Some(settings) = &self.run.sandbox {
            let (inputs, outputs) = (scratch.join("inputs"), scratch.join("outputs"));
            fs::create_dir_all(&inputs).map_err(EngineError::io("make the folder", &inputs))?;
            fs::write(&launch.events, "").map_err(EngineError::io("write", &launch.events))?;
            let writable = [outputs.as_path(), work.as_path(), state];
            let (events, gpus) = (launch.events.as_path(), !self.gpus.is_empty());
            let inside = Inside { settings, inputs: &inputs, writable, events, folder: &work, gpus };
            let around = sandbox::arguments(&inside);
            argv.splice(0..0, std::iter::once(sandbox::program()).chain(around));
        }
        let mut argv = argv.into_iter();
        launch.folder = work;
        launch.program = argv.next().ok_or_else(|| StageError::new("`with.argv` names no program"))?;
        launch.arguments = argv.collect();
        Ok(())
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
        store: &Store,
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
            secrets: self.run.secrets.iter().map(|secret| secret.name.clone()).collect(),
            answers: Some(Handle {
                cache: store.root().to_owned(),
                durable: store.durable(),
                pipeline: self.draft.pipeline.clone(),
                stage: self.draft.stage.clone(),
                step: self.draft.step.clone(),
                made_by: self.draft.made_by.clone(),
                asking: self.run.asking.clone(),
            }),
        };
        let path = scratch.join(child::REQUEST);
        let text = serde_json::to_vec(&request).map_err(|error| EngineError::Bug(error.to_string()))?;
        fs::write(&path, text).map_err(EngineError::io("write", &path))
    }
}
