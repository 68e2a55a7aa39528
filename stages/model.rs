//! What training and RLHF loops need of a language model, and nothing about tensors: plumb-torch implements
//! [`Model`] over libtorch, tests implement it over a table.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::maths::grpo::GrpoLoss;
use crate::maths::ppo::PpoLoss;
use crate::maths::preference::DpoLoss;

/// How to draw tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus; 1 is off.
    pub top_p: f64,
    /// 0 is off.
    pub top_k: usize,
    /// Tokens less likely than this share of the likeliest one are not drawn; 0 is off.
    pub min_p: f64,
    /// Divides the positive logits of tokens that the prompt or the completion holds, and multiplies the negative ones;
    /// 1 is off.
    pub repetition_penalty: f64,
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// With the request's `stream` and the sample's index, names the random draws of one completion:
    /// batch size and order change none of them.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            max_new_tokens: 512,
            seed: 0,
        }
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Token ids; the end token, or the end of a text of `stop`, is included where the model wrote it.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the distribution it was drawn from.
    pub logprobs: Vec<f32>,
    /// Whether an end token or a text of `stop` was written (false: cut at `max_new_tokens`).
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

impl Sequence {
    /// Prompt and completion in one.
    #[must_use]
    pub fn whole(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.completion].concat()
    }
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

/// Two completions of one prompt, the first of them preferred.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// The better one.
    pub chosen: Sequence,
    /// The worse one.
    pub rejected: Sequence,
    /// Summed log-probabilities of the two under the reference.
    pub reference: [f64; 2],
}

/// A completion with what PPO learns from it, one number a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimated {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Whitened advantages.
    pub advantages: Vec<f32>,
    /// Log-probabilities when it was drawn.
    pub old_logprobs: Vec<f32>,
    /// Values when it was drawn.
    pub old_values: Vec<f32>,
    /// What the values should have been.
    pub returns: Vec<f32>,
}

/// Two whole texts that a reward model compares.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// Token ids of the better one.
    pub chosen: Vec<u32>,
    /// Token ids of the worse one.
    pub rejected: Vec<u32>,
    /// By how much the better one is to win.
    pub margin: f64,
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
    /// Updates of linear warm-up.
    pub warmup_steps: u64,
    /// The same as a share of all, where `warmup_steps` is 0.
    pub warmup_ratio: f64,
    /// Where a `linear` or `cosine` schedule ends, as a share of the peak.
    pub min_lr_ratio: f64,
    /// Steps in all, for the schedule.
    pub max_steps: u64,
}

/// Learning-rate schedules, under HF's names. Each warms up first where `warmup_steps` says so (HF's `constant` does not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// From the peak to `min_lr_ratio` of it, in a line.
    Linear,
    /// The same end, along a half cosine.
    Cosine,
    /// The same as `cosine`: HF's name where `min_lr_ratio` is not 0.
    CosineWithMinLr,
    /// The peak throughout.
    Constant,
    /// The same as `constant`: HF's name where there is a warm-up.
    ConstantWithWarmup,
}

/// How a model learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// AdamW and its schedule.
    pub optimizer: Optimizer,
    /// Train only the last so many blocks (and the final norm and head where untied); all of the model where `None`.
    pub trainable_layers: Option<usize>,
    /// Keep only each block's input for the backward pass and run the block again there.
    pub gradient_checkpointing: bool,
    /// Learn adapters beside the weights, which stay as they are; the weights themselves where `None`.
    pub lora: Option<Lora>,
    /// What is saved is the running mean of the trained weights with this decay, not the last ones.
    pub ema_decay: Option<f64>,
}

/// Low-rank adapters to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rank of each.
    pub rank: usize,
    /// What they are multiplied by, times the rank.
    pub alpha: f64,
    /// The projections that get one; PEFT's choice where empty.
    pub targets: Vec<Target>,
    /// Names the first values.
    pub seed: u64,
}

/// Projections that an adapter can stand beside, under the names of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Of attention: queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Its output.
    OProj,
    /// Of the feed-forward layer: the gate.
    GateProj,
    /// Up.
    UpProj,
    /// Down.
    DownProj,
    /// All of them.
    #[serde(rename = "all-linear")]
    AllLinear,
}

impl Target {
    /// The name in transformers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
            Self::AllLinear => "all-linear",
        }
    }
}

impl From<Optimizer> for Training {
    fn from(optimizer: Optimizer) -> Self {
        Self { optimizer, trainable_layers: None, gradient_checkpointing: false, ema_decay: None, lora: None }
    }
}

impl Optimizer {
    // As many updates as are asked for, or else their share of all, as HF rounds it.
    fn warmup(&self) -> u64 {
        if self.warmup_steps > 0 {
            self.warmup_steps
        } else {
            (self.max_steps as f64 * self.warmup_ratio).ceil() as u64
        }
    }

    /// The rate of the update that follows `steps` earlier ones, as HF's schedulers have it (the first of a warm-up
    /// is 0).
    pub fn learning_rate_at(&self, steps: u64) -> f64 {
        let warmup = self.warmup();
        if steps < warmup {
            return self.learning_rate * steps as f64 / warmup as f64;
        }
        let rest = self.max_steps.saturating_sub(warmup).max(1) as f64;
        let gone = ((steps - warmup) as f64 / rest).min(1.0);
        let share = match self.lr_scheduler_type {
            Schedule::Linear => 1.0 - gone,
            Schedule::Cosine | Schedule::CosineWithMinLr => 0.5 * (1.0 + (std::f64::consts::PI * gone).cos()),
            Schedule::Constant | Schedule::ConstantWithWarmup => return self.learning_rate,
        };
        self.learning_rate * (self.min_lr_ratio + (1.0 - self.min_lr_ratio) * share)
    }
}

