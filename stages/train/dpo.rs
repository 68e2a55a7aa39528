//! `lm.dpo`: direct preference optimisation of a policy on pairs of answers (TRL's DPOTrainer, arXiv 2305.18290).
//!
//! ```text
//! delta   = log π(chosen)/ref(chosen) - log π(rejected)/ref(rejected)        sums over completion tokens
//! sigmoid = - (1 - ε) log σ(β delta) - ε log σ(- β delta)
//! ipo     = (delta a token - 1/(2β))²,  hinge = max(0, 1 - β delta),  robust: (sigmoid with - before ε) / (1 - 2ε)
//! ```
//!
//! Differences from TRL: 1. the reference is the model that training starts from, and its log-probabilities are always
//! computed once, before the first step (`precompute_ref_log_probs`); 2. `label_smoothing` enters `sigmoid` too (cDPO,
//! as OpenRLHF has it); 3. one `loss_type`, without weights, f-divergences, `ld_alpha` or `use_weighting`; 4. a pair
//! with an answer that does not begin within `max_length` is left out, not learnt from as an empty one; 5. prompt and
//! answer are tokenised apart; 6. no `logits/*` and no `mean_token_accuracy` among the metrics; `entropy` is of both
//! answers' tokens, as TRL's; 7. no dropout.

use std::collections::BTreeSet;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};

use super::chain::Met;
use super::log::{Log, check_finite, of_report};
use super::order::Order;
use super::parameters::{Trained as _, problems_of_training, trained};
use super::preferences::{self, Encoded};
use super::{CHAIN, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, at_least_one};
use crate::judging::template::Template;
use crate::maths::preference::{DpoKind, DpoLoss};
use crate::model::{Backend, Model, Preference};
use crate::worker::TORCH;

trained! {
    /// Parameters of `lm.dpo`, under TRL's names.
    struct Params {
        /// Pairs in a pass, and in a step unless gradients are accumulated.
        per_device_train_batch_size: usize = 8,
        /// Passes whose gradients make one step.
        gradient_accumulation_steps: usize = 1,
        /// How hard the reference holds.
        beta: f64 = 0.1,
        /// `sigmoid`, `hinge`, `ipo` or `robust`.
        loss_type: DpoKind = DpoKind::Sigmoid,
        /// How often labels are taken to be wrong: of `sigmoid` and `robust`.
        label_smoothing: f64 = 0.0,
        /// Tokens of prompt and answer together; what is longer is cut at the end.
        max_length: usize = 1024,
        /// How the dialogue is put to the policy: `boxed` or `miniature`.
        template: Template = Template::default(),
    }
    defaults { learning_rate: 1e-6, logging_steps: 10, digest_steps: 50 }
}

/// `lm.dpo`.
pub struct Dpo;

impl Declare for Dpo {
    const KIND: &'static str = "lm.dpo";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "train a language model on preference pairs by direct preference optimisation";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder to start from, and the reference"),
        InputSpec::required("pairs", "preference pairs"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained model folder"),
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
        let mut problems: Vec<Problem> = at_least_one(&counts).chain(problems_of_training(params)).collect();
        if params.beta <= 0.0 {
            problems.push(Problem::new("beta", "expected a number above 0"));
        }
        if !(0.0..0.5).contains(&params.label_smoothing) {
            problems.push(Problem::new("label_smoothing", "expected at least 0 and less than 0.5"));
        }
        problems
    }
}

/// Runs `lm.dpo` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load(io.input("model")?, params.dtype, io.manner())?;
    let pairs = preferences::read(model.as_ref(), io.input("pairs")?, params.template, params.max_length, io)?;
    let size = params.per_device_train_batch_size * params.gradient_accumulation_steps;
    let mut order = Order::new(params.seed, "pairs", pairs.len());
    let steps = usize::try_from(params.max_steps).unwrap_or(usize::MAX);
    let drawn: BTreeSet<usize> = order.take(0, steps.saturating_mul(size).min(pairs.len())).into_iter().collect();
    let references = References::of(model.as_mut(), &pairs, &drawn)?;
    model.prepare_training(&params.training())?;
    let (mut log, done) = Log::resume(model.as_mut(), io)?;
    let mut tokens = log.tokens();
    for step in done + 1..=params.max_steps {
        let rows = order.take(usize::try_from(step - 1).unwrap_or_default() * size, size);
        let batch: Vec<Preference> = rows.iter().map(|row| references.preference(&pairs, *row)).collect();
        let report = model.dpo_step(&batch, &loss(params), at_once(params))?;
        check_finite(step, &report, rows.iter().map(|row| pairs[*row].pair.id.as_str()))?;
        tokens += rows.iter().map(|row| pairs[*row].tokens() as f64).sum::<f64>();
        let mut met = Met::default();
        rows.iter().for_each(|row| met.id(&pairs[*row].pair.id));
        let mut metrics = of_report(&report);
        metrics.insert("num_tokens".into(), tokens);
        metrics.insert("epoch".into(), step as f64 * size as f64 / pairs.len() as f64);
        log.finish(step, met, metrics, params.pace(), model.as_ref(), io)?;
    }
    model.save(io.output("model")?)?;
    log.write(params.pace(), io)
}

fn loss(params: &Params) -> DpoLoss {
    DpoLoss { loss_type: params.loss_type, beta: params.beta, label_smoothing: params.label_smoothing }
}

// `micro_batch` counts sequences, of which a pair has two.
fn at_once(params: &Params) -> usize {
    if params.micro_batch > 0 { params.micro_batch.div_ceil(2) } else { params.per_device_train_batch_size }
}

// The first epoch's draws are all that any step needs: later epochs draw the same rows again.
struct References(Vec<[f64; 2]>);

impl References {
    fn of(model: &mut dyn Model, pairs: &[Encoded], drawn: &BTreeSet<usize>) -> Result<Self, StageError> {
        let chosen = drawn.iter().flat_map(|row| [pairs[*row].chosen.clone(), pairs[*row].rejected.clone()]);
        let scored = model.log_probabilities(&chosen.collect::<Vec<_>>(), 1.0)?;
        let sum = |logprobs: &Vec<f32>| logprobs.iter().copied().map(f64::from).sum::<f64>();
        let mut known = vec![[0.0; 2]; pairs.len()];
        for (row, scored) in drawn.iter().zip(scored.chunks_exact(2)) {
            known[*row] = [sum(&scored[0]), sum(&scored[1])];
        }
        Ok(Self(known))
    }

    fn preference(&self, pairs: &[Encoded], row: usize) -> Preference {
        let Encoded { chosen, rejected, .. } = &pairs[row];
        Preference { chosen: chosen.clone(), rejected: rejected.clone(), reference: self.0[row] }
    }
}
