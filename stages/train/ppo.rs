//! `actor.ppo`: proximal policy optimisation of a policy against a scalar reward model, with a value model of its own
//! (TRL's experimental PPOTrainer, which its releases no longer carry; arXiv 1707.06347, 1909.08593).
//!
//! ```text
//! r_t  = - kl_coef KL_t, and the reward model's score at the last token           KL_t = log π - log ref, or k3
//! A_t  = Σ (γλ)^k δ_{t+k},  δ_t = r_t + γ V_{t+1} - V_t;  R_t = A_t + V_t;  then A whitened over the batch
//! loss = mean max(- ρ A, - clip(ρ, 1 ± cliprange) A)
//!        + vf_coef mean max((V - R)², (clip(V, V_old ± cliprange_value) - R)²) / 2
//! ```
//!
//! Differences from TRL: 1. policy and value model have an optimiser each, with the same settings, and are clipped apart;
//! 2. one completion a prompt, cut at its end token, `prompts_per_step` of them a step; 3. no `whiten_rewards`, no
//! `local_rollout_forward_batch_size`; 4. the reward model reads the text anew, with its own tokenizer and end token;
//! 5. `missing_eos_penalty` is off unless given; 6. no `val/ratio` among the metrics; 7. no dropout.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::Met;
use super::group::mean;
use super::log::{CompletionRow, Log, Values, check_finite, kept_learner};
use super::order::Order;
use super::parameters::{Trained as _, problems_of_training, trained};
use super::{CHAIN, COMPLETIONS, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, at_least_one, shares, tokens};
use crate::jsonl;
use crate::judging::template::{Template, task_prompt};
use crate::maths::gae::{estimate, whiten};
use crate::maths::ppo::{KlEstimator, PpoLoss, token_rewards};
use crate::model::{Backend, Completion, Estimated, Model, Request, Sampling, Sequence, StepReport};
use crate::rows::{Demonstration, Task};
use crate::worker::TORCH;

/// What the value model starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ValueFrom {
    /// The reward model.
    #[default]
    Reward,
    /// The policy, with a head drawn from the seed.
    Policy,
}

trained! {
    /// Parameters of `actor.ppo`, under TRL's names.
    struct Params {
        /// How tasks are put to the policy and the reward model: `boxed` or `miniature`.
        template: Template = Template::default(),
        /// Prompts in a step, each completed once.
        prompts_per_step: usize = 8,
        /// Passes over a step's completions.
        num_ppo_epochs: usize = 4,
        /// Updates in such a pass.
        num_mini_batches: usize = 1,
        /// Tokens of a completion at most.
        max_completion_length: usize = 512,
        /// Prompts of more tokens are left out and counted; no bound when left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_prompt_length: Option<usize> = None,
        /// Temperature of sampling.
        temperature: f64 = 0.7,
        /// What divergence from the initial policy costs.
        kl_coef: f64 = 0.05,
        /// `k1` or `k3`.
        kl_estimator: KlEstimator = KlEstimator::K1,
        /// How far a ratio may go from 1.
        cliprange: f64 = 0.2,
        /// How far a value may go from what it was.
        cliprange_value: f64 = 0.2,
        /// Weight of the value loss.
        vf_coef: f64 = 0.1,
        /// Discount.
        gamma: f64 = 1.0,
        /// λ of the advantage estimates.
        lam: f64 = 0.95,
        /// Taken off the score of a completion without an end token.
        #[serde(skip_serializing_if = "Option::is_none")]
        missing_eos_penalty: Option<f64> = None,
        /// What the value model starts as: `reward` or `policy`.
        value_from: ValueFrom = ValueFrom::Reward,
    }
    defaults { learning_rate: 3e-6, logging_steps: 1, digest_steps: 10 }
}

/// `actor.ppo`.
pub struct ActorPpo;

impl Declare for ActorPpo {
    const KIND: &'static str = "actor.ppo";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "train a policy by PPO against a scalar reward model";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("policy", "the model folder to train, and the reference"),
        InputSpec::required("reward", "the reward model, as `rm.train` writes it"),
        InputSpec::required("tasks", "tasks whose dialogues the policy answers"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained policy"),
        METRICS,
        STEPS,
        CHAIN,
        COMPLETIONS,
        TRAINER_STATE,
        TENSORBOARD,
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let counts = [
            ("prompts_per_step", params.prompts_per_step as u64),
            ("num_ppo_epochs", params.num_ppo_epochs as u64),
            ("num_mini_batches", params.num_mini_batches as u64),
            ("max_completion_length", params.max_completion_length as u64),
        ];
        let rates = [("gamma", params.gamma), ("lam", params.lam)];
        let mut problems: Vec<Problem> =
            at_least_one(&counts).chain(shares(&rates)).chain(problems_of_training(params)).collect();
        if params.temperature <= 0.0 {
            problems.push(Problem::new("temperature", "greedy completions explore nothing: expected a number above 0"));
        }
        problems
    }
}

