//! The history on disk: `runs/<run id>/` of the cache holds `run.json` (what was asked and how it ended),
//! `events.jsonl` (every event with its time; progress ticks are left out) and `logs/`. Diagnostics only: no key and
//! no result ever reads it.

mod recorder;
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use plumb_cache::Store;
pub use recorder::Recorder;
use serde::{Deserialize, Serialize};
pub use steps::{StepLine, StepOutcome, steps};

use crate::error::EngineError;
use crate::event::Event;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every goal is present.
    Done,
    /// A step failed.
    Failed,
    /// The user stopped it.
    Stopped,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Sorts by time.
    pub id: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The pipeline file.
    pub file: PathBuf,
    /// What was typed.
    pub command: Vec<String>,
    /// RFC 3339.
    pub started_at: String,
    /// Process of the runner.
    pub process: u32,
    /// The machine that it runs on; empty in histories of before.
    #[serde(default)]
    pub host: String,
    /// How it ended; `None` while it goes on, or if the runner was killed.
    pub outcome: Option<Outcome>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that were hits.
    pub hits: usize,
    /// Steps that failed.
    pub failed: usize,
    /// Steps that were skipped.
    pub skipped: usize,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// What the hits would have cost, in seconds.
    pub saved_seconds: f64,
}

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// Seconds since the run started.
    pub at: f64,
    /// What happened.
    pub event: Event,
}

/// A step's address as a file name. Labels may hold anything, so what is odd is replaced and told apart by digest.
fn log_name(step: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "@=,._-".contains(letter);
    let name: String = step.chars().map(|letter| if plain(letter) { letter } else { '_' }).take(120).collect();
    if name == step {
        format!("{name}.log")
    } else {
        format!("{name}-{}.log", plumb_cache::Digest::of(step.as_bytes()).short())
    }
}

/// The runs of a pipeline (or of all), newest first. A header that does not read is left out.
pub fn runs(store: &Store, pipeline: Option<&str>) -> Result<Vec<RunHeader>, EngineError> {
    let folder = store.runs_folder();
    let listed = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(EngineError::io("list", &folder))?,
    };
    let read = |path: PathBuf| serde_json::from_slice::<RunHeader>(&fs::read(path.join("run.json")).ok()?).ok();
    let mut found: Vec<RunHeader> = listed.flatten().filter_map(|entry| read(entry.path())).collect();
    found.retain(|header| pipeline.is_none_or(|name| header.pipeline == name));
    found.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(found)
}

/// The run whose id begins so; `None` where there is none, or more than one.
pub fn find(store: &Store, id: &str) -> Result<Option<RunHeader>, EngineError> {
    let mut found = runs(store, None)?.into_iter().filter(|run| run.id.starts_with(id));
    let first = found.next();
    Ok(first.filter(|_| found.next().is_none()))
}

/// The log of a step from a run, where one is kept.
pub fn log_in(store: &Store, run: &str, step: &str) -> Option<PathBuf> {
    let log = store.runs_folder().join(run).join("logs").join(log_name(step));
    log.is_file().then_some(log)
}

/// The log of a step from the last run that started it, where one is kept.
pub fn last_log(store: &Store, pipeline: &str, step: &str) -> Result<Option<PathBuf>, EngineError> {
    Ok(runs(store, Some(pipeline))?.into_iter().find_map(|run| log_in(store, &run.id, step)))
}

