//! The parameters that the training kinds have in common, under TRL's names, as fields of each kind's own flat struct:
//! a struct inside it would change the pipeline files, and serde's `flatten` loses the places in them at which errors
//! are shown. So macros declare the fields and copy them; what is done with the copies is plain code over two traits.

use plumb_engine::stage::Problem;

use super::group::Settings;
use super::log::Pace;
use super::{at_least_one, problems_of_drawing, shares};
use crate::model::{Dtype, Sampling, Training};

/// What every training loop reads of its parameters.
pub(super) trait Trained {
    fn training(&self) -> Training;
    fn pace(&self) -> Pace;
    fn dtype(&self) -> Dtype;
    fn adapters(&self) -> Adapters;
}

/// What is asked of adapters, whether or not there are any.
pub(super) struct Adapters {
    pub rank: usize,
    pub dropout: f64,
}

// Added later than their kinds: left out of the parameters' document where they are what they were before.
impl Adapters {
    pub const RANK: usize = 16;
    pub const ALPHA: f64 = 32.0;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn is_rank(rank: &usize) -> bool {
        *rank == Self::RANK
    }
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn is_alpha(alpha: &f64) -> bool {
        *alpha == Self::ALPHA
    }
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn is_dropout(dropout: &f64) -> bool {
        *dropout == 0.0
    }

    fn problems(&self) -> impl Iterator<Item = Problem> + use<> {
        let dropout = (self.dropout != 0.0).then(|| Problem::new("lora_dropout", "there is no dropout: expected 0"));
        let most = usize::from(u16::MAX);
        let rank = (!(1..=most).contains(&self.rank))
            .then(|| Problem::new("lora_r", format!("expected a rank from 1 to {most}")));
        rank.into_iter().chain(dropout)
    }
}

/// What the GRPO loop reads besides.
pub(super) trait Reinforced: Trained {
    fn settings(&self) -> Settings;
}

/// Values that no training loop can use. No steps are a value: the model is handed on.
pub(super) fn problems_of_training(params: &impl Trained) -> Vec<Problem> {
    let Training { optimizer, ema_decay, .. } = params.training();
    let rates = [
        ("min_lr_ratio", optimizer.min_lr_ratio),
        ("warmup_ratio", optimizer.warmup_ratio),
        ("ema_decay", ema_decay.unwrap_or_default()),
    ];
    shares(&rates).chain(params.adapters().problems()).collect()
}

/// Values that the GRPO loop cannot use.
pub(super) fn problems_of_reinforcement(params: &impl Reinforced) -> Vec<Problem> {
    let settings = params.settings();
    let counts = [
        ("prompts_per_step", settings.prompts_per_step as u64),
        ("num_generations", settings.num_generations as u64),
        ("num_iterations", settings.num_iterations as u64),
        ("max_completion_length", settings.sampling.max_new_tokens as u64),
    ];
    let mut problems: Vec<Problem> = at_least_one(&counts).chain(problems_of_training(params)).collect();
    problems.extend(at_least_one(&[("dynamic_filtering_batches", settings.filtering.unwrap_or(1) as u64)]));
    if let Some(follow) = &settings.follow {
        problems.extend(at_least_one(&[("ref_model_sync_steps", follow.every)]));
        problems.extend(shares(&[("ref_model_mixup_alpha", follow.share)]));
        if params.training().lora.is_some() {
            problems.push(Problem::new("sync_ref_model", "the reference is the model without its adapters: it stays"));
        }
        if settings.loss.beta == 0.0 {
            problems.push(Problem::new("sync_ref_model", "there is no reference: `beta` is 0"));
        }
    }
    for (field, heat) in [
        ("sapo_temperature_pos", settings.loss.sapo_temperature_pos),
        ("sapo_temperature_neg", settings.loss.sapo_temperature_neg),
    ] {
        if heat <= 0.0 {
            problems.push(Problem::new(field, "expected a number above 0"));
        }
    }
    let Sampling { top_p, top_k, min_p, repetition_penalty, .. } = settings.sampling;
    problems.extend(problems_of_drawing(top_p, min_p, repetition_penalty, &[]));
    if settings.num_iterations > 1 && (top_p < 1.0 || top_k > 0 || min_p > 0.0 || repetition_penalty != 1.0) {
        let message = "what was drawn from a changed distribution has no ratio to the model's: expected 1";
        problems.push(Problem::new("num_iterations", message));
    }
    if settings.sampling.temperature <= 0.0 {
        problems.push(Problem::new("temperature", "greedy groups have no spread: expected a number above 0"));
    }
    problems
}