/// How the sequences of a step are cut into passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// So many padded rows a pass; 0 takes all.
    Rows(usize),
    /// One row a pass, of sequences that together have at most so many tokens: nothing is padded, and each sequence sees
    /// only itself.
    Packed(usize),
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
    /// Further metrics of the objective, by the names they are logged under.
    pub more: BTreeMap<String, f64>,
    /// Which weight or gradient is not finite, where one is: the update was not made.
    pub fault: Option<String>,
}

/// Whoever wants to know how a generation goes.
pub trait Watch {
    /// So many tokens were drawn so far.
    fn drawn(&mut self, tokens: u64);

    /// All completions of a request are there; requests end in any order.
    fn ended(&mut self, _request: usize, _completions: &[Completion]) -> Result<(), StageError> {
        Ok(())
    }

    /// Something that people should know.
    fn note(&mut self, _message: &str) {}
}

struct Counting<'a>(&'a mut dyn FnMut(u64));

impl Watch for Counting<'_> {
    fn drawn(&mut self, tokens: u64) {
        (self.0)(tokens);
    }
}

/// A language model that generates, scores and learns.
pub trait Model {
    /// Its tokenizer.
    fn tokenizer(&self) -> &Tokenizer;

    /// Token ids that end a completion.
    fn eos_token_ids(&self) -> &[u32];

    /// Tokens of prompt and completion together that the model was made for.
    fn context(&self) -> usize;

    /// The chat template, where the model has one (Jinja text).
    fn chat_template(&self) -> Option<&str>;

    /// Completions, `requests[i].samples` for each request, in order; `watch` is told how it goes.
    fn generate_watched(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Completion>>, StageError>;

    /// The same; `progress` is told tokens generated so far.
    fn generate(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Vec<Completion>>, StageError> {
        self.generate_watched(requests, sampling, &mut Counting(progress))
    }

    /// Log-probability of every completion token, the logits divided by `temperature`.
    fn log_probabilities(&mut self, sequences: &[Sequence], temperature: f64) -> Result<Vec<Vec<f32>>, StageError>;

    /// The same without what adapters add: the reference of a policy that learns adapters.
    fn log_probabilities_of_base(
        &mut self,
        sequences: &[Sequence],
        temperature: f64,
    ) -> Result<Vec<Vec<f32>>, StageError>;

    /// Makes the model trainable.
    fn prepare_training(&mut self, training: &Training) -> Result<(), StageError>;

    /// Moves the weights by `share` of the way to those of a model folder of the same shape (a reference that follows
    /// its policy).
    fn move_towards(&mut self, folder: &Path, share: f64) -> Result<(), StageError>;

    /// One optimiser step on the mean token loss over the completions of all `sequences`, in passes.
    fn sft_step(&mut self, sequences: &[Sequence], cut: Cut) -> Result<StepReport, StageError>;

    /// One optimiser step on a GRPO batch, in micro-batches (the result does not depend on how they are cut,
    /// up to rounding).
    fn grpo_step(
        &mut self,
        rollouts: &[Rollout],
        loss: &GrpoLoss,
        micro_batch: usize,
    ) -> Result<StepReport, StageError>;

    /// One optimiser step on DPO's loss, the mean over the pairs, so many pairs in a pass (0 takes all).
    fn dpo_step(&mut self, pairs: &[Preference], loss: &DpoLoss, at_once: usize) -> Result<StepReport, StageError>;

    /// What a reward model gives each text, at its last token.
    fn rewards(&mut self, texts: &[Vec<u32>]) -> Result<Vec<f64>, StageError>;

    /// One optimiser step of a reward model on the Bradley-Terry loss, the mean over the contrasts, so many in a pass (0
    /// takes all); `centre` weighs the squared sum of each two rewards.
    fn reward_step(&mut self, contrasts: &[Contrast], centre: f64, at_once: usize) -> Result<StepReport, StageError>;

    /// One update of a policy on PPO's clipped loss, the mean over completion tokens, so many rows in a pass (0 takes all).
    fn ppo_step(&mut self, rows: &[Estimated], loss: &PpoLoss, at_once: usize) -> Result<StepReport, StageError>;

    /// What a reward model gives the states before each completion token: the values of a value model.
    fn values(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, StageError>;

    /// One update of a value model on PPO's clipped and weighted value loss.
    fn value_step(&mut self, rows: &[Estimated], loss: &PpoLoss, at_once: usize) -> Result<StepReport, StageError>;

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

    /// Loads a reward model; of a language model's folder, with a score head drawn from `seed`, where one is given.
    fn load_reward_model(
        &self,
        folder: &Path,
        dtype: Dtype,
        manner: &Manner,
        seed: Option<u64>,
    ) -> Result<Box<dyn Model>, StageError>;
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
        rates_after(lr_scheduler_type, 2, 0.9)
    }

    fn rates_after(lr_scheduler_type: Schedule, warmup_steps: u64, warmup_ratio: f64) -> Vec<f64> {
        let optimizer = Optimizer {
            learning_rate: 1.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            lr_scheduler_type,
            warmup_steps,
            warmup_ratio,
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
        assert_eq!(rates(Schedule::CosineWithMinLr), rates(Schedule::Cosine));
        assert_eq!(rates(Schedule::ConstantWithWarmup), rates(Schedule::Constant));
        // A quarter of six updates is two, rounded up as HF does.
        assert_eq!(rates_after(Schedule::Linear, 0, 0.25), rates(Schedule::Linear));
        assert_eq!(rates_after(Schedule::Linear, 0, 0.0)[0], 1.0);
    }
}