/// Runs `actor.ppo` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let (folder, manner) = (io.input("policy")?, io.manner());
    let mut policy = backend.load(folder, params.dtype, manner)?;
    let judge = backend.load_reward_model(io.input("reward")?, params.dtype, manner, None)?;
    let mut value = match params.value_from {
        ValueFrom::Reward => backend.load_reward_model(io.input("reward")?, params.dtype, manner, None)?,
        ValueFrom::Policy => backend.load_reward_model(folder, params.dtype, manner, Some(params.seed))?,
    };
    // Without its adapters a policy is its own reference.
    let reference = match params.use_peft {
        true => None,
        false => Some(backend.load(folder, params.dtype, manner)?),
    };
    let prompts = Prompts::read(policy.as_ref(), io.input("tasks")?, params, io)?;
    let mut training = params.training();
    let updates = params.num_ppo_epochs.saturating_mul(params.num_mini_batches) as u64;
    training.optimizer.max_steps = params.max_steps.saturating_mul(updates);
    policy.prepare_training(&training)?;
    value.prepare_training(&training)?;
    let mut trainer = Trainer { policy, value, judge, reference, prompts, params };
    let log = trainer.train(io)?;
    trainer.policy.save(io.output("model")?)?;
    jsonl::write(io.output("completions")?, &log.completions)?;
    log.write(params.pace(), io)
}

struct Prompts {
    tasks: Vec<Task>,
    tokens: Vec<Vec<u32>>,
}

impl Prompts {
    fn read(policy: &dyn Model, path: &Path, params: &Params, io: &Io) -> Result<Self, StageError> {
        let (mut prompts, mut dropped) = (Self { tasks: Vec::new(), tokens: Vec::new() }, 0);
        for task in jsonl::read_some::<Task>(path)? {
            let text = task_prompt(params.template, &task, policy.chat_template())?;
            let prompt = tokens::encode(policy, &text)?;
            if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
                dropped += 1;
                continue;
            }
            tokens::check_context(policy, &task.id, prompt.len() + params.max_completion_length)?;
            prompts.tasks.push(task);
            prompts.tokens.push(prompt);
        }
        super::report_dropped(dropped, prompts.tasks.len(), path, io)?;
        Ok(prompts)
    }
}

struct Trainer<'a> {
    policy: Box<dyn Model>,
    value: Box<dyn Model>,
    judge: Box<dyn Model>,
    reference: Option<Box<dyn Model>>,
    prompts: Prompts,
    params: &'a Params,
}

// The completions of one step.
struct Rollouts {
    items: Vec<usize>,
    completions: Vec<Completion>,
    sequences: Vec<Sequence>,
    texts: Vec<String>,
    logprobs: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    scores: Vec<f64>,
}

/// Completions logged a step.
const LOGGED: usize = 4;

