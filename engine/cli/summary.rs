//! What a run did, told once it is over: what ran and why, what was a hit and what that saved, what failed with the
//! end of its log. Gathered from events alone.

use std::collections::BTreeMap;
use std::time::Duration;

use plumb_engine::event::{Cause, Event, Spent};
use plumb_engine::explain;

use crate::paint::Tone;
use crate::printer::Printer;
use crate::table::{Cell, Table};
use crate::units;

/// Rows of a table before it is cut: more than a screen tells nobody anything.
const ROWS: usize = 40;
/// Lines of a failed step's log that are shown.
const LOG_LINES: usize = 15;

/// The course of one run.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    reasons: BTreeMap<String, Vec<Cause>>,
    ran: Vec<Ran>,
    /// Stage -> number of hits and what they saved.
    hits: BTreeMap<String, (usize, Duration)>,
    failures: Vec<Failure>,
    skipped: Vec<String>,
    done: Option<Done>,
    spent: Spent,
    /// Lines about what was sent to a layer.
    sent: Vec<String>,
}

#[derive(Debug, Clone)]
struct Ran {
    step: String,
    took: Duration,
    unchanged: bool,
}

#[derive(Debug, Clone)]
struct Failure {
    step: String,
    error: String,
    hint: Option<String>,
    log: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Done {
    took: Duration,
    saved: Duration,
}

impl Summary {
    /// Takes in what happened.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Started { step, why, .. } => {
                self.reasons.insert(step.clone(), why.clone());
            }
            Event::Finished { step, took, unchanged, spent } => {
                self.spent = self.spent.and(spent);
                self.ran.push(Ran { step: step.clone(), took: *took, unchanged: *unchanged });
            }
            Event::Hit { step, saved, .. } => {
                let (number, time) = self.hits.entry(stage(step).to_owned()).or_default();
                *number += 1;
                *time += *saved;
            }
            Event::Failed { step, error, hint, log, .. } => {
                let (step, error, hint, log) = (step.clone(), error.clone(), hint.clone(), log.clone());
                self.failures.push(Failure { step, error, hint, log });
            }
            Event::Sent { layer, results, bytes, waiting } => self.sent.extend(sent(layer, *results, *bytes, *waiting)),
            Event::Skipped { step, .. } => self.skipped.push(step.clone()),
            Event::Done { took, saved, .. } => self.done = Some(Done { took: *took, saved: *saved }),
            _ => {}
        }
    }

    /// What its steps took, one after another.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Whether a step was started.
    pub fn began(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Tells it: the failures last, where the eye is.
    pub fn tell(&self, printer: &Printer) {
        let table = self.table();
        if !self.ran.is_empty() {
            printer.note("");
            printer.note_table(&table);
        }
        for failure in &self.failures {
            failure.tell(printer);
        }
        printer.note("");
        printer.note(&self.line());
        self.tell_sent(printer);
    }

    /// Only what was sent to a layer.
    pub fn tell_sent(&self, printer: &Printer) {
        self.sent.iter().for_each(|line| printer.note(line));
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["step", "", "time", "why"]);
        for Ran { step, took, unchanged } in self.ran.iter().take(ROWS) {
            let ran = if *unchanged { "ran, same bytes" } else { "ran" };
            let time = Cell::number(units::duration(*took));
            table.row([step.into(), Cell::toned(Tone::Good, ran), time, self.reason(step).into()]);
        }
        if self.ran.len() > ROWS {
            table.row([format!("and {} more", units::count((self.ran.len() - ROWS) as u64))]);
        }
        for (stage, (number, saved)) in self.hits.iter().take(ROWS) {
            let hits = Cell::toned(Tone::Faint, units::plural(*number, "hit"));
            table.row([stage.into(), hits, Cell::number(units::duration(*saved)), "saved".into()]);
        }
        table
    }

    fn reason(&self, step: &str) -> String {
        self.reasons.get(step).map_or(String::new(), |causes| reason(causes))
    }

    fn line(&self) -> String {
        let hits: usize = self.hits.values().map(|(number, _)| number).sum();
        let ran = match self.ran.len() {
            0 if self.failures.is_empty() && self.skipped.is_empty() => "nothing to run".to_owned(),
            number => format!("ran {}", units::plural(number, "step")),
        };
        let mut told = vec![match self.done {
            Some(done) => format!("{ran} in {}", units::duration(done.took)),
            None => ran,
        }];
        if hits > 0 {
            let saved = self.done.map_or(String::new(), |done| format!(" saved {}", units::duration(done.saved)));
            told.push(format!("{}{saved}", units::plural(hits, "hit")));
        }
        for (number, word) in [(self.failures.len(), "failed"), (self.skipped.len(), "skipped")] {
            if number > 0 {
                told.push(format!("{number} {word}"));
            }
        }
        told.join(", ")
    }
}

fn sent(layer: &str, results: usize, bytes: u64, waiting: usize) -> Vec<String> {
    let sent = format!("sent {} ({}) to `{layer}`", units::plural(results, "result"), units::size(bytes));
    let wait = if waiting == 1 { "1 result waits".into() } else { format!("{waiting} results wait") };
    let wait = format!("{wait} for `{layer}`: sent with the next run, or by `plumb cache push`");
    [(results, sent), (waiting, wait)].into_iter().filter(|(count, _)| *count > 0).map(|(_, line)| line).collect()
}

/// The first of several causes, with how many more there are.
pub fn reason(causes: &[Cause]) -> String {
    let Some((first, others)) = causes.split_first() else { return String::new() };
    let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
    format!("{}{more}", explain::sentence(first))
}

impl Failure {
    fn tell(&self, printer: &Printer) {
        printer.note("");
        printer.error(&format!("step `{}` failed: {}", self.step, self.error), None);
        if let Some(log) = &self.log {
            for line in last_lines(log) {
                printer.note(&format!("  {} {line}", printer.note_paint().text(Tone::Faint, "|")));
            }
            printer.note(&format!("  log: {log}"));
        }
        if let Some(hint) = &self.hint {
            printer.hint(hint);
        }
    }
}

// A log is for the eyes: one that cannot be read is not worth a second error.
fn last_lines(log: &str) -> Vec<String> {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

fn stage(address: &str) -> &str {
    address.split_once('@').map_or(address, |(stage, _)| stage)
}
