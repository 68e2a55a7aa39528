//! What training and RLHF loops need of a language model, and nothing about tensors: plumb-torch implements
//! [`Model`] over libtorch, tests implement it over a table.

use std::path::Path;

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::maths::grpo::GrpoLoss;

/// How to draw tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus; 1 is off.
    pub top_p: f64,
    /// 0 is off.
    pub top_k: usize,
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// With the request's `stream` and the sample's index, names the random draws of one completion:
    /// batch size and order change none of them.
    pub seed: u64,
}

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Token ids, special tokens included.
    pub prompt: Vec<u32>,
    /// How many completions.
    pub samples: usize,
    /// Names this request's random stream.
    pub stream: u64,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Token ids; the end token is included where the model wrote it.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the distribution it was drawn from.
    pub logprobs: Vec<f32>,
    /// Whether an end token was written (false: cut at `max_new_tokens`).
    pub finished: bool,
}

/// A prompt and a completion to score or to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// Token ids before the completion.
    pub prompt: Vec<u32>,
    /// Token ids of the completion.
    pub completion: Vec<u32>,
}

/// One sequence of a policy-gradient batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Advantage of the whole completion.
    pub advantage: f64,
    /// Log-probabilities when it was drawn; empty for "the current policy" (ratio 1).
    pub old_logprobs: Vec<f32>,
    /// Log-probabilities under the reference policy; empty where `beta` is 0.
    pub ref_logprobs: Vec<f32>,
    /// False leaves the sequence out of the loss (`mask_truncated_completions`, a failed judge).
    pub counted: bool,
}

/// AdamW and its schedule, under TRL's (HF Trainer's) names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// First-moment decay.
    pub adam_beta1: f64,
    /// Second-moment decay.
    pub adam_beta2: f64,
    /// Denominator's floor.
    pub adam_epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradient clipping by global norm; 0 is off.
    pub max_grad_norm: f64,
    /// Shape of the schedule.
    pub lr_scheduler_type: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Where a `linear` or `cosine` schedule ends, as a share of the peak.
    pub min_lr_ratio: f64,
    /// Steps in all, for the schedule.
    pub max_steps: u64,
}

/// Learning-rate schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// From the peak to `min_lr_ratio` of it, in a line.
    Linear,
    /// The same end, along a half cosine.
    Cosine,
    /// The peak throughout.
    Constant,
}

impl Optimizer {
    /// The rate of the update that follows `steps` earlier ones, as HF's schedulers have it (the first of a warm-up
    /// is 0).
    pub fn learning_rate_at(&self, steps: u64) -> f64 {
        if steps < self.warmup_steps {
            return self.learning_rate * steps as f64 / self.warmup_steps as f64;
        }
        let rest = self.max_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let gone = ((steps - self.warmup_steps) as f64 / rest).min(1.0);
        let share = match self.lr_scheduler_type {
            Schedule::Linear => 1.0 - gone,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * gone).cos()),
            Schedule::Constant => return self.learning_rate,
        };
        self.learning_rate * (self.min_lr_ratio + (1.0 - self.min_lr_ratio) * share)
    }
}

/// What one optimiser step did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The loss that was minimised.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Mean entropy of the next-token distribution over completion tokens.
    pub entropy: f64,
    /// Mean k3 divergence from the reference over completion tokens (0 where there is none).
    pub kl: f64,
    /// Share of tokens whose argmax is the target (SFT).
    pub mean_token_accuracy: f64,
    /// Share of tokens clipped below and above.
    pub clip_low: f64,
    /// Share of tokens clipped above.
    pub clip_high: f64,
    /// Completion tokens in the step.
    pub num_tokens: u64,
}

/// A language model that generates, scores and learns.
pub trait Model {
    /// Its tokenizer.
    fn tokenizer(&self) -> &Tokenizer;

    /// Token ids that end a completion.
    fn eos_token_ids(&self) -> &[u32];

    /// The chat template, where the model has one (Jinja text).
    fn chat_template(&self) -> Option<&str>;

    /// Completions, `requests[i].samples` for each request, in order. `progress` is told tokens generated so far.
    fn generate(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Vec<Completion>>, StageError>;

    /// Log-probability of every completion token, the logits divided by `temperature`.
    fn log_probabilities(&mut self, sequences: &[Sequence], temperature: f64) -> Result<Vec<Vec<f32>>, StageError>;

    /// Makes the model trainable: the last `trainable_layers` blocks (and the final norm and head where untied),
    /// or all of it.
    fn prepare_training(&mut self, optimizer: &Optimizer, trainable_layers: Option<usize>) -> Result<(), StageError>;

    /// One optimiser step on the mean token loss over the completions of all `sequences`, in micro-batches.
    fn sft_step(&mut self, sequences: &[Sequence], micro_batch: usize) -> Result<StepReport, StageError>;

    /// One optimiser step on a GRPO batch, in micro-batches (the result does not depend on how they are cut,
    /// up to rounding).
    fn grpo_step(
        &mut self,
        rollouts: &[Rollout],
        loss: &GrpoLoss,
        micro_batch: usize,
    ) -> Result<StepReport, StageError>;

    /// Writes an HF model folder (config.json, model.safetensors, tokenizer.json, …).
    fn save(&self, folder: &Path) -> Result<(), StageError>;

    /// Writes weights, optimiser and generator state so that [`Model::resume`] continues bit for bit.
    fn save_checkpoint(&self, folder: &Path) -> Result<(), StageError>;

    /// Continues from a checkpoint of [`Model::save_checkpoint`].
    fn resume(&mut self, folder: &Path) -> Result<(), StageError>;

    /// Digest of the trainable weights' bytes: the chain by which two runs are compared step by step.
    fn weights_digest(&self) -> String;
}

/// Opens HF model folders.
pub trait Backend {
    /// Loads a model for inference (training is prepared later).
    fn load(&self, folder: &Path, dtype: Dtype, manner: &Manner) -> Result<Box<dyn Model>, StageError>;
}

/// Number format of the frozen part and of inference; trained weights are kept in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit float.
    #[default]
    Float32,
    /// bfloat16.
    Bfloat16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(lr_scheduler_type: Schedule) -> Vec<f64> {
        let optimizer = Optimizer {
            learning_rate: 1.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            lr_scheduler_type,
            warmup_steps: 2,
            min_lr_ratio: 0.2,
            max_steps: 6,
        };
        (0..8).map(|steps| (optimizer.learning_rate_at(steps) * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn schedules_warm_up_and_end_at_their_share_of_the_peak() {
        assert_eq!(rates(Schedule::Linear), [0.0, 0.5, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]);
        assert_eq!(rates(Schedule::Cosine), [0.0, 0.5, 1.0, 0.883, 0.6, 0.317, 0.2, 0.2]);
        assert_eq!(rates(Schedule::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