/// The events of a run, in order. A line that a killed runner left half-written is left out.
pub fn events(store: &Store, run: &str) -> Result<Vec<TimedEvent>, EngineError> {
    let path = store.runs_folder().join(run).join("events.jsonl");
    let text = fs::read_to_string(&path).map_err(EngineError::io("read the history", &path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// What became of a step in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepStatus {
    /// Its result was in the cache.
    Hit {
        /// What computing it took.
        saved: Duration,
    },
    /// It was running when the history ends.
    Running,
    /// It ran.
    Finished {
        /// Wall time.
        took: Duration,
    },
    /// It failed.
    Failed {
        /// What went wrong.
        error: String,
        /// What the user can do.
        hint: Option<String>,
        /// Where its log lies.
        log: Option<String>,
        /// Wall time.
        took: Duration,
    },
    /// It was not run.
    Skipped {
        /// The failed step, or `stopped`.
        because: String,
    },
}

/// The last that is known of each step in a run.
pub fn status(events: &[TimedEvent]) -> BTreeMap<String, StepStatus> {
    let mut steps = BTreeMap::new();
    for TimedEvent { event, .. } in events {
        let (step, status) = match event.clone() {
            Event::Hit { step, saved, .. } => (step, StepStatus::Hit { saved }),
            Event::Started { step, .. } => (step, StepStatus::Running),
            Event::Finished { step, took, .. } => (step, StepStatus::Finished { took }),
            Event::Failed { step, error, hint, log, took, .. } => (step, StepStatus::Failed { error, hint, log, took }),
            Event::Skipped { step, because } => (step, StepStatus::Skipped { because }),
            _ => continue,
        };
        steps.insert(step, status);
    }
    steps
}

/// A run and what became of its steps.
pub type RunStatus = (RunHeader, BTreeMap<String, StepStatus>);

/// The last run of a pipeline.
pub fn last_status(store: &Store, pipeline: &str) -> Result<Option<RunStatus>, EngineError> {
    let Some(header) = runs(store, Some(pipeline))?.into_iter().next() else { return Ok(None) };
    let status = status(&events(store, &header.id)?);
    Ok(Some((header, status)))
}

/// What each step of a pipeline took when it last ran to its end, over all runs kept: for estimates.
pub fn durations(store: &Store, pipeline: &str) -> Result<BTreeMap<String, Duration>, EngineError> {
    let mut known = BTreeMap::new();
    for run in runs(store, Some(pipeline))?.iter().rev() {
        for TimedEvent { event, .. } in events(store, &run.id)? {
            if let Event::Finished { step, took, .. } = event {
                known.insert(step, took);
            }
        }
    }
    Ok(known)
}

/// How many runs are read for the durations that put steps in order.
const RECENT: usize = 5;

/// What each step took when it last ran to its end in one of the last few runs: to put steps in order. A history that
/// cannot be read gives no durations.
pub fn recent_durations(store: &Store, pipeline: &str) -> BTreeMap<String, Duration> {
    let mut known = BTreeMap::new();
    let runs = runs(store, Some(pipeline)).unwrap_or_default();
    for run in runs.iter().filter(|run| run.ran > 0).take(RECENT) {
        for TimedEvent { event, .. } in events(store, &run.id).unwrap_or_default() {
            if let Event::Finished { step, took, .. } = event {
                known.entry(step).or_insert(took);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use plumb_cache::StoreOptions;

    use super::*;
    use crate::event::Spent;
    use crate::protocol::StepEvent;

    #[test]
    fn a_run_can_be_read_back_from_its_history() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let mut recorder = Recorder::start(&store, "demo", Path::new("demo.toml"), vec!["run".into()]).unwrap();
        let step = String::from("a@model=org/x");
        let took = Duration::from_secs(2);
        let tick = StepEvent::Progress { done: 1, total: None, unit: "rows".into() };
        let told = [
            Event::Started {
                step: step.clone(),
                kind: "command".into(),
                why: Vec::new(),
                attempt: 1,
                executor: "local".into(),
            },
            Event::Step { step: step.clone(), event: tick },
            Event::Finished { step: step.clone(), took, unchanged: false, spent: Spent::default() },
            Event::Done { ran: 1, hits: 0, failed: 0, skipped: 0, took, saved: Duration::ZERO },
        ];
        for event in &told {
            recorder.event(event).unwrap();
        }
        recorder.finish(Outcome::Done, &told[3]).unwrap();

        let (header, status) = last_status(&store, "demo").unwrap().unwrap();
        assert_eq!((header.ran, header.outcome, header.seconds), (1, Some(Outcome::Done), 2.0));
        assert_eq!(status, BTreeMap::from([(step.clone(), StepStatus::Finished { took })]));
        let kept: Vec<Event> = events(&store, &header.id).unwrap().into_iter().map(|timed| timed.event).collect();
        assert_eq!(kept, [told[0].clone(), told[2].clone(), told[3].clone()], "progress ticks are not kept");
        assert_eq!(durations(&store, "demo").unwrap(), BTreeMap::from([(step, took)]));
        assert!(runs(&store, Some("other")).unwrap().is_empty());
    }

    #[test]
    fn odd_labels_make_file_names_that_stay_apart() {
        assert_eq!(log_name("train@seed=3,kl=0.01"), "train@seed=3,kl=0.01.log");
        assert_ne!(log_name("a@m=x/y"), log_name("a@m=x:y"));
        assert!(!log_name("a@m=../../x").contains('/'));
    }
}
