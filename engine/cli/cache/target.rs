//! Which results a command is about: a pipeline file and steps, or the first digits of keys.

use std::path::{Path, PathBuf};

use clap::Args;
use plumb_cache::{ActionRecord, Store};
use plumb_engine::plan::{self, PlanOptions};

use crate::args::{Pipeline, Variant};
use crate::context::Context;
use crate::trouble::Trouble;

/// Fewer digits of a key are too easily those of another.
const DIGITS: usize = 4;

/// Results by step or by key.
#[derive(Debug, Clone, Args)]
pub struct Targets {
    /// A pipeline file and its steps [default: its goals], or the first digits of keys
    #[arg(value_name = "FILE [STEP…] | KEY…", required = true)]
    pub targets: Vec<String>,
    /// How the pipeline is instantiated.
    #[command(flatten)]
    pub variant: Variant,
}

/// A result that was asked for.
pub struct Target {
    /// Its record, as its step sees it.
    pub record: ActionRecord,
    /// The address of its step.
    pub step: String,
}

impl Targets {
    /// The results, each of which is in the cache.
    pub fn resolve(&self, context: &Context, store: &Store) -> Result<Vec<Target>, Trouble> {
        match self.targets.split_first() {
            Some((file, steps)) if is_pipeline(file) => self.of_pipeline(context, store, file, steps),
            _ => self.targets.iter().map(|prefix| by_prefix(store, prefix)).collect(),
        }
    }

    /// Where the project lies whose settings count.
    pub fn folder(&self) -> &Path {
        self.file().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The pipeline file that is named, or this folder.
    pub fn file(&self) -> &Path {
        self.targets.first().filter(|first| is_pipeline(first)).map_or(Path::new("."), Path::new)
    }

    fn of_pipeline(
        &self,
        context: &Context,
        store: &Store,
        file: &str,
        steps: &[String],
    ) -> Result<Vec<Target>, Trouble> {
        let pipeline = Pipeline { file: PathBuf::from(file), variant: self.variant.clone() };
        let graph = context.load(&pipeline, steps)?;
        let plan = plan::plan(&graph, store, &PlanOptions::default())?;
        let target = |id: &plumb_engine::graph::StepId| {
            let step = graph.step(*id).address.to_string();
            let record = plan.record_of(*id).ok_or_else(|| {
                let hint = format!("make it with `plumb run {file} {step}`");
                Trouble::failed(format!("`{step}` has no result in the cache"), hint)
            })?;
            Ok(Target { record: record.as_ref().clone(), step })
        };
        graph.goals.iter().map(target).collect()
    }
}

/// Whether a command line's first word names a pipeline file, and no key.
pub fn is_pipeline(text: &str) -> bool {
    text.ends_with(".toml") || Path::new(text).is_file()
}

/// The one result whose key begins with these digits.
pub fn by_prefix(store: &Store, prefix: &str) -> Result<Target, Trouble> {
    let list = "`plumb cache ls` lists the keys";
    if prefix.len() < DIGITS || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!("`{prefix}` is neither a pipeline file nor the first digits ({DIGITS} or more) of a key");
        return Err(Trouble::usage(message, list));
    }
    let none = || Trouble::usage(format!("no result has a key that begins with `{prefix}`"), list);
    let found = store.actions_by_prefix(&prefix.to_lowercase())?;
    match found.as_slice() {
        [] => Err(none()),
        [action] => {
            let record = store.record(action)?.ok_or_else(none)?;
            Ok(Target { step: record.step.clone(), record })
        }
        several => {
            let keys: Vec<String> = several.iter().take(5).map(|key| format!("`{}`", key.short())).collect();
            let message = format!("{} results have keys that begin with `{prefix}`", several.len());
            Err(Trouble::usage(message, format!("type more digits: {}", keys.join(", "))))
        }
    }
}
