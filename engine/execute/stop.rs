//! How a run is stopped: asked once, nothing new starts and children are told to end; asked twice, they are killed.

use std::sync::Arc;

use tokio::sync::watch;

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

/// A handle that stops a run. Clones stop the same run.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<Urgency>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Urgency::GoOn)))
    }
}

impl Stop {
    /// Asks once more: first gently, then now.
    pub fn ask(&self) {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::GoOn { Urgency::Gently } else { Urgency::Now };
        });
    }

    /// How urgently.
    pub fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    /// Whether the run shall end.
    pub fn is_asked(&self) -> bool {
        self.urgency() > Urgency::GoOn
    }

    /// Waits until it is asked (again).
    pub(crate) fn listen(&self) -> watch::Receiver<Urgency> {
        self.0.subscribe()
    }
}
