//! `rm.train`: a Bradley-Terry reward model, the baseline beside the generative ones (TRL's RewardTrainer).
//!
//! ```text
//! r    = score · hidden state of the last token of dialogue, answer and end token
//! loss = - log σ(r_chosen - r_rejected - margin) + c (r_chosen + r_rejected)²        means over the pairs of a step
//! ```
//!
//! Differences from TRL: 1. a new score head is drawn from `seed` with a standard deviation of 1 / sqrt(hidden size), not
//! of the model's `initializer_range`; 2. a text longer than `max_length` is cut at the end, where TRL leaves its pair out;
//! 3. `pad_token_id` of the saved model is never its end token, for transformers looks for the reward before the padding;
//! 4. no dropout. The folder opens as transformers' `AutoModelForSequenceClassification` with one label.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};

use super::chain::Met;
use super::log::{Log, check_finite, of_report};
use super::order::Order;
use super::parameters::{Trained as _, problems_of_training, trained};
use super::preferences::{self, Encoded};
use super::{CHAIN, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, at_least_one};
use crate::judging::template::Template;
use crate::model::{Backend, Contrast};
use crate::worker::TORCH;

trained! {
    /// Parameters of `rm.train`, under TRL's names.
    struct Params {
        /// Pairs in a pass, and in a step unless gradients are accumulated.
        per_device_train_batch_size: usize = 8,
        /// Passes whose gradients make one step.
        gradient_accumulation_steps: usize = 1,
        /// Weight of the squared sum of a pair's rewards, which keeps rewards about 0; 0.01 is usual.
        center_rewards_coefficient: f64 = 0.0,
        /// Tokens of prompt and answer together; what is longer is cut at the end.
        max_length: usize = 1024,
        /// How the dialogue is put: `boxed` or `miniature`.
        template: Template = Template::default(),
    }
    defaults { learning_rate: 1e-4, logging_steps: 10, digest_steps: 50 }
}

/// `rm.train`.
pub struct RmTrain;

impl Declare for RmTrain {
    const KIND: &'static str = "rm.train";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "train a scalar reward model on preference pairs (Bradley-Terry)";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the language model or reward model folder to start from"),
        InputSpec::required("pairs", "preference pairs; a column `margin` is by how much the better answer is to win"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the reward model: a sequence classifier with one label"),
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
        if params.center_rewards_coefficient < 0.0 {
            problems.push(Problem::new("center_rewards_coefficient", "expected a number of at least 0"));
        }
        problems
    }
}

/// Runs `rm.train` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load_reward_model(io.input("model")?, params.dtype, io.manner(), Some(params.seed))?;
    let pairs = preferences::read(model.as_ref(), io.input("pairs")?, params.template, params.max_length, io)?;
    model.prepare_training(&params.training())?;
    let size = params.per_device_train_batch_size * params.gradient_accumulation_steps;
    let mut order = Order::new(params.seed, "pairs", pairs.len());
    let (mut log, done) = Log::resume(model.as_mut(), io)?;
    let mut tokens = log.tokens();
    for step in done + 1..=params.max_steps {
        let rows = order.take(usize::try_from(step - 1).unwrap_or_default() * size, size);
        let batch: Vec<Contrast> = rows.iter().map(|row| contrast(&pairs[*row])).collect();
        let report = model.reward_step(&batch, params.center_rewards_coefficient, at_once(params))?;
        check_finite(step, &report, rows.iter().map(|row| pairs[*row].pair.id.as_str()))?;
        tokens += rows.iter().map(|row| pairs[*row].tokens() as f64).sum::<f64>();
        let mut met = Met::default();
        rows.iter().for_each(|row| met.id(&pairs[*row].pair.id));
        let mut metrics = of_report(&report);
        // There is no distribution over tokens whose entropy this could be.
        metrics.remove("entropy");
        metrics.insert("num_tokens".into(), tokens);
        metrics.insert("epoch".into(), step as f64 * size as f64 / pairs.len() as f64);
        log.finish(step, met, metrics, params.pace(), model.as_ref(), io)?;
    }
    model.save(io.output("model")?)?;
    log.write(params.pace(), io)
}

fn contrast(pair: &Encoded) -> Contrast {
    Contrast { chosen: pair.chosen.whole(), rejected: pair.rejected.whole(), margin: pair.margin }
}

// `micro_batch` counts sequences, of which a pair has two.
fn at_once(params: &Params) -> usize {
    if params.micro_batch > 0 { params.micro_batch.div_ceil(2) } else { params.per_device_train_batch_size }
}
