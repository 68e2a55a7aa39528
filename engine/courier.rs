//! The courier: sends what runs make to the layer that settings name (`push = "always"`), in the background. Holds no
//! step back, and fails no run: what it cannot send waits in the outbox of the cache for the next one.
//!
//! One batch is under way at a time: everything that waits, small blobs together and large ones one after the
//! other, as one push with one segment of the catalogue. What is made meanwhile is the next batch, so the slower the
//! layer, the larger they are; and after the first few, each is followed by a longer rest, up to five seconds, so that a
//! thousand quick steps are some dozens of pushes. Memory is that of one push with one large blob: its parts under way, and one pack.
//!
//! A process that ends begins no further blob, waits for the one that is under way, and publishes what is whole by then.
//! A layer that fails is one warning; it is tried again after a pause that doubles, and not at all by a process
//! that ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plumb_cache::{
    ActionRecord, CacheError, Layer, Parcel, Progress, Pushed, Realisation, RecipeKey, Repair, SecretKey, Shipment,
    Store, Waiting,
};

use crate::clock::Stopwatch;
use crate::config::{Config, Home, Push};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::event::Event;
use crate::execute::stop::{Stop, Urgency};
use crate::layers;

/// So many results at once: their records are held in memory.
const BATCH: usize = 500;

/// How long a layer that failed is left alone at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// After so many pushes each is followed by a rest, longer by this with each of them, up to the last.
const REST: (u32, Duration, Duration) = (4, Duration::from_millis(100), Duration::from_secs(5));

/// How often somebody who waits for the end is told how far it is.
const TICK: Duration = Duration::from_millis(100);

/// What somebody who is done wants of the courier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parting {
    /// The process ends: finish what is under way.
    #[default]
    Leave,
    /// The process goes on, and so does the courier.
    Stay,
}

/// Sends what runs make. Clones are the same courier.
#[derive(Clone)]
pub struct Courier {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    key: SecretKey,
    layer: String,
    url: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Something may wait that no batch has looked at.
    news: bool,
    /// A batch is under way, or about to be: whoever leaves waits for it.
    busy: bool,
    /// Somebody leaves: no further blob is begun.
    leaving: bool,
    /// The thread ends.
    closed: bool,
    /// Since when the layer is left alone, and for how long, since it failed.
    pause: Option<(Stopwatch, Duration)>,
    /// How many pushes there were, and when the last one ended.
    pushes: u32,
    rest: Option<Stopwatch>,
    /// What is to be told, once somebody listens.
    told: Vec<Event>,
    /// Bytes of the batch under way: those that are there, and all.
    under_way: (u64, u64),
    results: usize,
    pushed: Pushed,
    /// As was last told.
    waiting: usize,
}

/// Where results go, as a person's settings ask for it (`push = "always"`).
pub struct Errand {
    layer: String,
    url: String,
    key: SecretKey,
}

impl Errand {
    /// What the settings ask for. A missing key is an error before anything runs.
    pub fn of_settings() -> Result<Option<Errand>, Diagnostics> {
        let home = Home::find();
        let mut config = Config::of_person(home.as_ref())?;
        let (Push::Always, Some(home), Some(layer)) = (config.push, home, config.write) else { return Ok(None) };
        let Some(url) = config.layers.remove(&layer) else { return Ok(None) };
        let key = SecretKey::read(&home.secret_key()).map_err(|error| {
            let wrong = Diagnostic::new(error.to_string());
            Diagnostics::from(match error.hint() {
                Some(hint) => wrong.hint(hint),
                None => wrong,
            })
        })?;
        let none = || Diagnostic::new("there is no key to sign results with, and `push = \"always\"` sends them");
        let key = key.ok_or_else(|| none().hint("make one with `plumb key new`".to_string()))?;
        Ok(Some(Errand { layer, url, key }))
    }
}

