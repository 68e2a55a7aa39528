//! The scheduler: one loop that owns every step's phase, the slots and what the user sees. Steps run on threads of
//! their own and report through one channel.
//!
//! ```text
//! Want ──inputs made──> Ready ──key──> Queued ──slots and claim──> Running ──> Done | Failed
//!   │                     │              │  └─ held by another runner: looked at again once let go
//!   │                     │              └─ after a failure that is tried again: first a pause
//!   │                     └─ in the cache by now (early cutoff) ──> Done
//!   ├─ a producer failed, or the user stopped the run ──> Skipped
//!   └─ an input's bytes are gone ──> Deferred: planned again, its producer first
//! ```

mod board;
mod ending;
mod inherited;
mod prepare;
mod queue;
mod rank;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionRecord, Realisation, RecipeKey, Store};
use tokio::sync::mpsc;

use self::board::{Board, Phase};
use self::inherited::Inherited;
use self::queue::{Queue, Queued};
use super::Teller;
use super::executor::Executor;
use super::slots::{Held, Slots};
use super::stop::Stop;
use super::task::Outcome;
use crate::clock::Stopwatch;
use crate::courier::Courier;
use crate::error::EngineError;
use crate::event::Event;
use crate::explain::Past;
use crate::graph::{Graph, StepId};
use crate::history;
use crate::plan::{Facts, Plan, State};
use crate::protocol::StepEvent;

/// What a round of scheduling needs.
pub(super) struct Round<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Store,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) stop: Stop,
    pub(super) own_program: PathBuf,
    pub(super) fresh: &'a BTreeSet<StepId>,
    pub(super) keep_going: bool,
    /// Whether steps outlive this process.
    pub(super) detached: bool,
    /// Who sends what is made to a layer.
    pub(super) courier: Option<Courier>,
    /// Steps that failed in an earlier round: not tried again.
    pub(super) failed_before: &'a BTreeSet<StepId>,
}

/// What came of a round.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The result of every step that has one.
    pub(super) records: BTreeMap<StepId, Arc<ActionRecord>>,
    pub(super) ran: BTreeSet<StepId>,
    /// Found only once their inputs had been made.
    pub(super) late_hits: BTreeSet<StepId>,
    pub(super) failed: BTreeSet<StepId>,
    pub(super) skipped: BTreeSet<StepId>,
    /// Some step has to be planned again.
    pub(super) deferred: bool,
}

/// A step that runs.
struct Running {
    slots: Held,
    queued: Queued,
}

enum Message {
    Said(StepId, StepEvent),
    /// What is no step's own word.
    Told(Event),
    Ended(StepId, Outcome),
}

pub(super) struct Scheduler<'a, 't, 's> {
    round: Round<'a>,
    facts: Arc<Facts>,
    past: Past<'a>,
    teller: &'t mut Teller<'s>,
    chosen: BTreeMap<RecipeKey, Realisation>,
    /// Since the start of the round: pauses are told by it.
    watch: Stopwatch,
    board: Board,
    queue: Queue,
    running: BTreeMap<StepId, Running>,
    slots: Slots,
    inherited: Inherited,
    /// The failed step after which nothing new starts.
    halted_by: Option<StepId>,
    /// What ends the run as soon as no child is left.
    broken: Option<EngineError>,
    report: Report,
    send: mpsc::UnboundedSender<Message>,
    receive: mpsc::UnboundedReceiver<Message>,
}

impl<'a, 't, 's> Scheduler<'a, 't, 's> {
    pub(super) fn new(round: Round<'a>, plan: &Plan, mut slots: Slots, teller: &'t mut Teller<'s>) -> Self {
        let (send, receive) = mpsc::unbounded_channel();
        let hits = plan.steps.iter().filter_map(|step| match &step.state {
            State::Hit { record } => Some((step.id, record.clone())),
            _ => None,
        });
        Self {
            facts: plan.facts.clone(),
            past: Past::new(round.store, &round.graph.name),
            teller,
            chosen: plan.chosen.clone(),
            watch: Stopwatch::start(),
            board: Board::new(plan),
            queue: Queue::new(ranks(&round, plan)),
            running: BTreeMap::new(),
            inherited: Inherited::find(round.store, &mut slots),
            slots,
            halted_by: None,
            broken: None,
            report: Report { records: hits.collect(), ..Report::default() },
            send,
            receive,
            round,
        }
    }

    /// Runs the plan to its end.
    pub(super) async fn run(mut self) -> Result<Report, EngineError> {
        let mut stopping = self.round.stop.listen();
        let failed_before = self.round.failed_before;
        for id in failed_before {
            self.give_up_on(*id);
        }
        loop {
            self.settle()?;
            self.start_what_can()?;
            if self.board.first_ready().is_some() {
                continue;
            }
            if self.running.is_empty() && (self.queue.is_empty() || !self.may_start()) {
                break;
            }
            self.teller.flush();
            let wake = self.wake().filter(|_| self.may_start());
            tokio::select! {
                Some(message) = self.receive.recv() => self.take(message),
                _ = stopping.changed() => {}
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.skip_the_rest();
        Ok(self.report)
    }

    /// How long until something may have changed that no message tells.
    fn wake(&self) -> Option<Duration> {
        let inherited = (self.inherited.holds() && !self.queue.is_empty()).then_some(inherited::TICK);
        self.queue.wake(self.watch.elapsed()).into_iter().chain(inherited).min()
    }

    fn may_start(&self) -> bool {
        self.halted_by.is_none() && self.round.stop.may_start()
    }

    fn address(&self, id: StepId) -> String {
        self.round.graph.step(id).address.to_string()
    }

    /// Every step whose inputs are made: hits make others ready, so this goes on until none is left.
    fn settle(&mut self) -> Result<(), EngineError> {
        while let Some(id) = self.board.first_ready() {
            self.prepare(id)?;
            debug_assert_ne!(self.board.phase(id), Phase::Ready, "each step is prepared once");
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Said(id, event) => {
                let step = self.address(id);
                self.teller.tell(&Event::Step { step, event });
            }
            Message::Told(event) => self.teller.tell(&event),
            Message::Ended(id, outcome) => self.ended(id, outcome),
        }
    }
}

/// Where one step runs there is nothing to put in order.
fn ranks(round: &Round<'_>, plan: &Plan) -> Vec<u64> {
    let runs = plan.steps.iter().filter(|step| matches!(step.state, State::Run { .. } | State::MayRun { .. }));
    if runs.count() < 2 {
        return Vec::new();
    }
    rank::ranks(round.graph, plan, &history::recent_durations(round.store, &round.graph.name))
}
