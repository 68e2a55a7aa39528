//! `actor.rlhf`: reinforcement learning of a policy against a generative reward model (GRPO; the loss is in `group.rs`).
//!
//! ```text
//! R = +1 where the judge prefers the rollout to the task's fixed reference answer, -1 where it prefers the reference,
//!      0 where its verdict cannot be read or, with `both_orders`, changes with the order
//! ```
//!
//! R-Align's actor stage as far as it is known. Differences: 1. GRPO, not PPO; 2. no length penalty
//! (the paper's has no published formula); 3. the judge decodes greedily; 4. one order decided by a hash, or both.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{self, Graded, Settings, mean};
use super::log::Values;
use super::{COMPLETIONS, STEPS, TRAINER_STATE, at_least_one, shares, tokens};
use crate::data::hash;
use crate::jsonl;
use crate::judging::template::{Template, against_reference, judge_prompt, task_prompt};
use crate::judging::verdict::{Parse, verdict};
use crate::maths::grpo::{GrpoLoss, LossType, ScaleRewards};
use crate::model::{Backend, Dtype, Model, Optimizer, Sampling, Schedule};
use crate::rows::{Side, Task};
use crate::worker::TORCH;

/// Parameters of `actor.rlhf`, under TRL's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How tasks and judgments are asked for: `boxed` or `miniature`.
    pub template: Template,
    /// How the verdict is read: `strict-last` or `ralign-official`.
    pub parse: Parse,
    /// Ask the judge in both orders; where they disagree the reward is 0.
    pub both_orders: bool,
    /// Tokens of a judgment at most.
    pub judge_max_completion_length: usize,
    /// Steps: prompts drawn, completions sampled, updates made.
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
            template: Template::default(),
            parse: Parse::default(),
            both_orders: false,
            judge_max_completion_length: 512,
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

/// `actor.rlhf`.
pub struct ActorRlhf;

impl Declare for ActorRlhf {
    const KIND: &'static str = "actor.rlhf";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "train a policy by GRPO against a generative reward model";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("policy", "the model folder to train"),
        InputSpec::required("genrm", "the model folder that judges"),
        InputSpec::required("tasks", "tasks with a fixed reference answer each"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained policy"),
        OutputSpec::result("metrics", "metrics.json", "the last step's metrics, and means over the last tenth"),
        STEPS,
        COMPLETIONS,
        TRAINER_STATE,
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let counts = [
            ("max_steps", params.max_steps),
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
        problems
    }
}

/// Runs `actor.rlhf` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let folder = io.input("policy")?;
    let mut policy = backend.load(folder, params.dtype, io.manner())?;
    let judge = backend.load(io.input("genrm")?, params.dtype, io.manner())?;
    let mut contest = Contest::read(policy.as_ref(), judge, io.input("tasks")?, params, io)?;
    let mut reference = match params.beta {
        0.0 => None,
        _ => Some(backend.load(folder, params.dtype, io.manner())?),
    };
    policy.prepare_training(&params.optimizer(), params.trainable_layers)?;
    let settings = params.settings();
    let reference = reference.as_mut().map(|model| model.as_mut() as &mut dyn Model);
    let log = group::train(policy.as_mut(), reference, &mut contest, &settings, io)?;
    policy.save(io.output("model")?)?;
    jsonl::write(io.output("completions")?, &log.completions)?;
    log.write(ActorRlhf::KIND, settings.pace(), io)
}

struct Contest<'a> {
    tasks: Vec<Task>,
    texts: Vec<String>,
    prompts: Vec<Vec<u32>>,
    judge: Box<dyn Model>,
    params: &'a Params,
}

