//! Steps that earlier runs have left running (`--detach`). What they hold is booked from the start, so that nobody else
//! is given their GPUs or counts on their memory; the step of this run that attaches to one takes its booking over and
//! waits for no room: it has it. CPUs are booked once it is attached, so that a long training stops no other work.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use plumb_cache::{ActionKey, Store};

use crate::execute::keeper::{self, KeptStep};
use crate::execute::slots::{Held, Slots};

/// How often it is looked whether they still run.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A kept step and what is booked for it: nothing once it has ended.
pub(super) struct Booked {
    step: KeptStep,
    held: Held,
}

/// The kept steps of a cache, by their actions.
pub(super) struct Inherited {
    steps: BTreeMap<String, Booked>,
    looked: Duration,
}

impl Inherited {
    /// Books what they hold.
    pub(super) fn find(store: &Store, slots: &mut Slots) -> Self {
        let book = |(action, step): (String, KeptStep)| {
            let held = if step.goes_on() { slots.book(step.launch()) } else { Held::default() };
            (action, Booked { step, held })
        };
        let steps = keeper::all(&store.states_folder()).into_iter().map(book).collect();
        Self { steps, looked: Duration::ZERO }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether any of them holds something.
    pub(super) fn holds(&self) -> bool {
        self.steps.values().any(|booked| booked.held != Held::default())
    }

    /// One of those that hold something.
    pub(super) fn holder(&self) -> Option<String> {
        let booked = self.steps.values().find(|booked| booked.held != Held::default())?;
        let process = booked.step.process()?;
        let log = Path::new(&booked.step.launch().log).file_stem().unwrap_or_default().to_string_lossy();
        Some(format!("{log} (a detached step, process {process})"))
    }

    /// Gives back what those held that have ended meanwhile.
    pub(super) fn settle(&mut self, now: Duration, slots: &mut Slots) {
        if self.is_empty() || now < self.looked + TICK {
            return;
        }
        self.looked = now;
        for booked in self.steps.values_mut().filter(|booked| !booked.step.goes_on()) {
            slots.give_back(std::mem::take(&mut booked.held));
        }
    }

    /// The kept step of an action, for who attaches to it.
    pub(super) fn take(&mut self, action: &ActionKey) -> Option<Booked> {
        if self.is_empty() { None } else { self.steps.remove(&action.to_string()) }
    }

    /// It was not attached to: another runner follows it.
    pub(super) fn put_back(&mut self, action: &ActionKey, booked: Booked) {
        self.steps.insert(action.to_string(), booked);
    }
}

impl Booked {
    /// What an attached step holds.
    pub(super) fn attach(self, slots: &mut Slots) -> Held {
        slots.book_cpus(self.held, self.step.launch().cpu)
    }
}
