//! Accepting what sources are now: a new lock file from the old one, and what the difference is. Writes nothing.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::Sources;
use super::lock::{LockFile, Pin};
use crate::error::EngineError;
use crate::graph::Source;
use crate::nearest;

/// What became of one source.
#[derive(Debug, Clone)]
pub struct Change {
    /// Name of the source.
    pub name: String,
    /// What was pinned.
    pub was: Option<Pin>,
    /// What is there; nothing for a source that the pipeline does not have any more.
    pub now: Option<Pin>,
}

/// What a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was not pinned.
    New,
    /// Other bytes, or another place.
    Changed,
    /// As it was.
    Same,
    /// It is not in the pipeline any more.
    Dropped,
}

impl Change {
    /// Which it is. What is as it was keeps its pin, to the time when it was accepted.
    pub fn state(&self) -> State {
        match (&self.was, &self.now) {
            (None, _) => State::New,
            (_, None) => State::Dropped,
            (Some(was), Some(now)) if was == now => State::Same,
            _ => State::Changed,
        }
    }
}

impl Sources<'_> {
    /// Looks at these sources (all of them, where none is named): the lock file as it should be, and the changes.
    pub fn accept(&self, names: &[String]) -> Result<(LockFile, Vec<Change>), EngineError> {
        let old = LockFile::read(&self.graph.file)?.unwrap_or_default();
        let chosen = self.chosen(names)?;
        let look = |source: &&Source| {
            let known = self.look(source)?;
            let was = old.pins.get(&source.name).cloned();
            let now = was.clone().filter(|pin| pin.holds(source, &known)).unwrap_or_else(|| Pin::of(source, &known));
            Ok(Change { name: source.name.clone(), was, now: Some(now) })
        };
        let mut changes = chosen.par_iter().map(look).collect::<Result<Vec<Change>, EngineError>>()?;
        if names.is_empty() {
            let present: BTreeSet<&str> = self.graph.sources.iter().map(|source| source.name.as_str()).collect();
            let gone = old.pins.iter().filter(|(name, _)| !present.contains(name.as_str()));
            changes.extend(gone.map(|(name, pin)| Change { name: name.clone(), was: Some(pin.clone()), now: None }));
        }
        let mut lock = old;
        for change in &changes {
            match &change.now {
                Some(pin) => drop(lock.pins.insert(change.name.clone(), pin.clone())),
                None => drop(lock.pins.remove(&change.name)),
            }
        }
        Ok((lock, changes))
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<&Source>, EngineError> {
        let sources = &self.graph.sources;
        if names.is_empty() {
            return Ok(sources.iter().collect());
        }
        let find = |name: &String| {
            let known = sources.iter().map(|source| source.name.as_str());
            sources.iter().find(|source| source.name == *name).ok_or_else(|| EngineError::Pipeline {
                message: format!("no stage uses a source `{name}`"),
                hint: nearest::hint("sources", name, known),
            })
        };
        names.iter().map(find).collect()
    }
}