impl Courier {
    /// Begins to send what waits in this cache.
    pub fn start(errand: Errand, store: &Store) -> Result<Option<Courier>, Diagnostics> {
        let Errand { layer, url, key } = errand;
        if !store.writable() {
            return Ok(None);
        }
        let busy = store.waits_for(&layer);
        let state = State { news: busy, busy, ..State::default() };
        let changed = Condvar::new();
        let shared = Arc::new(Shared { store: store.clone(), key, layer, url, state: Mutex::new(state), changed });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("courier".into()).spawn(move || own.work());
        match thread {
            Ok(_) => Ok(Some(Courier { shared })),
            Err(error) => Err(Diagnostic::new(format!("nothing can be sent in the background: {error}")).into()),
        }
    }

    /// Has a result wait that is about to be published, in the cache of the run that makes it.
    pub(crate) fn post(&self, store: &Store, record: &ActionRecord) -> Result<(), CacheError> {
        let lost = store.layer_lost(&record.recipe).is_some_and(|loss| loss.layer == self.shared.layer);
        let repair = if lost { Repair::Yes } else { Repair::No };
        store.post(&self.shared.layer, &record.recipe, &record.action, repair)
    }

    /// It is published: it goes at once, unless others are under way.
    pub(crate) fn hurry(&self) {
        let mut state = self.shared.state();
        state.news = true;
        state.busy |= state.rested();
        self.shared.changed.notify_all();
    }

    /// What happened since the last call.
    pub(crate) fn told(&self) -> Vec<Event> {
        std::mem::take(&mut self.shared.state().told)
    }

    /// Says what was sent and what waits. Whoever leaves waits for what is under way, unless it is asked to end now.
    pub fn part(&self, parting: Parting, stop: &Stop, tell: &mut dyn FnMut(&Event)) {
        if parting == Parting::Leave {
            self.leave(stop, tell);
        }
        self.told().iter().for_each(&mut *tell);
        let layer = self.shared.layer.clone();
        let waiting = self.shared.store.waiting(&layer).map_or(0, |waiting| waiting.len());
        let mut state = self.shared.state();
        let (results, pushed) = (std::mem::take(&mut state.results), std::mem::take(&mut state.pushed));
        let known = std::mem::replace(&mut state.waiting, waiting);
        drop(state);
        if results > 0 || waiting > 0 && waiting != known {
            tell(&Event::Sent { layer, results, bytes: pushed.bytes, waiting });
        }
    }

    fn leave(&self, stop: &Stop, tell: &mut dyn FnMut(&Event)) {
        let mut state = self.shared.state();
        state.leaving = true;
        self.shared.changed.notify_all();
        while state.busy && stop.urgency() < Urgency::Now {
            let (done, total) = state.under_way;
            drop(state);
            tell(&Event::Sending { layer: self.shared.layer.clone(), done, total });
            state = self.shared.wait(self.shared.state(), TICK);
        }
        state.leaving = false;
    }

