//! `lm.sft`: supervised fine-tuning on prompt-completion rows (TRL's SFTTrainer).
//!
//! ```text
//! loss = - Σ log p(token) / tokens        over the completion tokens of the whole batch, end token included
//! ```
//!
//! Differences from TRL: 1. rows are drawn step by step from seeded epochs, not from a loader with workers;
//! 2. `judgments` may give a fixed share of every batch; 3. no packing: like lengths share a micro-batch instead.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};

use super::chain::Met;
use super::log::{Log, Values, check_finite, of_report};
use super::order::Order;
use super::parameters::{Trained as _, problems_of_training, trained};
use super::tokens;
use super::{CHAIN, METRICS, STEPS, TRAINER_STATE, at_least_one, shares};
use crate::jsonl;
use crate::model::{Backend, Model, Sequence, StepReport};
use crate::rows::Demonstration;
use crate::worker::TORCH;

trained! {
    /// Parameters of `lm.sft`, under TRL's names.
    struct Params {
        /// Rows in a step.
        per_device_train_batch_size: usize = 8,
        /// Share of every batch that comes from `judgments`.
        judgment_share: f64 = 0.5,
        /// Tokens of prompt and completion together; what is longer is cut at the end.
        max_length: usize = 1024,
    }
    defaults { learning_rate: 2e-5, logging_steps: 10, digest_steps: 50 }
}

/// `lm.sft`.
pub struct Sft;

impl Declare for Sft {
    const KIND: &'static str = "lm.sft";
    // 2: the head's pass by slices and clipping by chunks: the last bits of losses and weights moved.
    // 3: digests moved from `steps` to `chain`, which has one a step.
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "fine-tune a language model on prompt-completion rows";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder to start from"),
        InputSpec::required("demonstrations", "prompt-completion rows"),
        InputSpec::optional("judgments", "more prompt-completion rows, in `judgment_share` of every batch"),
    ];
    const OUTPUTS: &'static [OutputSpec] =
        &[OutputSpec::result("model", "model", "the fine-tuned model folder"), METRICS, STEPS, CHAIN, TRAINER_STATE];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let counts = [
            ("per_device_train_batch_size", params.per_device_train_batch_size as u64),
            ("max_length", params.max_length as u64),
        ];
        let rates = [("judgment_share", params.judgment_share)];
        at_least_one(&counts).chain(shares(&rates)).chain(problems_of_training(params)).collect()
    }
}

/// Runs `lm.sft` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load(io.input("model")?, params.dtype, io.manner())?;
    let demonstrations = Rows::read(model.as_ref(), io.input("demonstrations")?, params, "demonstrations", io)?;
    let judgments = match io.optional_input("judgments") {
        Some(path) => Some(Rows::read(model.as_ref(), path, params, "judgments", io)?),
        None => None,
    };
    model.prepare_training(&params.optimizer(), params.trainable_layers)?;
    let mut batches = Batches { demonstrations, judgments, size: params.per_device_train_batch_size };
    let judged = params.judgment_share;
    let (mut log, done) = Log::resume(model.as_mut(), io)?;
    let mut tokens = log.tokens();
    for step in done + 1..=params.max_steps {
        let (ids, sequences) = batches.take(step, judged);
        let report = model.sft_step(&sequences, params.micro_batch)?;
        check_finite(step, &report, ids.iter().map(String::as_str))?;
        tokens += report.num_tokens as f64;
        let mut met = Met::default();
        ids.iter().for_each(|id| met.id(id));
        log.finish(step, met, metrics(&report, tokens), params.pace(), model.as_ref(), io)?;
    }
    model.save(io.output("model")?)?;
    log.write(Sft::KIND, params.pace(), io)
}

fn metrics(report: &StepReport, tokens: f64) -> Values {
    let mut metrics = of_report(report);
    metrics.insert("mean_token_accuracy".into(), report.mean_token_accuracy);
    metrics.insert("num_tokens".into(), tokens);
    metrics
}

struct Rows {
    ids: Vec<String>,
    sequences: Vec<Sequence>,
    order: Order,
}

impl Rows {
    fn read(
        model: &dyn Model,
        path: &std::path::Path,
        params: &Params,
        name: &'static str,
        io: &Io,
    ) -> Result<Self, StageError> {
        let (mut ids, mut sequences, mut dropped) = (Vec::new(), Vec::new(), 0);
        for row in jsonl::read_some::<Demonstration>(path)? {
            match tokens::sequence(model, &row, params.max_length)? {
                Some(sequence) => {
                    ids.push(row.id);
                    sequences.push(sequence);
                }
                None => dropped += 1,
            }
        }
        if dropped > 0 {
            io.log(format!("{dropped} of `{name}` have no completion within {} tokens: left out", params.max_length));
        }
        if sequences.is_empty() {
            return Err(StageError::new(format!("`{}` has no row to learn from", path.display())));
        }
        let order = Order::new(params.seed, name, sequences.len());
        Ok(Self { ids, sequences, order })
    }

    fn take(&mut self, start: usize, count: usize) -> impl Iterator<Item = (String, Sequence)> {
        let rows = self.order.take(start, count);
        rows.into_iter().map(|row| (self.ids[row].clone(), self.sequences[row].clone()))
    }
}

struct Batches {
    demonstrations: Rows,
    judgments: Option<Rows>,
    size: usize,
}

impl Batches {
    fn take(&mut self, step: u64, judgment_share: f64) -> (Vec<String>, Vec<Sequence>) {
        let judged = self.judgments.as_ref().map_or(0, |_| (self.size as f64 * judgment_share).round() as usize);
        let plain = self.size - judged;
        let start = usize::try_from(step - 1).unwrap_or_default();
        let judgments = self.judgments.as_mut().map(|rows| rows.take(start * judged, judged));
        self.demonstrations.take(start * plain, plain).chain(judgments.into_iter().flatten()).unzip()
    }
}
