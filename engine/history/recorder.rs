//! Writes the history of one run. Events are for the eyes: trouble with them is told once and fails no run.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use plumb_cache::Store;

use super::{Outcome, RunHeader, TimedEvent, log_name};
use crate::clock::{self, Stopwatch};
use crate::error::EngineError;
use crate::event::Event;
use crate::maker;
use crate::protocol::StepEvent;

/// What earlier turns of a run did.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    ran: usize,
    seconds: f64,
    /// `None` in the first turn.
    saved_seconds: Option<f64>,
}

/// Writes the history of one run. Events are for the eyes: trouble with them is told once and fails no run.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    header: RunHeader,
    events: BufWriter<File>,
    watch: Stopwatch,
    /// As an earlier turn left it.
    before: Before,
    failing: bool,
}

impl Recorder {
    /// Makes the folder of a new run and writes its header.
    pub fn start(store: &Store, pipeline: &str, file: &Path, command: Vec<String>) -> Result<Self, EngineError> {
        let process = std::process::id();
        let (id, folder) = new_folder(&store.runs_folder(), process)?;
        let logs = folder.join("logs");
        fs::create_dir(&logs).map_err(EngineError::io("make the folder", &logs))?;
        let path = folder.join("events.jsonl");
        let events = File::create(&path).map_err(EngineError::io("write the history", &path))?;
        let header = RunHeader {
            id,
            pipeline: pipeline.into(),
            file: file.into(),
            command,
            started_at: clock::now(),
            process,
            host: maker::host(),
            outcome: None,
            ran: 0,
            hits: 0,
            failed: 0,
            skipped: 0,
            seconds: 0.0,
            saved_seconds: 0.0,
        };
        let watch = Stopwatch::start();
        let recorder =
            Self { folder, header, events: BufWriter::new(events), watch, before: Before::default(), failing: false };
        recorder.write_header()?;
        Ok(recorder)
    }

    /// A new run, or a further turn of one; `None` where the cache cannot be written.
    pub fn open(
        store: &Store,
        (pipeline, file): (&str, &Path),
        command: Vec<String>,
        turn_of: Option<&str>,
    ) -> Result<Option<Self>, EngineError> {
        match turn_of {
            _ if !store.writable() => Ok(None),
            Some(run) => Self::resume(store, run).map(Some),
            None => Self::start(store, pipeline, file, command).map(Some),
        }
    }

    /// Goes on with the history of a run that took a turn before: an axis that grows is measured turn by turn.
    fn resume(store: &Store, id: &str) -> Result<Self, EngineError> {
        let folder = store.runs_folder().join(id);
        let path = folder.join("run.json");
        let text = fs::read(&path).map_err(EngineError::io("read the history", &path))?;
        let header: RunHeader = serde_json::from_slice(&text).map_err(|error| EngineError::Bug(error.to_string()))?;
        let before = Before { ran: header.ran, seconds: header.seconds, saved_seconds: Some(header.saved_seconds) };
        let path = folder.join("events.jsonl");
        let events =
            OpenOptions::new().append(true).open(&path).map_err(EngineError::io("write the history", &path))?;
        let header = RunHeader { outcome: None, ..header };
        let (events, watch) = (BufWriter::new(events), Stopwatch::start());
        let recorder = Self { folder, header, events, watch, before, failing: false };
        recorder.write_header()?;
        Ok(recorder)
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// Where a step's log goes.
    pub fn log_of(&self, step: &str) -> PathBuf {
        self.folder.join("logs").join(log_name(step))
    }

    /// Appends an event; `Err` says once that the history cannot be written.
    pub fn event(&mut self, event: &Event) -> Result<(), EngineError> {
        let ticks = matches!(event, Event::Fetching { .. } | Event::Sending { .. });
        if ticks || matches!(event, Event::Step { event: StepEvent::Progress { .. }, .. }) {
            return Ok(());
        }
        let at = self.before.seconds + self.watch.elapsed().as_secs_f64();
        let timed = TimedEvent { at, event: event.clone() };
        let written = serde_json::to_vec(&timed).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.events.write_all(&line)
        });
        self.told(written)
    }

    /// Writes what was appended, so that another process sees it.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        let flushed = self.events.flush();
        self.told(flushed)
    }

    fn told(&mut self, result: std::io::Result<()>) -> Result<(), EngineError> {
        let first = !std::mem::replace(&mut self.failing, result.is_err());
        let path = self.folder.join("events.jsonl");
        if first { result.map_err(EngineError::io("write the history", &path)) } else { Ok(()) }
    }

    /// Closes the history with the run's outcome and its `Done` event.
    pub fn finish(&mut self, outcome: Outcome, done: &Event) -> Result<(), EngineError> {
        if let Event::Done { ran, hits, failed, skipped, took, saved } = done {
            let (header, before) = (&mut self.header, self.before);
            // What an earlier turn made is a hit of this one, and none of the whole run.
            (header.ran, header.hits) = (before.ran + ran, hits.saturating_sub(before.ran));
            (header.failed, header.skipped) = (*failed, *skipped);
            header.seconds = before.seconds + took.as_secs_f64();
            header.saved_seconds = before.saved_seconds.unwrap_or(saved.as_secs_f64());
        }
        self.header.outcome = Some(outcome);
        self.flush()?;
        self.write_header()
    }

    fn write_header(&self) -> Result<(), EngineError> {
        let path = self.folder.join("run.json");
        let text = serde_json::to_vec_pretty(&self.header).map_err(|error| EngineError::Bug(error.to_string()))?;
        let temporary = self.folder.join(".run.json.tmp");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(EngineError::io("write the history", &path))
    }
}

fn new_folder(runs: &Path, process: u32) -> Result<(String, PathBuf), EngineError> {
    fs::create_dir_all(runs).map_err(EngineError::io("make the folder", runs))?;
    let stamp = clock::stamp();
    for again in 0_u32.. {
        let more = if again == 0 { String::new() } else { format!("-{again}") };
        let id = format!("{stamp}-{process}{more}");
        let folder = runs.join(&id);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok((id, folder)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(EngineError::io("make the folder", &folder)(error)),
        }
    }
    Err(EngineError::Bug("no run id is free".into()))
}