    /// Ends it, once nobody needs it any more.
    pub fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, longest: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self) {
        let mut there = BTreeSet::new();
        while self.next() {
            let done = self.deliver(&mut there);
            let mut state = self.state();
            state.under_way = (0, 0);
            (state.pushes, state.rest) = (state.pushes + 1, Some(Stopwatch::start()));
            match done {
                Ok(()) => state.pause = None,
                Err(why) => state.fail(&self.layer, &why),
            }
            state.busy = state.news && state.rested() && !state.leaving;
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to do; `false` where there never will be.
    fn next(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.closed {
                state.busy = false;
                return false;
            }
            if state.busy || (state.news && state.rested() && !state.leaving) {
                (state.busy, state.news) = (true, false);
                return true;
            }
            let longest = if state.news { state.still() } else { PAUSE.1 };
            state = self.wait(state, longest.max(TICK));
        }
    }

    /// Sends one batch.
    fn deliver(&self, there: &mut BTreeSet<(RecipeKey, Realisation)>) -> Result<(), String> {
        let told = |error: CacheError| error.to_string();
        let mut waiting = self.store.waiting(&self.layer).map_err(told)?;
        if waiting.len() > BATCH {
            waiting.truncate(BATCH);
            self.state().news = true;
        }
        let mut batches = [(Repair::No, Vec::new()), (Repair::Yes, Vec::new())];
        for Waiting { record, repair } in waiting {
            let whole = record.outputs.values().all(|output| self.store.present(&output.artifact));
            match whole {
                true => batches[usize::from(repair == Repair::Yes)].1.push(record),
                false => self.give_up(&record, "its bytes are not in the cache any more")?,
            }
        }
        let mut layer = None;
        for (repair, records) in batches.into_iter().filter(|(_, records)| !records.is_empty()) {
            let layer: &Layer = match &mut layer {
                Some(layer) => layer,
                none => none.insert(layers::open_to_write(&self.layer, &self.url).map_err(|error| error.message)?),
            };
            let parcel = Parcel::of(&self.store, records, &self.key, &|recipe, made| there.contains(&(*recipe, *made)));
            self.send(layer, &parcel.map_err(told)?, repair, there).map_err(told)?;
        }
        Ok(())
    }

    fn send(
        &self,
        layer: &Layer,
        parcel: &Parcel,
        repair: Repair,
        there: &mut BTreeSet<(RecipeKey, Realisation)>,
    ) -> Result<(), CacheError> {
        let progress = |progress| match progress {
            Progress::Total(bytes) => self.state().under_way = (0, bytes),
            Progress::Hashed(bytes) => self.state().under_way.0 += bytes,
        };
        let go_on = || !self.state().leaving;
        let shipment = Shipment { repair, at_once: 1, progress: &progress, go_on: &go_on, ..Shipment::of(parcel) };
        let shipped = layer.ship(&self.store, shipment)?;
        let lost = shipped.lost.first().map(ToString::to_string);
        for signed in &parcel.records {
            let record = signed.record();
            if shipped.there.contains(&(record.recipe, record.action)) {
                self.store.sent(&self.layer, &record.recipe, &record.action)?;
                there.insert((record.recipe, record.realisation()));
            } else if let (Some(why), true) = (&lost, go_on()) {
                // Nothing else has kept it from being sent.
                self.store.sent(&self.layer, &record.recipe, &record.action)?;
                self.warn(format!("`{}` is not sent to `{}`: {why}", record.step, self.layer));
            }
        }
        there.extend(parcel.ancestors.iter().map(|signed| (signed.record().recipe, signed.record().realisation())));
        self.note(&shipped.pushed, shipped.there.len());
        Ok(())
    }

    fn give_up(&self, record: &ActionRecord, why: &str) -> Result<(), String> {
        self.warn(format!("`{}` is not sent to `{}`: {why}", record.step, self.layer));
        self.store.sent(&self.layer, &record.recipe, &record.action).map_err(|error| error.to_string())
    }

    fn note(&self, pushed: &Pushed, results: usize) {
        let mut state = self.state();
        if pushed.unconditional && !state.pushed.unconditional {
            let message = unconditional(&self.layer);
            state.told.push(Event::Warning { message });
        }
        state.results += results;
        state.pushed = state.pushed.and(*pushed);
    }

    fn warn(&self, message: String) {
        self.state().told.push(Event::Warning { message });
    }
}

impl State {
    fn rested(&self) -> bool {
        self.still().is_zero()
    }

    /// How long the layer is to be left alone from now.
    fn still(&self) -> Duration {
        let (free, longer, longest) = REST;
        let rest = (longer * self.pushes.saturating_sub(free)).min(longest);
        let rest = self.rest.map_or(Duration::ZERO, |since| rest.saturating_sub(since.elapsed()));
        self.pause.map_or(rest, |(since, pause)| pause.saturating_sub(since.elapsed()).max(rest))
    }

    /// Told once, until something was sent again.
    fn fail(&mut self, layer: &str, why: &str) {
        let longer = self.pause.map(|(_, pause)| (pause * 2).min(PAUSE.1));
        if longer.is_none() {
            let message = format!("nothing is sent to `{layer}` just now: {why}; what waits is kept, and sent later");
            self.told.push(Event::Warning { message });
        }
        self.pause = Some((Stopwatch::start(), longer.unwrap_or(PAUSE.0)));
        self.news = true;
    }
}

/// What is told of a layer whose store lets a later record take the place of the first.
pub fn unconditional(layer: &str) -> String {
    format!(
        "the store of `{layer}` ignores conditional puts: of two results of one step that are pushed at once, the later \
         takes the place of the first"
    )
}