impl Trainer<'_> {
    fn train(&mut self, io: &Io) -> Result<Log, StageError> {
        if let Some(folder) = kept_learner(io) {
            self.value.resume(&folder)?;
        }
        let (mut log, done) = Log::resume(self.policy.as_mut(), io)?;
        let mut order = Order::new(self.params.seed, "prompts", self.prompts.tasks.len());
        let mut tokens = log.tokens();
        let size = self.params.prompts_per_step;
        for step in done + 1..=self.params.max_steps {
            let items = order.take(usize::try_from(step - 1).unwrap_or_default() * size, size);
            let rollouts = self.roll_out(step, items)?;
            let (rows, rewards) = self.estimates(&rollouts)?;
            let mut met = self.met(&rollouts);
            let updates = self.learn(step, &rows, &rollouts, &mut met)?;
            tokens += rows.iter().map(|row| row.sequence.whole().len() as f64).sum::<f64>();
            let mut metrics = rollouts.metrics(&rewards);
            metrics.extend(updates);
            metrics.insert("num_tokens".into(), tokens);
            metrics.insert("episode".into(), step as f64 * size as f64);
            metrics.insert("epoch".into(), step as f64 * size as f64 / self.prompts.tasks.len() as f64);
            log.completions.extend(self.logged(step, &rollouts, &rows)?);
            let (policy, value) = (self.policy.as_ref(), self.value.as_ref());
            log.finish_with_learner(step, (met, metrics), self.params.pace(), (policy, value), io)?;
        }
        Ok(log)
    }

    fn roll_out(&mut self, step: u64, items: Vec<usize>) -> Result<Rollouts, StageError> {
        let params = self.params;
        let sampling = Sampling {
            temperature: params.temperature,
            max_new_tokens: params.max_completion_length,
            seed: params.seed,
            ..Sampling::default()
        };
        let request = |(place, item): (u64, &usize)| Request {
            prompt: self.prompts.tokens[*item].clone(),
            samples: 1,
            stream: (step << 32) | place,
        };
        let requests: Vec<Request> = (0..).zip(&items).map(request).collect();
        let completions = self.policy.generate(&requests, &sampling, &mut |_| {})?;
        let completions: Vec<Completion> = completions.into_iter().flatten().collect();
        let whole = |(request, one): (&Request, &Completion)| Sequence {
            prompt: request.prompt.clone(),
            completion: one.tokens.clone(),
        };
        let sequences: Vec<Sequence> = requests.iter().zip(&completions).map(whole).collect();
        let logprobs = self.policy.log_probabilities(&sequences, params.temperature)?;
        let reference = match &mut self.reference {
            Some(reference) => reference.log_probabilities(&sequences, params.temperature)?,
            None => self.policy.log_probabilities_of_base(&sequences, params.temperature)?,
        };
        let text = |one: &Completion| tokens::decode(self.policy.as_ref(), one);
        let texts = completions.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let scores = self.scores(&items, &texts, &completions)?;
        Ok(Rollouts { items, completions, sequences, texts, logprobs, reference, scores })
    }

    fn scores(
        &mut self,
        items: &[usize],
        texts: &[String],
        completions: &[Completion],
    ) -> Result<Vec<f64>, StageError> {
        let judge = self.judge.as_ref();
        let read = |(item, text): (&usize, &String)| {
            let task = &self.prompts.tasks[*item];
            let prompt = task_prompt(self.params.template, task, judge.chat_template())?;
            let row = Demonstration { id: task.id.clone(), prompt, completion: text.clone() };
            let read = tokens::sequence(judge, &row, judge.context())?;
            let full = || StageError::new(format!("task `{}` leaves the reward model no room for an answer", task.id));
            read.map(|sequence| sequence.whole()).ok_or_else(full)
        };
        let whole = items.iter().zip(texts).map(read).collect::<Result<Vec<_>, _>>()?;
        let penalty = self.params.missing_eos_penalty.unwrap_or_default();
        let scores = self.judge.rewards(&whole)?.into_iter().zip(completions);
        Ok(scores.map(|(score, one)| if one.finished { score } else { score - penalty }).collect())
    }

    // What each completion teaches, and the rewards of its tokens.
    fn estimates(&mut self, rollouts: &Rollouts) -> Result<(Vec<Estimated>, Vec<Vec<f64>>), StageError> {
        let params = self.params;
        let values = self.value.values(&rollouts.sequences)?;
        let each = rollouts.logprobs.iter().zip(&rollouts.reference).zip(&rollouts.scores);
        let rewards: Vec<Vec<f64>> = each
            .map(|((own, reference), score)| token_rewards(own, reference, *score, params.kl_coef, params.kl_estimator))
            .collect();
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let estimates = rewards.iter().zip(&values);
        let estimates: Vec<_> =
            estimates.map(|(rewards, values)| estimate(rewards, &wide(values), params.gamma, params.lam)).collect();
        let flat: Vec<f64> = estimates.iter().flat_map(|one| one.advantages.iter().copied()).collect();
        let mut white = whiten(&flat).into_iter().map(|advantage| advantage as f32);
        let row = |(place, (estimates, old_values)): (usize, (crate::maths::gae::Estimates, Vec<f32>))| Estimated {
            sequence: rollouts.sequences[place].clone(),
            advantages: white.by_ref().take(old_values.len()).collect(),
            old_logprobs: rollouts.logprobs[place].clone(),
            returns: estimates.returns.iter().map(|target| *target as f32).collect(),
            old_values,
        };
        Ok((estimates.into_iter().zip(values).enumerate().map(row).collect(), rewards))
    }

    fn learn(
        &mut self,
        step: u64,
        rows: &[Estimated],
        rollouts: &Rollouts,
        met: &mut Met,
    ) -> Result<Values, StageError> {
        let params = self.params;
        let loss = PpoLoss {
            cliprange: params.cliprange,
            cliprange_value: params.cliprange_value,
            vf_coef: params.vf_coef,
            temperature: params.temperature,
        };
        let mut order = Order::new(params.seed, "mini-batches", rows.len());
        let size = rows.len().div_ceil(params.num_mini_batches).max(1);
        let first = usize::try_from(step - 1).unwrap_or_default() * params.num_ppo_epochs;
        let mut reports: Vec<(StepReport, StepReport)> = Vec::new();
        for epoch in 0..params.num_ppo_epochs {
            let drawn = order.take((first + epoch) * rows.len(), rows.len());
            for part in drawn.chunks(size) {
                let batch: Vec<Estimated> = part.iter().map(|row| rows[*row].clone()).collect();
                let policy = self.policy.ppo_step(&batch, &loss, params.micro_batch)?;
                let value = self.value.value_step(&batch, &loss, params.micro_batch)?;
                for report in [&policy, &value] {
                    let ids = part.iter().map(|row| self.prompts.tasks[rollouts.items[*row]].id.as_str());
                    check_finite(step, report, ids)?;
                    met.numbers([report.loss, report.grad_norm]);
                }
                reports.push((policy, value));
            }
        }
        Ok(of_updates(&reports, params.vf_coef))
    }

    fn met(&self, rollouts: &Rollouts) -> Met {
        let mut met = Met::default();
        rollouts.items.iter().for_each(|item| met.id(&self.prompts.tasks[*item].id));
        for (completion, logprobs) in rollouts.completions.iter().zip(&rollouts.logprobs) {
            met.tokens(&completion.tokens);
            met.numbers(logprobs.iter().copied().map(f64::from));
        }
        met.numbers(rollouts.scores.iter().copied());
        met
    }

    fn logged(&self, step: u64, rollouts: &Rollouts, rows: &[Estimated]) -> Result<Vec<CompletionRow>, StageError> {
        let row = |place: usize| {
            let task = &self.prompts.tasks[rollouts.items[place]];
            let advantages: Vec<f64> = rows[place].advantages.iter().copied().map(f64::from).collect();
            Ok(CompletionRow {
                step,
                id: task.id.clone(),
                prompt: task_prompt(self.params.template, task, self.policy.chat_template())?,
                completion: rollouts.texts[place].clone(),
                reward: Some(rollouts.scores[place]),
                advantage: mean(&advantages),
            })
        };
        (0..rows.len().min(LOGGED)).map(row).collect()
    }
}

