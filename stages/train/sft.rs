//! `lm.sft`: supervised fine-tuning on prompt-completion rows (TRL's SFTTrainer).
//!
//! ```text
//! loss = - Σ log p(token) / tokens        over the completion tokens of the whole batch, end token included
//! ```
//!
//! Differences from TRL: 1. rows are drawn step by step from seeded epochs, not from a loader with workers;
//! 2. `judgments` may give a fixed share of every batch; 3. without `packing` like lengths share a pass, whatever step
//! order they came in; 4. packed sequences see only themselves on every device (TRL: where its attention kernel allows);
//! 5. `gradient_checkpointing` is off unless asked for, and `dtype` is float32; 6. no dropout.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};

use super::chain::Met;
use super::log::{Log, Values, check_finite, of_report};
use super::order::Order;
use super::packing::best_fit_decreasing;
use super::parameters::{Trained as _, problems_of_training, trained};
use super::tokens;
use super::{CHAIN, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, at_least_one, shares};
use crate::jsonl;
use crate::model::{Backend, Cut, Model, Sequence, StepReport};
use crate::rows::Demonstration;
use crate::worker::TORCH;

trained! {
    /// Parameters of `lm.sft`, under TRL's names.
    struct Params {
        /// Rows in a pass, and in a step unless gradients are accumulated.
        per_device_train_batch_size: usize = 8,
        /// Passes whose gradients make one step.
        gradient_accumulation_steps: usize = 1,
        /// Share of every batch that comes from `judgments`.
        judgment_share: f64 = 0.5,
        /// Tokens of prompt and completion together; what is longer is cut at the end.
        max_length: usize = 1024,
        /// Put several sequences into one row of `max_length` tokens (best fit decreasing); each sees only itself.
        packing: bool = false,
    }
    defaults { learning_rate: 2e-5, logging_steps: 10, digest_steps: 50 }
}

/// `lm.sft`.
pub struct Sft;

impl Declare for Sft {
    const KIND: &'static str = "lm.sft";
    // 2: the head's pass by slices and clipping by chunks: the last bits of losses and weights moved.
    // 3: digests moved from `steps` to `chain`, which has one a step.
    // 4: `num_tokens` counts prompts too, as TRL does; `epoch` among the metrics.
    // 5: PyTorch's fused AdamW kernel: the last bits of weights moved.
    // 6: plain prompts begin as the tokenizer begins a text; `strftime_now` of chat templates is defined.
    const VERSION: u32 = 6;
    const ABOUT: &'static str = "fine-tune a language model on prompt-completion rows";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder to start from"),
        InputSpec::required("demonstrations", "prompt-completion rows"),
        InputSpec::optional("judgments", "more prompt-completion rows, in `judgment_share` of every batch"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the fine-tuned model folder"),
        METRICS,
        STEPS,
        CHAIN,
        TRAINER_STATE,
        TENSORBOARD,
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let counts = [
            ("per_device_train_batch_size", params.per_device_train_batch_size as u64),
            ("gradient_accumulation_steps", params.gradient_accumulation_steps as u64),
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
    model.prepare_training(&params.training())?;
    let size = params.per_device_train_batch_size * params.gradient_accumulation_steps;
    let mut batches = Batches { demonstrations, judgments, size };
    let judged = params.judgment_share;
    let (mut log, done) = Log::resume(model.as_mut(), io)?;
    let mut tokens = log.tokens();
    for step in done + 1..=params.max_steps {
        let (ids, sequences) = batches.take(step, judged);
        let report = model.sft_step(&sequences, cut(params))?;
        check_finite(step, &report, ids.iter().map(String::as_str))?;
        tokens += sequences.iter().map(|one| (one.prompt.len() + one.completion.len()) as f64).sum::<f64>();
        let mut met = Met::default();
        ids.iter().for_each(|id| met.id(id));
        let mut metrics = metrics(&report, tokens);
        metrics.insert("epoch".into(), batches.epoch(step, judged));
        log.finish(step, met, metrics, params.pace(), model.as_ref(), io)?;
    }
    model.save(io.output("model")?)?;
    log.write(params.pace(), io)
}

fn cut(params: &Params) -> Cut {
    let rows = match (params.micro_batch, params.gradient_accumulation_steps) {
        (0, 1) if !params.packing => 0,
        (0, _) => params.per_device_train_batch_size,
        (rows, _) => rows,
    };
    if params.packing { Cut::Packed(rows * params.max_length) } else { Cut::Rows(rows) }
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
    /// Sequences by number; one in a row where nothing is packed.
    rows: Vec<Vec<usize>>,
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
                    tokens::check_context(model, &row.id, sequence.prompt.len() + sequence.completion.len())
                        .map_err(|error| error.hint(format!("with.max_length = {}", model.context())))?;
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
        let lengths: Vec<usize> = sequences.iter().map(|one| one.prompt.len() + one.completion.len()).collect();
        let rows = match params.packing {
            true => best_fit_decreasing(&lengths, params.max_length),
            false => (0..sequences.len()).map(|number| vec![number]).collect(),
        };
        let order = Order::new(params.seed, name, rows.len());
        Ok(Self { ids, sequences, rows, order })
    }

    fn take(&mut self, start: usize, count: usize) -> impl Iterator<Item = (String, Sequence)> {
        let rows = self.order.take(start, count);
        let numbers = rows.into_iter().flat_map(|row| self.rows[row].iter().copied());
        numbers.map(|number| (self.ids[number].clone(), self.sequences[number].clone()))
    }
}

struct Batches {
    demonstrations: Rows,
    judgments: Option<Rows>,
    size: usize,
}

impl Batches {
    fn take(&mut self, step: u64, judgment_share: f64) -> (Vec<String>, Vec<Sequence>) {
        let judged = self.judged(judgment_share);
        let plain = self.size - judged;
        let start = usize::try_from(step - 1).unwrap_or_default();
        let judgments = self.judgments.as_mut().map(|rows| rows.take(start * judged, judged));
        self.demonstrations.take(start * plain, plain).chain(judgments.into_iter().flatten()).unzip()
    }

    fn judged(&self, share: f64) -> usize {
        self.judgments.as_ref().map_or(0, |_| (self.size as f64 * share).round() as usize)
    }

    // Passes over the demonstrations; over the judgments where no demonstration is drawn.
    fn epoch(&self, step: u64, judgment_share: f64) -> f64 {
        let judged = self.judged(judgment_share);
        let (count, rows) = match &self.judgments {
            Some(judgments) if judged == self.size => (judged, judgments.rows.len()),
            _ => (self.size - judged, self.demonstrations.rows.len()),
        };
        step as f64 * count as f64 / rows.max(1) as f64
    }
}
