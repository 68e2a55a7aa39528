//! The local machine as an executor: one child process in a process group of its own, followed until its end. The
//! child and its own children die with the runner even if that is killed (by the guardian; without one by
//! `PR_SET_PDEATHSIG`, the child alone), and it takes its group and the daemons it left behind with it when it ends.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::bound::shorten;
use super::executor::{Ending, Executor, How, Launch};
use super::follow::Follower;
use super::guardian::Guardian;
use super::memory::{self, KernelKills};
use super::orphans::{self, Mark};
use super::reap::{Exit, Waiter, reap};
use super::said::Said;
use super::space::Space;
use super::spawn::{self, Started};
use super::stop::{Stop, Urgency};
use super::strays::Strays;
use crate::clock::Stopwatch;
use crate::protocol::StepEvent;

/// How often a running step's events are read, its memory is looked at and stops are noticed. Its end is noticed at
/// once.
const TICK: Duration = Duration::from_millis(100);
/// How long a child may take to end once asked.
const GRACE: Duration = Duration::from_secs(10);

/// Runs steps on this machine.
#[derive(Debug, Clone, Default)]
pub struct Local {
    shared: Arc<Shared>,
}

/// What the steps of a run share.
#[derive(Debug, Default)]
struct Shared {
    /// Of every process of this run.
    mark: Mark,
    /// Started with the first step; `None` inside where there is no shell.
    guardian: OnceLock<Option<Guardian>>,
    kills: OnceLock<KernelKills>,
    /// Whether this process has no other business.
    alone: bool,
    strays: OnceLock<Option<Mutex<Strays>>>,
}

impl Local {
    /// For a process that does nothing else: whatever it is the parent of is of its steps.
    pub fn alone() -> Self {
        Self { shared: Arc::new(Shared { alone: true, ..Shared::default() }) }
    }
}

impl Shared {
    fn strays(&self) -> Option<MutexGuard<'_, Strays>> {
        let strays = self.strays.get_or_init(|| self.alone.then(Strays::watch)?.map(Mutex::new)).as_ref()?;
        Some(strays.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn guardian(&self) -> Option<&Guardian> {
        let start = || {
            // Before there are children of ours.
            drop(self.strays());
            orphans::adopt();
            self.kills.get_or_init(KernelKills::watch);
            Guardian::start(&self.mark)
        };
        self.guardian.get_or_init(start).as_ref()
    }
}

impl Executor for Local {
    fn run(&self, launch: &Launch, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending {
        let watch = Stopwatch::start();
        let step = self.shared.mark.step();
        let guardian = self.shared.guardian();
        let started = match spawn::spawn(launch, guardian, &step) {
            Ok(started) => started,
            Err(why) => return Ending::without_a_process(How::NotStarted(why), watch.elapsed()),
        };
        let redactor = launch.secrets.redactor();
        let mut events = Follower::new(&launch.events, &redactor);
        let Started { child, mut said } = started;
        if let Some(mut strays) = self.shared.strays() {
            strays.began(&step, child);
        }
        let waiter = Waiter::new(child);
        let space = Space::new(&launch.writes, launch.disk);
        let mut limits = Limits { launch, child, mark: &step, space, end: None, asked: None };
        while !waiter.has_ended_within(TICK, said.as_ref()) {
            said.iter_mut().for_each(Said::pump);
            events.read(told);
            shorten(&launch.log);
            limits.heed(stop, watch.elapsed());
            if let Some(mut strays) = self.shared.strays() {
                strays.look_now_and_then(guardian);
            }
        }
        // Until it is reaped the child's number stands for its group, so what it left behind can be ended safely.
        signal(child, Signal::KILL);
        guardian.into_iter().for_each(|guardian| guardian.let_go(child));
        orphans::end(&step);
        if let Some(mut strays) = self.shared.strays() {
            strays.ended(&step, guardian);
        }
        let exit = reap(child);
        said.into_iter().for_each(Said::close);
        events.read(told);
        shorten(&launch.log);
        self.ending(exit, limits.end, watch.elapsed())
    }
}

impl Local {
    fn ending(&self, exit: Option<Exit>, end: Option<How>, wall: Duration) -> Ending {
        let Some(exit) = exit else { return Ending::without_a_process(How::Lost, wall) };
        let own = exit.how();
        let killed = matches!(own, How::Signalled(9) | How::Exited(137)) && end.is_none();
        let oom = self.shared.kills.get().filter(|_| killed).and_then(KernelKills::explain);
        // A child that was asked to end and yet finished its work did its work.
        let how = match end {
            Some(asked) if own != How::Exited(0) => asked,
            _ => own,
        };
        Ending { how, oom, wall, cpu: exit.cpu(), peak_memory_bytes: exit.peak_memory_bytes() }
    }
}

/// What may end a running child before its time.
struct Limits<'a> {
    launch: &'a Launch,
    child: Pid,
    /// Of its processes.
    mark: &'a str,
    space: Space<'a>,
    /// Why it was asked to end.
    end: Option<How>,
    /// When.
    asked: Option<Duration>,
}

impl Limits<'_> {
    /// Asks the child to end, or kills it, where it is time.
    fn heed(&mut self, stop: &Stop, now: Duration) {
        let urgency = stop.urgency();
        if self.end.is_none() {
            self.end = self.exceeded(urgency, now);
        }
        let Some(end) = &self.end else { return };
        // Who holds too much is not asked: it would hold more meanwhile.
        let at_once = urgency == Urgency::Now || matches!(end, How::TooBig { .. } | How::Overfull { .. });
        match self.asked {
            None if !at_once => {
                self.asked = Some(now);
                signal(self.child, Signal::TERM);
            }
            Some(since) if !at_once && now < since + GRACE => {}
            _ => signal(self.child, Signal::KILL),
        }
    }

    fn exceeded(&mut self, urgency: Urgency, now: Duration) -> Option<How> {
        if urgency > Urgency::GoOn {
            return Some(How::Stopped);
        }
        if self.launch.time.is_some_and(|limit| now > limit) {
            return Some(How::TimedOut);
        }
        if let Some(held) = self.space.exceeded(now) {
            return Some(How::Overfull { held });
        }
        let limit = self.launch.mem?;
        // Daemons are no descendants of the child any more.
        let roots = std::iter::once(self.child).chain(orphans::of(self.mark));
        memory::above(roots, limit).map(|held| How::TooBig { held })
    }
}

/// Nobody is left to tell that a group is gone already.
fn signal(child: Pid, signal: Signal) {
    let _ = kill_process_group(child, signal);
}
