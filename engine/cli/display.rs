//! What a run looks like while it goes on: bars on a terminal, plain lines elsewhere, or one JSON event a line.
//! Sees nothing but events.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use plumb_engine::clock::Stopwatch;
use plumb_engine::event::{self, Event};
use plumb_engine::explain;
use plumb_engine::growth;
use plumb_engine::protocol::StepEvent;

use crate::meter::Meter;
use crate::paint::Tone;
use crate::printer::Printer;
use crate::units;

/// How often a long step is told again where there are no bars.
const AGAIN: Duration = Duration::from_secs(10);

/// After this time a download is told.
const SOON: Duration = Duration::from_secs(2);

/// How a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// For people: what happens.
    People,
    /// For people: every hit, and what the steps say, too.
    Verbose,
    /// One JSON event a line on stdout.
    Json,
}

/// A running step on the screen.
struct Running {
    meter: Meter,
    watch: Stopwatch,
    told: Duration,
    bar: Option<ProgressBar>,
}

/// A source on its way.
struct Fetch {
    watch: Stopwatch,
    told: Duration,
    bar: Option<ProgressBar>,
}

/// The screen of one run.
pub struct Display {
    printer: Printer,
    manner: Manner,
    bars: Option<Bars>,
    running: BTreeMap<String, Running>,
    fetches: BTreeMap<String, Fetch>,
}

/// The line that counts steps, under the bars of the running ones.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
}

impl Display {
    /// A screen for one run.
    pub fn new(printer: Printer, manner: Manner) -> Self {
        let bars = printer.bars().filter(|_| manner != Manner::Json).cloned().map(Bars::new);
        Self { printer, manner, bars, running: BTreeMap::new(), fetches: BTreeMap::new() }
    }

    /// Tells what happened.
    pub fn tell(&mut self, event: &Event) {
        if self.manner == Manner::Json {
            return self.printer.json_line(event);
        }
        match event {
            Event::Planned { steps, hits, runs, may_run } => self.planned(*steps, *hits, *runs, *may_run),
            Event::Fetching { source, from, done, total } => {
                self.transfer("fetch", source, ("from", from), *done, *total)
            }
            Event::Sending { layer, done, total } => self.transfer("send", layer, ("to", layer), *done, Some(*total)),
            Event::Sent { .. } => self.sent(),
            Event::Fetched { source, from, bytes, took } => {
                self.fetched(source, from, *bytes, *took);
            }
            Event::Hit { step, saved, after_inputs } => self.hit(step, *saved, *after_inputs),
            Event::Waiting { step, holder } => self.line(Tone::Warn, "waiting", step, &format!("for {holder}")),
            Event::Started { step, why, attempt, .. } => {
                let reason = why.first().map_or(String::new(), explain::sentence);
                let again = if *attempt > 1 { format!("attempt {attempt}") } else { reason };
                self.started(step, &again);
            }
            Event::Step { step, event } => self.said(step, event),
            Event::Finished { step, took, unchanged, .. } => self.finished(step, *took, *unchanged),
            Event::Retried { step, error, pause, .. } => {
                self.ended(step, false);
                let pause = if pause.is_zero() { String::new() } else { format!("; in {}", units::duration(*pause)) };
                self.line(Tone::Warn, "again", step, &format!("{error}{pause}"));
            }
            Event::Failed { step, error, took, .. } => {
                self.ended(step, true);
                self.line(Tone::Bad, "failed", step, &format!("after {}: {error}", units::duration(*took)));
            }
            Event::Skipped { step, because } => {
                self.count_one();
                let because = match because.as_str() {
                    event::STOPPED => "the run was stopped".into(),
                    event::CHANGED => "the pipeline has changed".into(),
                    step => format!("`{step}` failed"),
                };
                self.line(Tone::Faint, "skipped", step, &because);
            }
            Event::Warning { message } => self.printer.warning(message),
            Event::Grown { .. } => self.grown(event),
            Event::Published { output, path } => self.line(Tone::Good, "wrote", output, &format!("to {path}")),
            Event::Done { .. } => self.close(),
        }
    }

    /// Takes the bars off the screen; nothing is told afterwards.
    pub fn close(&mut self) {
        let fetches = std::mem::take(&mut self.fetches).into_values().filter_map(|fetch| fetch.bar);
        let running = std::mem::take(&mut self.running).into_values().filter_map(|running| running.bar);
        fetches.chain(running).for_each(|bar| bar.finish_and_clear());
        if let Some(bars) = self.bars.take() {
            bars.total.finish_and_clear();
        }
    }

    fn grown(&self, event: &Event) {
        if let Some((axis, told)) = growth::sentence(event).as_deref().and_then(|told| told.split_once(": ")) {
            self.line(Tone::Strong, "grow", axis, told);
        }
    }

    fn planned(&mut self, steps: usize, hits: usize, runs: usize, may_run: usize) {
        if let Some(bars) = &self.bars {
            bars.total.set_length(steps as u64);
        }
        let may = if may_run > 0 { format!(", {may_run} may run") } else { String::new() };
        let counts = format!("{hits} in the cache, {runs} to run{may}");
        self.line(Tone::Strong, "plan", &units::plural(steps, "step"), &counts);
    }

