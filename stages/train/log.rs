//! What a training run leaves behind step by step: `steps.jsonl`, `chain.jsonl`, `metrics.json`, `trainer_state.json`,
//! `tensorboard/`, and the checkpoint from which it continues. Holds no clock: times are the runner's matter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chain::{Link, Met};
use super::tensorboard;
use crate::jsonl;
use crate::model::{Model, StepReport};
use crate::stats::items::Metrics;

/// Metric -> value, under TRL's names.
pub type Values = BTreeMap<String, f64>;

/// One line of `steps.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Counted from 1.
    pub step: u64,
    /// Metric -> value.
    pub metrics: Values,
}

/// One logged completion of a reinforcement-learning step (a diagnostic).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionRow {
    /// Counted from 1.
    pub step: u64,
    /// The pair or task.
    pub id: String,
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub completion: String,
    /// What that was worth; `null` where it was masked.
    pub reward: Option<f64>,
    /// Its advantage in its group.
    pub advantage: f64,
}

/// The rows so far.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// One a step.
    pub steps: Vec<StepRow>,
    /// One a step.
    pub chain: Vec<Link>,
    /// A few a step.
    pub completions: Vec<CompletionRow>,
    /// Prompts drawn so far: where a run that leaves some out goes on in its data.
    #[serde(default)]
    pub drawn: usize,
}

/// Checkpoints in a whole run: often enough that little is lost, rare enough that writing costs nothing.
const CHECKPOINTS: u64 = 10;

/// How often the weights' digest is taken: hashing costs a pass over all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Steps in all.
    pub max_steps: u64,
    /// Every so many steps, and after the last; 0 is only after the last.
    pub digest_steps: u64,
    /// Every so many steps a progress metric is sent.
    pub logging_steps: u64,
}

impl Pace {
    fn checkpoint_steps(self) -> u64 {
        self.max_steps.div_ceil(CHECKPOINTS).max(1)
    }
}

impl Log {
    /// Continues from the newest checkpoint in the state folder, or starts anew. Returns with the number of steps done.
    pub fn resume(model: &mut dyn Model, io: &Io) -> Result<(Self, u64), StageError> {
        let Some((step, folder)) = newest_checkpoint(io.state()) else { return Ok((Self::default(), 0)) };
        let log: Self = jsonl::read_json(&folder.join("log.json"))?;
        model.resume(&folder)?;
        io.log(format!("continuing after step {step}"));
        Ok((log, step))
    }

    /// Tokens that the model has learnt from so far.
    pub fn tokens(&self) -> f64 {
        self.steps.last().and_then(|row| row.metrics.get("num_tokens")).copied().unwrap_or_default()
    }

    /// Takes down a finished step, tells the runner, and writes a checkpoint when one is due.
    pub fn finish(
        &mut self,
        step: u64,
        met: Met,
        metrics: Values,
        pace: Pace,
        model: &dyn Model,
        io: &Io,
    ) -> Result<(), StageError> {
        self.finish_with(step, (met, metrics), pace, (model, None), io)
    }

    /// [`Log::finish`] where a checkpoint holds a reference too, under [`REFERENCE`].
    pub fn finish_with(
        &mut self,
        step: u64,
        told: (Met, Values),
        pace: Pace,
        (model, reference): (&dyn Model, Option<&dyn Model>),
        io: &Io,
    ) -> Result<(), StageError> {
        self.finish_beside(step, told, pace, (model, reference.map(Beside::Reference)), io)
    }

    /// [`Log::finish`] where a checkpoint holds a second model that learns, under [`LEARNER`].
    pub fn finish_with_learner(
        &mut self,
        step: u64,
        told: (Met, Values),
        pace: Pace,
        (model, learner): (&dyn Model, &dyn Model),
        io: &Io,
    ) -> Result<(), StageError> {
        self.finish_beside(step, told, pace, (model, Some(Beside::Learner(learner))), io)
    }

    fn finish_beside(
        &mut self,
        step: u64,
        (met, metrics): (Met, Values),
        pace: Pace,
        (model, beside): (&dyn Model, Option<Beside>),
        io: &Io,
    ) -> Result<(), StageError> {
        let last = step == pace.max_steps;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let weights = (last || due(pace.digest_steps)).then(|| model.weights_digest());
        if last || due(pace.logging_steps.max(1)) {
            metrics.iter().for_each(|(name, value)| io.metric(step, name, *value));
        }
        self.chain.push(Link::after(self.chain.last(), step, met, &metrics, weights));
        self.steps.push(StepRow { step, metrics });
        io.progress(step, Some(pace.max_steps), "steps");
        if !last && due(pace.checkpoint_steps()) {
            self.checkpoint(step, model, beside, io)?;
        }
        Ok(())
    }

