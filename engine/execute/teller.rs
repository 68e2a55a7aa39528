//! Tells events to whoever listens and to the history of the run. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::courier::Courier;
use crate::event::{Cause, Event};
use crate::graph::StepId;
use crate::history::Recorder;

/// Tells events to whoever listens and to the history.
pub(crate) struct Teller<'a> {
    pub(super) sink: &'a mut (dyn FnMut(&Event) + Send),
    pub(super) recorder: Option<Recorder>,
    pub(super) why: BTreeMap<StepId, Vec<Cause>>,
    /// Told once, however often the run is planned again.
    pub(super) skipped: BTreeSet<String>,
    /// What it has to tell is told with the next event.
    pub(super) courier: Option<Courier>,
}

impl Teller<'_> {
    pub(super) fn tell(&mut self, event: &Event) {
        let told = self.courier.as_ref().map(Courier::told).unwrap_or_default();
        told.iter().for_each(|event| self.tell_one(event));
        self.tell_one(event);
    }

    fn tell_one(&mut self, event: &Event) {
        if let Event::Skipped { step, .. } = event
            && !self.skipped.insert(step.clone())
        {
            return;
        }
        (self.sink)(event);
        if let Some(Err(error)) = self.recorder.as_mut().map(|recorder| recorder.event(event)) {
            (self.sink)(&Event::Warning { message: error.to_string() });
        }
    }

    /// Lets other processes see what was told so far.
    pub(super) fn flush(&mut self) {
        if let Some(Err(error)) = self.recorder.as_mut().map(Recorder::flush) {
            (self.sink)(&Event::Warning { message: error.to_string() });
        }
    }

    pub(super) fn log_of(&self, step: &str) -> PathBuf {
        self.recorder.as_ref().map_or_else(|| PathBuf::from("/dev/null"), |recorder| recorder.log_of(step))
    }

    pub(super) fn planned_why(&self, id: StepId) -> Option<Vec<Cause>> {
        self.why.get(&id).cloned()
    }
}
