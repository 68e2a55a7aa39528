//! `genrm.train`: reinforcement learning of a generative reward model (GRPO; the loss is in `group.rs`).
//!
//! ```text
//! label:                R = 1[verdict = label]
//! label-and-rationale:  R = 1[verdict = label] · 1[meta-judge: the rationale matches the gold judgment]
//! ```
//!
//! R-Align (arXiv 2602.06763, its method section). An arm differs from another only in `reward`.
//! Differences from the paper: 1. GRPO, not PPO; 2. the meta-judge is a rule, not a prompted model; 3. hyper-parameters
//! are not published: the defaults are TRL's.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{self, Graded, Settings, Task, mean};
use super::log::Values;
use super::{COMPLETIONS, STEPS, TRAINER_STATE, at_least_one, shares, tokens};
use crate::data::placement;
use crate::jsonl;
use crate::judging::meta::{MetaJudge, MetaVerdict};
use crate::judging::template::{Template, judge_prompt};
use crate::judging::verdict::{Parse, verdict};
use crate::maths::grpo::{GrpoLoss, LossType, ScaleRewards};
use crate::maths::reward::{RewardKind, RewardValues, reward};
use crate::model::{Backend, Dtype, Model, Optimizer, Sampling, Schedule};
use crate::rows::Pair;
use crate::worker::TORCH;

/// Whether training exchanges the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Swap {
    /// As the rows have them.
    #[default]
    None,
    /// By a hash of row and seed; labels and the letters in golds follow.
    Random,
}

/// Parameters of `genrm.train`, under TRL's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// What a judgment is rewarded for: `label`, `label-and-rationale`, `label-times-ap` or
    /// `{ label-plus-lambda = { lambda = 0.5 } }`.
    pub reward: RewardKind,
    /// What a full and an empty reward are worth.
    pub reward_values: RewardValues,
    /// Which rule compares a rationale with the gold: `{ kind = "rubric" }` or `{ kind = "overlap", threshold = 0.3 }`.
    pub meta: MetaJudge,
    /// How judgments are asked for: `boxed` or `miniature`.
    pub template: Template,
    /// How the verdict is read: `strict-last` or `ralign-official`.
    pub parse: Parse,
    /// `none`, or `random` to exchange the answers of half the rows.
    pub swap: Swap,
    /// Steps: prompts drawn, completions sampled, updates made. 0 hands the model on as it is: a branch without RL.
    pub max_steps: u64,
    /// Prompts in a step.
    pub prompts_per_step: usize,
    /// Completions a prompt: the group.
    pub num_generations: usize,
    /// Updates a rollout.
    pub num_iterations: usize,
    /// Tokens of a completion at most.
    pub max_completion_length: usize,
    /// Prompts of more tokens are left out and counted; no bound when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// Temperature of sampling.
    pub temperature: f64,
    /// Weight of the k3 divergence from the initial model; 0 loads no reference.
    pub beta: f64,
    /// Lower clip range.
    pub epsilon: f64,
    /// Upper clip range; `epsilon` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_high: Option<f64>,
    /// Upper bound on the unclipped ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// `dapo`, `grpo`, `bnpo` or `dr_grpo`.
    pub loss_type: LossType,
    /// `group`, `batch` or `none`.
    pub scale_rewards: ScaleRewards,
    /// Leave completions that were cut out of the loss.
    pub mask_truncated_completions: bool,
    /// Names the order of the prompts and every draw.
    pub seed: u64,
    /// Learning rate at the peak.
    pub learning_rate: f64,
    /// `linear`, `cosine` or `constant`.
    pub lr_scheduler_type: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
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
    /// Number format of the frozen part and of passes: `float32` or `bfloat16`. Trained weights are kept in float32.
    pub dtype: Dtype,
    /// Completions in one pass; 0 takes all at once. Lower it when memory runs out.
    pub micro_batch: usize,
    /// Steps between two reports of progress.
    pub logging_steps: u64,
    /// Steps between two digests of the weights in `steps.jsonl`; 0 takes only the last.
    pub digest_steps: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            reward: RewardKind::default(),
            reward_values: RewardValues::default(),
            meta: MetaJudge::Rubric {},
            template: Template::default(),
            parse: Parse::default(),
            swap: Swap::default(),
            max_steps: 100,
            prompts_per_step: 8,
            num_generations: 8,
            num_iterations: 1,
            max_completion_length: 512,
            max_prompt_length: None,
            temperature: 1.0,
            beta: 0.0,
            epsilon: 0.2,
            epsilon_high: None,
            delta: None,
            loss_type: LossType::Dapo,
            scale_rewards: ScaleRewards::Group,
            mask_truncated_completions: false,
            seed: 0,
            learning_rate: 1e-6,
            lr_scheduler_type: Schedule::Linear,
            warmup_steps: 0,
            min_lr_ratio: 0.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            trainable_layers: None,
            dtype: Dtype::Float32,
            micro_batch: 0,
            logging_steps: 1,
            digest_steps: 10,
        }
    }
}