    // Renamed into place when complete, and only then are older ones removed: a kill at any moment leaves a whole one.
    fn checkpoint(&self, step: u64, model: &dyn Model, beside: Option<Beside>, io: &Io) -> Result<(), StageError> {
        let (unfinished, folder) = (io.state().join("unfinished"), io.state().join(format!("checkpoint-{step}")));
        let _ = std::fs::remove_dir_all(&unfinished);
        std::fs::create_dir_all(&unfinished).map_err(|error| StageError::file("create", &unfinished, &error))?;
        model.save_checkpoint(&unfinished)?;
        match beside {
            None => {}
            Some(Beside::Reference(reference)) => reference.save(&unfinished.join(REFERENCE))?,
            Some(Beside::Learner(learner)) => {
                let own = unfinished.join(LEARNER);
                std::fs::create_dir_all(&own).map_err(|error| StageError::file("create", &own, &error))?;
                learner.save_checkpoint(&own)?;
            }
        }
        jsonl::write_json(&unfinished.join("log.json"), self)?;
        let older = newest_checkpoint(io.state());
        std::fs::rename(&unfinished, &folder).map_err(|error| StageError::file("rename", &folder, &error))?;
        if let Some((_, older)) = older.filter(|(_, older)| *older != folder) {
            let _ = std::fs::remove_dir_all(older);
        }
        io.checkpoint(step);
        Ok(())
    }

    /// Writes `steps`, `chain`, `metrics`, `trainer_state` and `tensorboard`. Metrics are the last step's, and means over
    /// the last tenth of the run as `mean/NAME`, which one noisy step does not move.
    pub fn write(&self, pace: Pace, io: &Io) -> Result<(), StageError> {
        jsonl::write(io.output("steps")?, &self.steps)?;
        jsonl::write(io.output("chain")?, &self.chain)?;
        jsonl::write_json(io.output("metrics")?, &self.summary())?;
        jsonl::write_json(io.output("trainer_state")?, &self.trainer_state(pace))?;
        tensorboard::write(io.output("tensorboard")?, &self.steps)
    }

    fn summary(&self) -> Metrics {
        let mut summary = Metrics::new();
        let tail = &self.steps[self.steps.len() - self.steps.len().div_ceil(10)..];
        for (name, value) in self.steps.last().iter().flat_map(|row| &row.metrics) {
            let known: Vec<f64> = tail.iter().filter_map(|row| row.metrics.get(name)).copied().collect();
            summary.insert(name.clone(), Some(*value));
            summary.insert(format!("mean/{name}"), Some(known.iter().sum::<f64>() / known.len().max(1) as f64));
        }
        summary
    }

    // The fields of transformers' TrainerState, which refuses others.
    fn trainer_state(&self, pace: Pace) -> Value {
        let entry = |row: &StepRow| {
            let mut entry = json!(row.metrics);
            entry["step"] = json!(row.step);
            entry
        };
        let epoch = self.steps.last().and_then(|row| row.metrics.get("epoch")).copied();
        json!({
            "best_global_step": null,
            "best_metric": null,
            "best_model_checkpoint": null,
            "epoch": epoch,
            "eval_steps": 500,
            "global_step": self.steps.len(),
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.steps.iter().map(entry).collect::<Vec<_>>(),
            "logging_steps": pace.logging_steps,
            "max_steps": pace.max_steps,
            "num_input_tokens_seen": self.tokens() as u64,
            "num_train_epochs": epoch.map_or(0, |epoch| epoch.ceil() as u64),
            "save_steps": pace.checkpoint_steps(),
            "stateful_callbacks": {},
            "total_flos": 0,
            "train_batch_size": null,
            "trial_name": null,
            "trial_params": null,
        })
    }
}

/// The metrics that every optimiser step has.
pub fn of_report(report: &StepReport) -> Values {
    [
        ("loss", report.loss),
        ("grad_norm", report.grad_norm),
        ("learning_rate", report.learning_rate),
        ("entropy", report.entropy),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .chain(report.more.clone())
    .collect()
}

/// The folder of a checkpoint in which a reference lies that has moved.
const REFERENCE: &str = "reference";

/// The folder of a checkpoint in which a second model lies that learns.
const LEARNER: &str = "learner";

// What a checkpoint holds beside its model.
enum Beside<'a> {
    Reference(&'a dyn Model),
    Learner(&'a dyn Model),
}

/// Where the newest checkpoint keeps a second model that learns, if there is a checkpoint.
pub fn kept_learner(io: &Io) -> Option<PathBuf> {
    newest_checkpoint(io.state()).map(|(_, folder)| folder.join(LEARNER))
}

/// Where the newest checkpoint keeps a reference that has moved, if it does.
pub fn kept_reference(io: &Io) -> Option<PathBuf> {
    newest_checkpoint(io.state()).map(|(_, folder)| folder.join(REFERENCE)).filter(|folder| folder.exists())
}

/// Refuses a step whose loss or gradient is not finite: the update was not made.
pub fn check_finite<'a>(
    step: u64,
    report: &StepReport,
    items: impl IntoIterator<Item = &'a str>,
) -> Result<(), StageError> {
    if report.loss.is_finite() && report.grad_norm.is_finite() {
        return Ok(());
    }
    let items: Vec<&str> = items.into_iter().collect();
    let (loss, norm) = (report.loss, report.grad_norm);
    let fault = report.fault.as_ref().map_or(String::new(), |fault| format!(": {fault}"));
    let message = format!("step {step}: loss {loss}, gradient norm {norm}{fault}; items {}", items.join(", "));
    Err(StageError::new(message).hint(
        "lower `learning_rate`, or look at these items; the update was not made, and the last checkpoint is kept",
    ))
}

fn newest_checkpoint(state: &Path) -> Option<(u64, PathBuf)> {
    let entries = std::fs::read_dir(state).ok()?.flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok();
    entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).max()
}