impl Rollouts {
    fn metrics(&self, rewards: &[Vec<f64>]) -> Values {
        let over = |of: &dyn Fn(usize) -> f64| mean(&(0..self.items.len()).map(of).collect::<Vec<f64>>());
        let sum = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>();
        let total = |place: usize| rewards[place].iter().sum::<f64>();
        [
            ("objective/kl", over(&|place| sum(&self.logprobs[place]) - sum(&self.reference[place]))),
            ("objective/entropy", over(&|place| -sum(&self.logprobs[place]))),
            ("objective/scores", mean(&self.scores)),
            ("objective/non_score_reward", over(&|place| total(place) - self.scores[place])),
            ("objective/rlhf_reward", over(&total)),
            ("val/num_eos_tokens", self.completions.iter().filter(|one| one.finished).count() as f64),
            ("completions/mean_length", over(&|place| self.completions[place].tokens.len() as f64)),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into()
    }
}

// Means over the updates of a step; the rate is the last one's.
fn of_updates(reports: &[(StepReport, StepReport)], vf_coef: f64) -> Values {
    let over = |of: &dyn Fn(&StepReport, &StepReport) -> f64| {
        mean(&reports.iter().map(|(policy, value)| of(policy, value)).collect::<Vec<f64>>())
    };
    let weight = if vf_coef > 0.0 { vf_coef } else { 1.0 };
    [
        ("loss", over(&|policy, value| policy.loss + value.loss)),
        ("loss/policy_avg", over(&|policy, _| policy.loss)),
        ("loss/value_avg", over(&|_, value| value.loss / weight)),
        ("policy/approxkl_avg", over(&|policy, _| policy.kl)),
        ("policy/clipfrac_avg", over(&|policy, _| policy.clip_low + policy.clip_high)),
        ("policy/entropy_avg", over(&|policy, _| policy.entropy)),
        ("val/clipfrac_avg", over(&|_, value| value.clip_high)),
        ("grad_norm", over(&|policy, _| policy.grad_norm)),
        ("value_grad_norm", over(&|_, value| value.grad_norm)),
        ("learning_rate", reports.last().map_or(0.0, |(policy, _)| policy.learning_rate)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}