    // A download of a moment is told once, when it is over.
    fn transfer(&mut self, verb: &str, name: &str, (word, place): (&str, &str), done: u64, total: Option<u64>) {
        let fetch = match self.fetches.entry(name.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let bar = self.bars.as_ref().map(|bars| bars.transfer(verb, name));
                new.insert(Fetch { watch: Stopwatch::start(), told: Duration::ZERO, bar })
            }
        };
        let at = fetch.watch.elapsed();
        let text = match total {
            Some(total) => format!("{} of {}", units::size(done), units::size(total)),
            None => units::size(done),
        };
        let soon = if fetch.told.is_zero() { SOON } else { AGAIN };
        if let Some(bar) = &fetch.bar {
            total.into_iter().for_each(|total| bar.set_length(total));
            bar.set_position(done);
            bar.set_message(text);
        } else if at.saturating_sub(fetch.told) >= soon {
            fetch.told = at;
            self.line(Tone::Strong, verb, name, &format!("{text} {word} {place}"));
        }
    }

    // What was sent is told when all is over.
    fn sent(&mut self) {
        let bars = std::mem::take(&mut self.fetches).into_values().filter_map(|fetch| fetch.bar);
        bars.for_each(|bar| bar.finish_and_clear());
    }

    fn fetched(&mut self, source: &str, from: &str, bytes: u64, took: Duration) {
        if let Some(bar) = self.fetches.remove(source).and_then(|fetch| fetch.bar) {
            bar.finish_and_clear();
        }
        let told = format!("{} from {from} in {}", units::size(bytes), units::duration(took));
        self.line(Tone::Good, "fetched", source, &told);
    }

    // A thousand hits found by the plan are one number; a hit found because an input came out as before is news.
    fn hit(&mut self, step: &str, saved: Duration, after_inputs: bool) {
        self.count_one();
        let told = if after_inputs { "its inputs came out as before; saved" } else { "saved" };
        if after_inputs || self.manner == Manner::Verbose {
            self.line(Tone::Good, "hit", step, &format!("{told} {}", units::duration(saved)));
        }
    }

    fn started(&mut self, step: &str, why: &str) {
        let bar = self.bars.as_ref().map(|bars| bars.step(step));
        if bar.is_none() || self.manner == Manner::Verbose {
            self.line(Tone::Strong, "start", step, why);
        }
        let running = Running { meter: Meter::default(), watch: Stopwatch::start(), told: Duration::ZERO, bar };
        self.running.insert(step.to_owned(), running);
    }

    fn said(&mut self, step: &str, event: &StepEvent) {
        if let StepEvent::Log { message } = event
            && self.manner == Manner::Verbose
        {
            self.line(Tone::Faint, "says", step, message);
        }
        if let StepEvent::Attached { process } = event {
            let kept = process.map_or("it has ended meanwhile".into(), |process| format!("process {process} runs it"));
            self.line(Tone::Strong, "attach", step, &format!("to the detached step: {kept}"));
        }
        let Some(running) = self.running.get_mut(step) else { return };
        let at = running.watch.elapsed();
        running.meter.take(event, at);
        match &running.bar {
            Some(bar) => show(bar, &running.meter),
            None if at.saturating_sub(running.told) >= AGAIN => {
                running.told = at;
                let text = running.meter.text();
                self.line(Tone::Faint, "runs", step, &text);
            }
            None => {}
        }
    }

    fn finished(&mut self, step: &str, took: Duration, unchanged: bool) {
        self.ended(step, true);
        let same = if unchanged { "the same bytes as before, " } else { "" };
        self.line(Tone::Good, "done", step, &format!("{same}{}", units::duration(took)));
    }

    fn ended(&mut self, step: &str, counts: bool) {
        if let Some(bar) = self.running.remove(step).and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
        if counts {
            self.count_one();
        }
    }

    fn count_one(&self) {
        if let Some(bars) = &self.bars {
            bars.total.inc(1);
        }
    }

    fn line(&self, tone: Tone, verb: &str, step: &str, rest: &str) {
        let verb = self.printer.note_paint().text(tone, &format!("{verb:>7}"));
        self.printer.note(format!("{verb}  {step}  {rest}").trim_end());
    }
}

impl Bars {
    fn new(all: MultiProgress) -> Self {
        let total = all.add(ProgressBar::new(0));
        total.set_style(style("  {elapsed_precise}  {bar:24}  {pos}/{len} steps"));
        total.enable_steady_tick(Duration::from_millis(200));
        Self { all, total }
    }

    // A step that says nothing of itself shows how long it runs.
    fn step(&self, name: &str) -> ProgressBar {
        let bar = self.all.insert_before(&self.total, ProgressBar::no_length());
        bar.set_style(style("  {spinner} {prefix}  {elapsed}  {msg}"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn transfer(&self, verb: &str, name: &str) -> ProgressBar {
        let bar = self.all.insert_before(&self.total, ProgressBar::no_length());
        bar.set_style(style("  {spinner} {prefix}  {bar:24}  {msg}  {binary_bytes_per_sec}"));
        bar.set_prefix(format!("{verb} {name}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn show(bar: &ProgressBar, meter: &Meter) {
    if let Some(total) = meter.total {
        if bar.length() != Some(total) {
            bar.set_style(style("  {spinner} {prefix}  {bar:24}  {msg}"));
            bar.set_length(total);
        }
        bar.set_position(meter.done);
    }
    bar.set_message(meter.text());
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well-formed").progress_chars("━╸ ")
}