impl<'a> Contest<'a> {
    fn read(
        policy: &dyn Model,
        judge: Box<dyn Model>,
        path: &Path,
        params: &'a Params,
        io: &Io,
    ) -> Result<Self, StageError> {
        let mut contest = Self { tasks: Vec::new(), texts: Vec::new(), prompts: Vec::new(), judge, params };
        let mut dropped = 0;
        for task in jsonl::read::<Task>(path)? {
            let text = task_prompt(params.template, &task, policy.chat_template())?;
            let prompt = tokens::encode(policy, &text)?;
            if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
                dropped += 1;
                continue;
            }
            contest.tasks.push(task);
            contest.texts.push(text);
            contest.prompts.push(prompt);
        }
        super::report_dropped(dropped, contest.tasks.len(), path, io)?;
        Ok(contest)
    }

    // The side on which the rollouts of a prompt stand: one for the whole group, or the group would be compared
    // across orders.
    fn side(&self, step: u64, task: &Task) -> Side {
        let parts = ["side", &self.params.seed.to_string(), &step.to_string(), &task.id];
        if hash::number(&parts).is_multiple_of(2) { Side::A } else { Side::B }
    }

    // Whether the judge preferred each answer; `None` where it cannot be read.
    fn wins(&mut self, shown: &[(usize, &str, Side)]) -> Result<Vec<Option<bool>>, StageError> {
        let prompt = |(item, answer, side): &(usize, &str, Side)| {
            let pair = against_reference(&self.tasks[*item], answer, *side)?;
            let text = judge_prompt(self.params.template, &pair, self.judge.chat_template())?;
            tokens::encode(self.judge.as_ref(), &text)
        };
        let prompts = shown.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
        let texts = group::greedy_texts(self.judge.as_mut(), &prompts, self.params.judge_max_completion_length)?;
        let won = |((text, _), (_, _, side)): (&(String, bool), &(usize, &str, Side))| {
            verdict(self.params.parse, self.params.template, text).map(|said| said == *side)
        };
        Ok(texts.iter().zip(shown).map(won).collect())
    }
}

fn shown_with(item: usize, side: Side, group: &[String]) -> impl Iterator<Item = (usize, &str, Side)> {
    group.iter().map(move |text| (item, text.as_str(), side))
}

fn worth(one: Option<bool>, other: Option<bool>) -> f64 {
    match (one, other) {
        (Some(true), Some(true)) => 1.0,
        (Some(false), Some(false)) => -1.0,
        _ => 0.0,
    }
}

impl group::Task for Contest<'_> {
    fn prompts(&self) -> usize {
        self.tasks.len()
    }
    fn id(&self, item: usize) -> &str {
        &self.tasks[item].id
    }
    fn tokens(&self, item: usize) -> &[u32] {
        &self.prompts[item]
    }
    fn text(&self, item: usize) -> &str {
        &self.texts[item]
    }

    fn grade(&mut self, step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError> {
        let sides: Vec<Side> = items.iter().map(|item| self.side(step, &self.tasks[*item])).collect();
        let answers = |exchange: bool| -> Vec<(usize, &str, Side)> {
            let side = |side: &Side| if exchange { side.other() } else { *side };
            let groups = items.iter().zip(&sides).zip(texts);
            groups.flat_map(|((item, own), group)| shown_with(*item, side(own), group)).collect()
        };
        let first = self.wins(&answers(false))?;
        let second = if self.params.both_orders { self.wins(&answers(true))? } else { first.clone() };
        let flat: Vec<f64> = first.iter().zip(&second).map(|(one, other)| worth(*one, *other)).collect();
        let metrics = metrics(&first, &second, &flat);
        let size = texts.first().map_or(1, Vec::len).max(1);
        let rewards = flat.chunks(size).map(|group| group.iter().copied().map(Some).collect()).collect();
        Ok(Graded { rewards, metrics })
    }
}

fn metrics(first: &[Option<bool>], second: &[Option<bool>], rewards: &[f64]) -> Values {
    let share = |holds: &dyn Fn(usize) -> bool| {
        let flags: Vec<f64> = (0..rewards.len()).map(|index| f64::from(u8::from(holds(index)))).collect();
        mean(&flags)
    };
    let named = [
        ("rewards/genrm/mean", mean(rewards)),
        ("win_rate", share(&|index| rewards[index] > 0.0)),
        ("verdict_parsed", share(&|index| first[index].is_some() && second[index].is_some())),
        (
            "order_disagreement",
            share(&|index| first[index].zip(second[index]).is_some_and(|(one, other)| one != other)),
        ),
    ];
    named.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_counts_only_where_both_orders_agree() {
        assert_eq!(worth(Some(true), Some(true)), 1.0);
        assert_eq!(worth(Some(false), Some(false)), -1.0);
        assert_eq!(worth(Some(true), Some(false)), 0.0);
        assert_eq!(worth(None, Some(true)), 0.0);
    }
}
