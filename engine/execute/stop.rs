//! How a run is stopped: asked once, nothing new starts and children are told to end; asked twice, they are killed. A
//! run may also be superseded: nothing new starts, and of the running steps those end that nobody wants any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use plumb_cache::RecipeKey;
use tokio::sync::watch;

use crate::plan::Facts;

/// How urgently a run shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It goes on.
    GoOn,
    /// Start nothing new; ask the children to end, kill them after a grace period.
    Gently,
    /// Kill the children.
    Now,
}

/// What a run is asked.
#[derive(Debug, Clone)]
struct Asked {
    urgency: Urgency,
    /// What the run is about, once it knows.
    facts: Option<Arc<Facts>>,
    /// The recipes that are wanted from now on, once the run is superseded.
    wanted: Option<Arc<BTreeSet<RecipeKey>>>,
}

/// A handle that stops a run. Clones stop the same run.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: Arc<watch::Sender<Asked>>,
    /// Whose handle it is: a step's own tells of what ends that step alone, too.
    step: Option<RecipeKey>,
}

impl Default for Stop {
    fn default() -> Self {
        let asked = Asked { urgency: Urgency::GoOn, facts: None, wanted: None };
        Self { asked: Arc::new(watch::Sender::new(asked)), step: None }
    }
}

impl Stop {
    /// Asks once more: first gently, then now.
    pub fn ask(&self) {
        self.asked.send_modify(|asked| {
            asked.urgency = if asked.urgency == Urgency::GoOn { Urgency::Gently } else { Urgency::Now };
        });
    }

    /// These steps are wanted now. Where they are not those of the run, nothing new starts, and the steps that run go
    /// on if they are among the wanted; says whether that is so.
    pub fn supersede(&self, wanted: BTreeSet<RecipeKey>) -> bool {
        let own = self.asked.borrow().facts.as_ref().map(|facts| facts.recipes());
        let other = own.as_ref() != Some(&wanted);
        self.asked.send_modify(|asked| asked.wanted = other.then(|| Arc::new(wanted)));
        other
    }

    /// What the run that this handle stops is about.
    pub(crate) fn know(&self, facts: &Arc<Facts>) {
        self.asked.send_modify(|asked| asked.facts = Some(facts.clone()));
    }

    /// Whether other steps are wanted now.
    pub fn is_superseded(&self) -> bool {
        self.asked.borrow().wanted.is_some()
    }

    /// The same for one step.
    pub(crate) fn of_step(&self, recipe: RecipeKey) -> Self {
        Self { asked: self.asked.clone(), step: Some(recipe) }
    }

    /// How urgently.
    pub fn urgency(&self) -> Urgency {
        let asked = self.asked.borrow();
        let unwanted = |wanted: &Arc<BTreeSet<RecipeKey>>| self.step.is_some_and(|step| !wanted.contains(&step));
        let ends = asked.wanted.as_ref().is_some_and(unwanted);
        if ends { asked.urgency.max(Urgency::Gently) } else { asked.urgency }
    }

    /// Whether the run shall end.
    pub fn is_asked(&self) -> bool {
        self.urgency() > Urgency::GoOn
    }

    /// Whether something new may start.
    pub(crate) fn may_start(&self) -> bool {
        !self.is_asked() && !self.is_superseded()
    }

    /// Waits until it is asked (again).
    pub(crate) fn listen(&self) -> watch::Receiver<impl Sized + use<>> {
        self.asked.subscribe()
    }
}