impl Params {
    fn optimizer(&self) -> Optimizer {
        Optimizer {
            learning_rate: self.learning_rate,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            adam_epsilon: self.adam_epsilon,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            lr_scheduler_type: self.lr_scheduler_type,
            warmup_steps: self.warmup_steps,
            min_lr_ratio: self.min_lr_ratio,
            max_steps: self.max_steps * self.num_iterations as u64,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            max_steps: self.max_steps,
            prompts_per_step: self.prompts_per_step,
            num_generations: self.num_generations,
            num_iterations: self.num_iterations,
            sampling: Sampling {
                temperature: self.temperature,
                top_p: 1.0,
                top_k: 0,
                max_new_tokens: self.max_completion_length,
                seed: self.seed,
            },
            loss: GrpoLoss {
                epsilon: self.epsilon,
                epsilon_high: self.epsilon_high.unwrap_or(self.epsilon),
                delta: self.delta,
                beta: self.beta,
                loss_type: self.loss_type,
                temperature: self.temperature,
                max_completion_length: self.max_completion_length,
            },
            scale_rewards: self.scale_rewards,
            mask_truncated_completions: self.mask_truncated_completions,
            micro_batch: self.micro_batch,
            digest_steps: self.digest_steps,
            logging_steps: self.logging_steps,
        }
    }
}

/// `genrm.train`.
pub struct GenrmTrain;

impl Declare for GenrmTrain {
    const KIND: &'static str = "genrm.train";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "train a generative reward model by GRPO on labels, or on labels and rationales";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder to start from"),
        InputSpec::required("pairs", "preference pairs; with gold judgments where the reward asks for them"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained model folder"),
        OutputSpec::result("metrics", "metrics.json", "the last step's metrics, and means over the last tenth"),
        STEPS,
        COMPLETIONS,
        TRAINER_STATE,
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let counts = [
            ("prompts_per_step", params.prompts_per_step as u64),
            ("num_generations", params.num_generations as u64),
            ("num_iterations", params.num_iterations as u64),
            ("max_completion_length", params.max_completion_length as u64),
        ];
        let mut problems: Vec<Problem> =
            at_least_one(&counts).chain(shares(&[("min_lr_ratio", params.min_lr_ratio)])).collect();
        if params.temperature <= 0.0 {
            problems.push(Problem::new("temperature", "greedy groups have no spread: expected a number above 0"));
        }
        problems.extend(params.meta.problem().map(|problem| Problem::new("meta", problem)));
        problems
    }
}

