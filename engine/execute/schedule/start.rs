//! Queued -> Running: what slots and claims allow, the most urgent first.

use plumb_cache::{Claim, Claimed};

use super::{Message, Phase, Running, Scheduler};
use crate::error::EngineError;
use crate::event::Event;
use crate::execute::needs::Needs;
use crate::execute::slots::Held;
use crate::execute::task::Task;
use crate::graph::StepId;

use super::queue::Queued;

impl Scheduler<'_, '_, '_> {
    /// Starts what can start. What finds no room is passed by, but not for ever.
    pub(super) fn start_what_can(&mut self) -> Result<(), EngineError> {
        let now = self.watch.elapsed();
        self.inherited.settle(now, &mut self.slots);
        let (mut at, mut blocked) = (None, Vec::new());
        while self.may_start() && !(self.slots.none_left() && self.inherited.is_empty()) {
            at = self.queue.next(at, now);
            let Some((_, id)) = at else { break };
            if self.attach(id)? {
                continue;
            }
            let Some(slots) = self.slots.take(&self.round.graph.step(id).run) else {
                self.tell_of_the_holder(id);
                // To let nothing else start makes room only where what is in the way is ours.
                if !self.inherited.holds() && self.queue.is_out_of_patience(id) {
                    break;
                }
                blocked.push(id);
                continue;
            };
            match self.claim(id)? {
                Some(claim) => {
                    self.queue.pass_by(&blocked);
                    self.start(id, slots, claim)?;
                }
                None => self.slots.give_back(slots),
            }
        }
        Ok(())
    }

    /// Attaches to the step that an earlier run has left running; says whether there is one.
    fn attach(&mut self, id: StepId) -> Result<bool, EngineError> {
        let Some(action) = self.queue.get(id).map(|queued| queued.draft.action) else { return Ok(false) };
        let Some(booked) = self.inherited.take(&action) else { return Ok(false) };
        match self.claim(id)? {
            Some(claim) => {
                let slots = booked.attach(&mut self.slots);
                self.start(id, slots, claim)?;
            }
            None => self.inherited.put_back(&action, booked),
        }
        Ok(true)
    }

    /// Where nothing of this run will make room, it is said who is in the way.
    fn tell_of_the_holder(&mut self, id: StepId) {
        if !self.running.is_empty() {
            return;
        }
        let Some(holder) = self.inherited.holder() else { return };
        if let Some(queued) = self.queue.get(id).filter(|queued| !queued.told) {
            queued.told = true;
            let step = queued.draft.step.clone();
            self.teller.tell(&Event::Waiting { step, holder });
        }
    }

    /// Claims a step's action. `None`: another runner holds it, or has just made it.
    fn claim(&mut self, id: StepId) -> Result<Option<Claim>, EngineError> {
        let Some(mut queued) = self.queue.take(id) else { return Ok(None) };
        match self.round.store.claim(&queued.draft.action, &queued.draft.step)? {
            Claimed::Mine(claim) => {
                let _hold = self.round.store.hold()?;
                match self.look_up(id, &queued.draft)? {
                    Some(record) => {
                        drop(claim);
                        self.hit(id, record)?;
                        Ok(None)
                    }
                    None => {
                        self.queue.put(id, queued);
                        Ok(Some(claim))
                    }
                }
            }
            Claimed::Held { by } => {
                if queued.holder.is_none() {
                    self.teller.tell(&Event::Waiting { step: queued.draft.step.clone(), holder: by.clone() });
                }
                queued.holder = Some(by);
                self.queue.put(id, queued);
                Ok(None)
            }
        }
    }

    fn start(&mut self, id: StepId, slots: Held, claim: Claim) -> Result<(), EngineError> {
        let Some(queued) = self.queue.take(id) else { return Ok(()) };
        let task = self.task(id, &queued, &slots, claim);
        let kind = task.kind.declaration().kind.to_string();
        let (why, attempt) = (queued.why.clone(), queued.attempt);
        let executor = self.round.executor.name().to_string();
        self.teller.tell(&Event::Started { step: queued.draft.step.clone(), kind, why, attempt, executor });
        self.board.put(id, Phase::Running);
        let recipe = queued.draft.recipe;
        self.running.insert(id, Running { slots, queued });
        let (store, executor, stop) =
            (self.round.store.clone(), self.round.executor.clone(), self.round.stop.of_step(recipe));
        let (said, also, ended) = (self.send.clone(), self.send.clone(), self.send.clone());
        // The receiver outlives every step: the loop ends only when none runs.
        let body = move || {
            let mut told = |event| drop(said.send(Message::Said(id, event)));
            let tell = |event: &Event| drop(also.send(Message::Told(event.clone())));
            let outcome = task.perform(&store, executor.as_ref(), &stop, &mut told, &tell);
            drop(ended.send(Message::Ended(id, outcome)));
        };
        tokio::task::spawn_blocking(body);
        Ok(())
    }

    fn task(&self, id: StepId, queued: &Queued, slots: &Held, claim: Claim) -> Task {
        let step = self.round.graph.step(id);
        let needs = Needs {
            graph: self.round.graph,
            store: self.round.store,
            facts: &self.facts,
            records: &self.report.records,
        };
        let (gpus, log) = (self.slots.visible_gpus(slots), self.teller.log_of(&queued.draft.step));
        let task = needs.task(step, queued.draft.clone(), gpus, log, self.round.own_program.clone());
        let producers = self.facts.producers[id.0].iter().filter_map(|producer| self.report.records.get(producer));
        let offered = producers.filter(|record| self.round.store.is_offered(record)).cloned().collect();
        Task {
            offered,
            fresh: self.round.fresh.contains(&id),
            detached: self.round.detached,
            courier: self.round.courier.clone(),
            claim: Some(claim),
            ..task
        }
    }
}
