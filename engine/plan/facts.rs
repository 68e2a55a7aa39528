//! What is known of a graph before any record is read: the sources' digests, what was observed, and the recipe keys.
//! Only the goals' ancestors are looked at. Each source and each listed file is digested once, each probe runs once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plumb_cache::{Artifact, Digest, RecipeKey, Store};
use rayon::prelude::*;

use super::{producers, references};
use crate::error::EngineError;
use crate::graph::{Graph, Reference, SourceId, Step, StepId};
use crate::key::{self, Document, Frame, RecipeReference};
use crate::source::{Found, Local, SourcePath, Sources, Tell};
use crate::stage::Observes;

/// What is known of a graph before any record is read.
#[derive(Debug)]
pub struct Facts {
    /// Whether some goal depends on the step (or it is one).
    pub wanted: Vec<bool>,
    /// Each source as some wanted step uses it.
    pub sources: BTreeMap<SourcePath, Artifact>,
    /// Where those lie that are on this machine; the others are in the cache, or have to be fetched into it.
    pub locals: BTreeMap<SourcePath, Local>,
    /// Each listed file, by its absolute path.
    pub files: BTreeMap<PathBuf, Artifact>,
    /// The producers of each step.
    pub producers: Vec<Vec<StepId>>,
    keyed: Vec<Option<Keyed>>,
}

#[derive(Debug)]
struct Keyed {
    frame: Frame,
    recipe: RecipeKey,
    document: Document,
}

impl Facts {
    /// Digests the sources (fetching what is not known) and makes the recipe keys of every ancestor of a goal.
    pub fn gather(graph: &Graph, store: &Store, tell: Tell<'_>) -> Result<Facts, EngineError> {
        let producers: Vec<Vec<StepId>> =
            (0..graph.steps.len()).into_par_iter().map(|index| producers(graph, StepId(index))).collect();
        let wanted = wanted(graph, &producers);
        let Found { artifacts: sources, locals } = find_sources(graph, store, &wanted, tell)?;
        let observed = Observed::gather(graph, store, &wanted)?;
        let mut facts = Facts { wanted, sources, locals, files: BTreeMap::new(), producers, keyed: Vec::new() };
        facts.make_keys(graph, &observed);
        facts.files = observed.files;
        Ok(facts)
    }

    fn make_keys(&mut self, graph: &Graph, observed: &Observed) {
        let frames: Vec<Option<Frame>> = graph
            .steps
            .par_iter()
            .enumerate()
            .map(|(index, step)| self.wanted[index].then(|| Frame::new(step, &observed.of(graph, index))))
            .collect();
        self.keyed.reserve(frames.len());
        for (step, frame) in graph.steps.iter().zip(frames) {
            let keyed = frame.map(|frame| {
                let (recipe, document) =
                    key::recipe_document(step, &frame, |reference| self.recipe_reference(reference));
                Keyed { frame, recipe, document }
            });
            self.keyed.push(keyed);
        }
    }

    fn recipe_reference(&self, reference: &Reference) -> RecipeReference {
        match reference {
            Reference::Step { step, .. } => RecipeReference::Made(self.recipe(*step)),
            Reference::Source { source, subpath } => RecipeReference::Source(self.source(*source, subpath)),
        }
    }

    fn keyed(&self, id: StepId) -> &Keyed {
        self.keyed[id.0].as_ref().expect("keys are asked only of ancestors of a goal, which all have them")
    }

    /// The recipe keys of all wanted steps.
    pub fn recipes(&self) -> BTreeSet<RecipeKey> {
        (0..self.wanted.len()).filter(|index| self.wanted[*index]).map(|index| self.recipe(StepId(index))).collect()
    }

    /// The recipe key of a wanted step.
    pub fn recipe(&self, id: StepId) -> RecipeKey {
        self.keyed(id).recipe
    }

    /// Its recipe document.
    pub fn recipe_document(&self, id: StepId) -> &str {
        &self.keyed(id).document
    }

    /// The part of its documents that no input enters.
    pub fn frame(&self, id: StepId) -> &Frame {
        &self.keyed(id).frame
    }

    /// The digest of a source that a wanted step uses.
    pub fn source(&self, source: SourceId, subpath: &Option<String>) -> Artifact {
        self.sources[&(source, subpath.clone())]
    }
}

