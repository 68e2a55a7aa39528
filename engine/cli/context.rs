//! What every command needs: the kinds, the printer, the cache, and the pipeline as the command line asks for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use plumb_cache::{Store, StoreOptions};
use plumb_engine::courier::{Courier, Errand};
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::growth;
use plumb_engine::pipeline::{self, Selection};
use plumb_engine::plan::{self, Plan, PlanOptions};
use plumb_engine::source::Tell;
use plumb_engine::stage::Registry;
use plumb_engine::upstream::{self, Reading};
use plumb_stages::stats::intervals::width_over_seeds;

use crate::args::{Pipeline, Place};
use crate::choice::Choice;
use crate::display::{Display, Manner};
use crate::printer::Printer;
use crate::trouble::Trouble;

/// What every command needs.
pub struct Context {
    /// The stage kinds.
    pub registry: Registry,
    /// Where text goes.
    pub printer: Printer,
    /// Where results are kept.
    pub place: Place,
}

impl Context {
    /// Opens the cache.
    pub fn store(&self) -> Result<Store, Trouble> {
        let options = StoreOptions { paranoid: self.place.paranoid, durable: self.place.durable };
        let store = Store::open(&self.store_path()?, options)?;
        if store.hears_others() {
            store.set_people(upstream::people()?);
        }
        Ok(store)
    }

    /// Opens the cache, which asks the layers of the settings for what it has not got: a person's, and those of the
    /// project of this pipeline file.
    pub fn store_asking(&self, file: &Path, reading: Reading<'_>) -> Result<Store, Trouble> {
        let store = self.store()?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let printer = self.printer.clone();
        let warn = Box::new(move |message: &str| printer.warning(message));
        if let Some(upstream) = upstream::of_settings(folder, reading, warn)? {
            store.set_upstream(upstream);
            store.set_people(upstream::people()?);
        }
        Ok(store)
    }

    /// Whoever sends what a run makes, where the settings ask for that.
    pub fn courier(&self, file: &Path) -> Result<Option<Courier>, Trouble> {
        let Some(errand) = Errand::of_settings()? else { return Ok(None) };
        Ok(Courier::start(errand, &self.store_asking(file, Reading::default())?)?)
    }

    fn store_path(&self) -> Result<PathBuf, Trouble> {
        Ok(self.place.cache.clone().map_or_else(Store::default_path, Ok)?)
    }

    /// The cache, where there is one: a look at a pipeline makes none, and what is wrong with one is told by whoever
    /// needs it.
    fn store_that_is_there(&self) -> Option<Store> {
        self.store_path().ok().filter(|path| path.exists()).and_then(|_| self.store().ok())
    }

    /// Instantiates the pipeline with these steps as its goals; none means the pipeline's own.
    pub fn load(&self, pipeline: &Pipeline, steps: &[String]) -> Result<Graph, Trouble> {
        self.load_choice(pipeline, &Choice { steps: steps.to_vec(), ..Choice::default() })
    }

    /// The same with `--from` and `--until`.
    pub fn load_choice(&self, pipeline: &Pipeline, choice: &Choice) -> Result<Graph, Trouble> {
        let selection = Selection {
            steps: choice.steps.clone(),
            from: choice.from.clone(),
            until: choice.until.clone(),
            set: pipeline.variant.set.iter().map(|text| setting(text)).collect::<Result<_, _>>()?,
            axis: pipeline.variant.axis.clone(),
            profile: pipeline.variant.profile.clone(),
            grown: None,
        };
        let graph = self.grown(pipeline, &selection)?;
        for warning in &graph.warnings {
            self.printer.note(&warning.render());
        }
        Ok(graph)
    }

    /// The steps that these selectors name.
    pub fn select(&self, graph: &Graph, selectors: &[String]) -> Result<BTreeSet<StepId>, Trouble> {
        let mut found = BTreeSet::new();
        for selector in selectors {
            found.extend(pipeline::select(graph, selector).map_err(Diagnostics::from)?);
        }
        Ok(found)
    }

    /// The graph of a selection. An axis that grows has the replicates that the results in the cache ask for.
    fn grown(&self, pipeline: &Pipeline, selection: &Selection) -> Result<Graph, Trouble> {
        let instantiate = |selection: &Selection| -> Result<Graph, Trouble> {
            let mut graph = match self.store_that_is_there() {
                Some(store) => pipeline::load_kept(&pipeline.file, &self.registry, selection, &store)?,
                None => pipeline::load(&pipeline.file, &self.registry, selection)?,
            };
            if pipeline.variant.strict_code {
                graph.count_code(&self.registry);
            }
            Ok(graph)
        };
        let graph = instantiate(selection)?;
        if graph.growing.is_none() {
            return Ok(graph);
        }
        let again = |count| instantiate(&Selection { grown: Some(count), ..selection.clone() });
        growth::settle(graph, again, &self.store()?, width_over_seeds)
    }

    /// The same with every step as a goal.
    pub fn load_all(&self, pipeline: &Pipeline) -> Result<Graph, Trouble> {
        let mut graph = self.load(pipeline, &[])?;
        graph.goals = (0..graph.steps.len()).map(StepId).collect();
        Ok(graph)
    }

    /// Plans, showing what has to be fetched to know the sources.
    pub fn plan(&self, graph: &Graph, store: &Store, options: &PlanOptions) -> Result<Plan, Trouble> {
        Ok(self.telling(|tell| plan::plan_telling(graph, store, options, tell))?)
    }

    /// Lends a screen to work on several threads; it is there from the first thing that is told.
    pub fn telling<T>(&self, work: impl FnOnce(Tell<'_>) -> T) -> T {
        let display: Mutex<Option<Display>> = Mutex::default();
        let done = work(&|event| {
            let mut display = display.lock().unwrap_or_else(PoisonError::into_inner);
            display.get_or_insert_with(|| Display::new(self.printer.clone(), Manner::People)).tell(event);
        });
        if let Some(display) = display.into_inner().unwrap_or_else(PoisonError::into_inner).as_mut() {
            display.close();
        }
        done
    }
}

fn setting(text: &str) -> Result<(String, String), Trouble> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or_else(|| {
        Trouble::usage(format!("`--set {text}` sets nothing"), "write `--set NAME=VALUE`, as `--set steps=20`")
    })?;
    Ok((name.to_owned(), value.to_owned()))
}