/// Runs `genrm.train` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let folder = io.input("model")?;
    let mut policy = backend.load(folder, params.dtype, io.manner())?;
    let mut task = Judging::read(policy.as_ref(), io.input("pairs")?, params, io)?;
    let mut reference = match params.beta {
        0.0 => None,
        _ => Some(backend.load(folder, params.dtype, io.manner())?),
    };
    policy.prepare_training(&params.optimizer(), params.trainable_layers)?;
    let settings = params.settings();
    let reference = reference.as_mut().map(|model| model.as_mut() as &mut dyn Model);
    let log = group::train(policy.as_mut(), reference, &mut task, &settings, io)?;
    policy.save(io.output("model")?)?;
    jsonl::write(io.output("completions")?, &log.completions)?;
    log.write(GenrmTrain::KIND, settings.pace(), io)
}

struct Judging<'a> {
    pairs: Vec<Pair>,
    texts: Vec<String>,
    prompts: Vec<Vec<u32>>,
    params: &'a Params,
}

impl<'a> Judging<'a> {
    fn read(model: &dyn Model, path: &Path, params: &'a Params, io: &Io) -> Result<Self, StageError> {
        let mut task = Self { pairs: Vec::new(), texts: Vec::new(), prompts: Vec::new(), params };
        let mut dropped = 0;
        for pair in jsonl::read::<Pair>(path)? {
            if params.reward.asks_meta_judge() && pair.gt_judgment.is_none() {
                return Err(StageError::new(format!("{}: pair `{}` has no `gt_judgment`", path.display(), pair.id))
                    .hint("run the pairs through `gold.augment`, or set `with.reward = \"label\"`"));
            }
            let swaps = params.swap == Swap::Random && placement::exchanges(&pair.id, params.seed);
            let pair = if swaps { placement::swap(&pair) } else { pair };
            let text = judge_prompt(params.template, &pair, model.chat_template())?;
            let prompt = tokens::encode(model, &text)?;
            if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
                dropped += 1;
                continue;
            }
            task.pairs.push(pair);
            task.texts.push(text);
            task.prompts.push(prompt);
        }
        super::report_dropped(dropped, task.pairs.len(), path, io)?;
        Ok(task)
    }
}

impl Task for Judging<'_> {
    fn prompts(&self) -> usize {
        self.pairs.len()
    }
    fn id(&self, item: usize) -> &str {
        &self.pairs[item].id
    }
    fn tokens(&self, item: usize) -> &[u32] {
        &self.prompts[item]
    }
    fn text(&self, item: usize) -> &str {
        &self.texts[item]
    }

    fn grade(&mut self, _step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError> {
        let mut tally = Tally::default();
        let rewards = items.iter().zip(texts).map(|(item, group)| {
            let pair = &self.pairs[*item];
            group.iter().map(|text| self.reward(pair, text, &mut tally)).collect()
        });
        let rewards = rewards.collect();
        Ok(Graded { rewards, metrics: tally.metrics() })
    }
}

#[derive(Default)]
struct Tally {
    parsed: Vec<f64>,
    label: Vec<f64>,
    rationale: Vec<f64>,
}

impl Tally {
    fn metrics(&self) -> Values {
        let named = [
            ("rewards/label/mean", mean(&self.label)),
            ("rewards/rationale/mean", mean(&self.rationale)),
            ("verdict_parsed", mean(&self.parsed)),
        ];
        named.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }
}

impl Judging<'_> {
    // The meta-judge is asked only where the label is right.
    fn reward(&self, pair: &Pair, text: &str, tally: &mut Tally) -> Option<f64> {
        let said = verdict(self.params.parse, self.params.template, text);
        let right = said == Some(pair.gt_label);
        tally.parsed.push(f64::from(u8::from(said.is_some())));
        tally.label.push(f64::from(u8::from(right)));
        let golden = pair.gt_judgment.as_deref().unwrap_or_default();
        let judged = (right && self.params.reward.asks_meta_judge()).then(|| self.params.meta.judge(golden, text));
        if let Some(judged) = &judged {
            tally.rationale.push(f64::from(u8::from(judged.verdict == MetaVerdict::Correct)));
        }
        self.params.reward_values.place(reward(self.params.reward, right, judged.as_ref()))
    }
}