/// The folder that relative paths of a pipeline resolve from.
pub fn pipeline_folder(graph: &Graph) -> &Path {
    graph.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn wanted(graph: &Graph, producers: &[Vec<StepId>]) -> Vec<bool> {
    let mut wanted = vec![false; graph.steps.len()];
    for goal in &graph.goals {
        wanted[goal.0] = true;
    }
    // References point to earlier steps, so one pass from the end reaches every ancestor.
    for index in (0..wanted.len()).rev() {
        if wanted[index] {
            for producer in &producers[index] {
                wanted[producer.0] = true;
            }
        }
    }
    wanted
}

fn wanted_steps<'a>(graph: &'a Graph, wanted: &'a [bool]) -> impl Iterator<Item = &'a Step> {
    graph.steps.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(step, _)| step)
}

fn find_sources(graph: &Graph, store: &Store, wanted: &[bool], tell: Tell<'_>) -> Result<Found, EngineError> {
    let mut used: BTreeSet<SourcePath> = BTreeSet::new();
    for (reference, _) in wanted_steps(graph, wanted).flat_map(|step| step.inputs.values()).flat_map(references) {
        if let Reference::Source { source, subpath } = reference {
            used.insert((*source, subpath.clone()));
        }
    }
    Sources { graph, store, tell }.find(used)
}

/// Files and probes' output, each looked at once.
struct Observed {
    files: BTreeMap<PathBuf, Artifact>,
    probes: BTreeMap<Probe, String>,
    observes: BTreeMap<usize, Observes>,
}

/// Program and environment.
type Probe = (Vec<String>, BTreeMap<String, String>);

impl Observed {
    fn gather(graph: &Graph, store: &Store, wanted: &[bool]) -> Result<Observed, EngineError> {
        let folder = pipeline_folder(graph);
        let mut observes = BTreeMap::new();
        let mut files: BTreeMap<PathBuf, &Step> = BTreeMap::new();
        let mut probes: BTreeMap<Probe, &Step> = BTreeMap::new();
        for (index, step) in graph.steps.iter().enumerate().filter(|(index, _)| wanted[*index]) {
            let seen = step.kind.observes(&step.params);
            if seen.files.is_empty() && seen.probes.is_empty() {
                continue;
            }
            files.extend(seen.files.iter().map(|file| (folder.join(file), step)));
            probes.extend(seen.probes.iter().map(|probe| ((probe.clone(), seen.env.clone()), step)));
            observes.insert(index, seen);
        }
        let files = files.into_par_iter().map(|(path, step)| digest_file(store, path, step));
        let probes = probes.into_par_iter().map(|(probe, step)| run_probe(folder, probe, step));
        Ok(Observed { files: files.collect::<Result<_, _>>()?, probes: probes.collect::<Result<_, _>>()?, observes })
    }

    fn of(&self, graph: &Graph, index: usize) -> BTreeMap<String, String> {
        let Some(seen) = self.observes.get(&index) else { return BTreeMap::new() };
        let folder = pipeline_folder(graph);
        let files = seen.files.iter().map(|file| (format!("file:{file}"), self.files[&folder.join(file)].identity()));
        let probes = seen.probes.iter().map(|probe| {
            let output = &self.probes[&(probe.clone(), seen.env.clone())];
            (format!("probe:{}", probe.join(" ")), output.clone())
        });
        files.chain(probes).collect()
    }
}

fn digest_file(store: &Store, path: PathBuf, step: &Step) -> Result<(PathBuf, Artifact), EngineError> {
    let error = |source| EngineError::Source { what: "listed file of", name: step.address.to_string(), source };
    store.digest_source(&path).map(|artifact| (path, artifact)).map_err(error)
}

fn run_probe(folder: &Path, probe: Probe, step: &Step) -> Result<(Probe, String), EngineError> {
    let failed = |why: String| EngineError::Probe { probe: probe.0.join(" "), step: step.address.to_string(), why };
    let (program, arguments) = probe.0.split_first().ok_or_else(|| failed("it names no program".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    close_environment(&mut command, &probe.1);
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{} {}", output.status, told.lines().last().unwrap_or_default())));
    }
    Ok((probe.clone(), Digest::of(&output.stdout).to_string()))
}

/// Leaves `PATH`, `HOME` and what is listed.
pub fn close_environment(command: &mut Command, listed: &BTreeMap<String, String>) {
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(listed);
}