/// Declares `Params`: own fields, then those of every training loop, with the defaults that differ between kinds last.
macro_rules! trained {
    (
        $(#[$about:meta])*
        struct Params { $($(#[$meta:meta])* $field:ident: $type:ty = $value:expr,)* }
        defaults { learning_rate: $rate:expr, logging_steps: $logging:expr, digest_steps: $digest:expr }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Params {
            $($(#[$meta])* pub $field: $type,)*
            /// Steps: a batch or prompts drawn, the weights updated. 0 hands the model on as it is.
            pub max_steps: u64,
            /// Names the order of the rows and every draw.
            pub seed: u64,
            /// Learning rate at the peak.
            pub learning_rate: f64,
            /// `linear`, `cosine`, `cosine_with_min_lr`, `constant` or `constant_with_warmup`.
            pub lr_scheduler_type: $crate::model::Schedule,
            /// Steps of linear warm-up.
            pub warmup_steps: u64,
            /// The same as a share of all steps; `warmup_steps` wins.
            pub warmup_ratio: f64,
            /// Where the schedule ends, as a share of the peak.
            pub min_lr_ratio: f64,
            /// Decoupled weight decay.
            pub weight_decay: f64,
            /// First-moment decay.
            pub adam_beta1: f64,
            /// Second-moment decay.
            pub adam_beta2: f64,
            /// Floor of the denominator.
            pub adam_epsilon: f64,
            /// Gradient clipping by global norm; 0 is off.
            pub max_grad_norm: f64,
            /// Train only the last so many blocks; all of the model when left out.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub trainable_layers: Option<usize>,
            /// Number format of the frozen part and of passes: `float32` or `bfloat16`. Trained weights are kept in
            /// float32.
            pub dtype: $crate::model::Dtype,
            /// Sequences in one pass; 0 takes all at once. Lower it when memory runs out.
            pub micro_batch: usize,
            /// Keep only each block's input for the backward pass and run the block again there: less memory, about a
            /// third more work, the same weights.
            pub gradient_checkpointing: bool,
            /// Learn low-rank adapters beside the weights (LoRA). The model is saved with them merged in; its folder
            /// `adapter` holds them as PEFT has them.
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            pub use_peft: bool,
            /// Rank of the adapters.
            #[serde(skip_serializing_if = "crate::train::parameters::Adapters::is_rank")]
            pub lora_r: usize,
            /// What adapters are multiplied by, times the rank.
            #[serde(skip_serializing_if = "crate::train::parameters::Adapters::is_alpha")]
            pub lora_alpha: f64,
            /// 0: there is no dropout.
            #[serde(skip_serializing_if = "crate::train::parameters::Adapters::is_dropout")]
            pub lora_dropout: f64,
            /// Projections that get one, as `["q_proj", "v_proj"]` (what an empty list means) or `["all-linear"]`.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub lora_target_modules: Vec<$crate::model::Target>,
            /// Save the running mean of the trained weights with this decay instead of the last ones.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub ema_decay: Option<f64>,
            /// Steps between two reports of progress.
            pub logging_steps: u64,
            /// Steps between two digests of the weights in `chain.jsonl`; 0 takes only the last.
            pub digest_steps: u64,
        }

        impl Default for Params {
            fn default() -> Self {
                Self {
                    $($field: $value,)*
                    max_steps: 100,
                    seed: 0,
                    learning_rate: $rate,
                    lr_scheduler_type: $crate::model::Schedule::Linear,
                    warmup_steps: 0,
                    warmup_ratio: 0.0,
                    min_lr_ratio: 0.0,
                    weight_decay: 0.0,
                    adam_beta1: 0.9,
                    adam_beta2: 0.999,
                    adam_epsilon: 1e-8,
                    max_grad_norm: 1.0,
                    trainable_layers: None,
                    dtype: $crate::model::Dtype::Float32,
                    micro_batch: 0,
                    gradient_checkpointing: false,
                    use_peft: false,
                    lora_r: $crate::train::parameters::Adapters::RANK,
                    lora_alpha: $crate::train::parameters::Adapters::ALPHA,
                    lora_dropout: 0.0,
                    lora_target_modules: Vec::new(),
                    ema_decay: None,
                    logging_steps: $logging,
                    digest_steps: $digest,
                }
            }
        }

        impl $crate::train::parameters::Trained for Params {
            fn training(&self) -> $crate::model::Training {
                let optimizer = $crate::model::Optimizer {
                    learning_rate: self.learning_rate,
                    adam_beta1: self.adam_beta1,
                    adam_beta2: self.adam_beta2,
                    adam_epsilon: self.adam_epsilon,
                    weight_decay: self.weight_decay,
                    max_grad_norm: self.max_grad_norm,
                    lr_scheduler_type: self.lr_scheduler_type,
                    warmup_steps: self.warmup_steps,
                    warmup_ratio: self.warmup_ratio,
                    min_lr_ratio: self.min_lr_ratio,
                    max_steps: self.max_steps,
                };
                $crate::model::Training {
                    optimizer,
                    trainable_layers: self.trainable_layers,
                    gradient_checkpointing: self.gradient_checkpointing,
                    ema_decay: self.ema_decay,
                    lora: self.use_peft.then(|| $crate::model::Lora {
                        rank: self.lora_r,
                        alpha: self.lora_alpha,
                        targets: self.lora_target_modules.clone(),
                        seed: self.seed,
                    }),
                }
            }
            fn pace(&self) -> $crate::train::log::Pace {
                $crate::train::log::Pace {
                    max_steps: self.max_steps,
                    digest_steps: self.digest_steps,
                    logging_steps: self.logging_steps,
                }
            }
            fn dtype(&self) -> $crate::model::Dtype {
                self.dtype
            }
            fn adapters(&self) -> $crate::train::parameters::Adapters {
                $crate::train::parameters::Adapters { rank: self.lora_r, dropout: self.lora_dropout }
            }
        }
    };
}

/// Declares `Params` of a kind that learns by GRPO: own fields, then GRPO's, then those of every training loop.
macro_rules! reinforced {
    (
        $(#[$about:meta])*
        struct Params { $($(#[$meta:meta])* $field:ident: $type:ty = $value:expr,)* }
    ) => {
        $crate::train::parameters::trained! {
            $(#[$about])*
            struct Params {
                $($(#[$meta])* $field: $type = $value,)*
                /// Prompts in a step.
                prompts_per_step: usize = 8,
                /// Completions a prompt: the group.
                num_generations: usize = 8,
                /// Updates a rollout.
                num_iterations: usize = 1,
                /// Tokens of a completion at most.
                max_completion_length: usize = 512,
                /// Prompts of more tokens are left out and counted; no bound when left out.
                #[serde(skip_serializing_if = "Option::is_none")]
                max_prompt_length: Option<usize> = None,
                /// Temperature of sampling.
                temperature: f64 = 1.0,
                /// Nucleus; 1 is off.
                top_p: f64 = 1.0,
                /// Best tokens to draw from; 0 is off.
                top_k: usize = 0,
                /// Tokens less likely than this share of the likeliest one are not drawn; 0 is off.
                min_p: f64 = 0.0,
                /// Makes tokens less likely that the prompt or the completion holds (HF's rule); 1 is off.
                repetition_penalty: f64 = 1.0,
                /// Weight of the k3 divergence from the initial model; 0 loads no reference.
                beta: f64 = 0.0,
                /// Weigh that divergence by the ratio.
                use_bias_correction_kl: bool = false,
                /// Let the reference follow the policy.
                sync_ref_model: bool = false,
                /// How far it goes towards the policy each time.
                ref_model_mixup_alpha: f64 = 0.6,
                /// Steps between two times.
                ref_model_sync_steps: u64 = 512,
                /// Lower clip range.
                epsilon: f64 = 0.2,
                /// Upper clip range; `epsilon` when left out.
                #[serde(skip_serializing_if = "Option::is_none")]
                epsilon_high: Option<f64> = None,
                /// Upper bound on the unclipped ratio.
                #[serde(skip_serializing_if = "Option::is_none")]
                delta: Option<f64> = None,
                /// `token`, or `sequence` for one ratio a completion (GSPO).
                importance_sampling_level: $crate::maths::grpo::ImportanceSamplingLevel =
                    $crate::maths::grpo::ImportanceSamplingLevel::Token,
                /// `dapo`, `grpo`, `bnpo`, `dr_grpo`, `cispo` (`epsilon_high` is then the bound itself), `sapo` or `luspo`.
                loss_type: $crate::maths::grpo::LossType = $crate::maths::grpo::LossType::Dapo,
                /// `group`, `batch` or `none`.
                scale_rewards: $crate::maths::grpo::ScaleRewards = $crate::maths::grpo::ScaleRewards::Group,
                /// Leave completions that were cut out of the loss.
                mask_truncated_completions: bool = false,
                /// `sapo`'s gate for positive advantages.
                sapo_temperature_pos: f64 = 1.0,
                /// `sapo`'s gate for the others.
                sapo_temperature_neg: f64 = 1.05,
                /// Leave out groups whose rewards are all equal, and draw other prompts in their place.
                dynamic_filtering: bool = false,
                /// Batches of prompts drawn for one step at most.
                dynamic_filtering_batches: usize = 10,
            }
            defaults { learning_rate: 1e-6, logging_steps: 1, digest_steps: 10 }
        }

        impl $crate::train::parameters::Reinforced for Params {
            fn settings(&self) -> $crate::train::group::Settings {
                $crate::train::group::Settings {
                    pace: $crate::train::parameters::Trained::pace(self),
                    prompts_per_step: self.prompts_per_step,
                    num_generations: self.num_generations,
                    num_iterations: self.num_iterations,
                    sampling: $crate::model::Sampling {
                        temperature: self.temperature,
                        top_p: self.top_p,
                        top_k: self.top_k,
                        min_p: self.min_p,
                        repetition_penalty: self.repetition_penalty,
                        max_new_tokens: self.max_completion_length,
                        seed: self.seed,
                        ..$crate::model::Sampling::default()
                    },
                    loss: $crate::maths::grpo::GrpoLoss {
                        epsilon: self.epsilon,
                        epsilon_high: self.epsilon_high.unwrap_or(self.epsilon),
                        delta: self.delta,
                        beta: self.beta,
                        use_bias_correction_kl: self.use_bias_correction_kl,
                        loss_type: self.loss_type,
                        importance_sampling_level: self.importance_sampling_level,
                        sapo_temperature_pos: self.sapo_temperature_pos,
                        sapo_temperature_neg: self.sapo_temperature_neg,
                        temperature: self.temperature,
                        max_completion_length: self.max_completion_length,
                    },
                    follow: self.sync_ref_model.then_some($crate::train::group::Follow {
                        share: self.ref_model_mixup_alpha,
                        every: self.ref_model_sync_steps,
                    }),
                    filtering: self.dynamic_filtering.then_some(self.dynamic_filtering_batches),
                    scale_rewards: self.scale_rewards,
                    mask_truncated_completions: self.mask_truncated_completions,
                    micro_batch: self.micro_batch,
                }
            }
        }
    };
}

pub(super) use {reinforced, trained};
