//! The GRPO loop that `genrm.train` and `actor.rlhf` share: draw prompts, sample groups, have them rewarded, learn.
//! What a completion is worth is the task's matter.
//!
//! ```text
//! A    = (r - mean group) / (std group + 1e-4)                      std with Bessel's correction
//! loss = - min(ρA, clip(ρ, 1 - ε, 1 + ε_high)A) + β (exp(d) - d - 1),  d = log π_ref - log π
//! ```
//!
//! (TRL's GRPOTrainer.) Differences: 1. with several `num_iterations` the old log-probabilities are those
//! of sampling, not of a second forward pass; with one the ratio is 1 and clipping inert, as in TRL; 2. rollouts
//! masked by `mask_truncated_completions` or by a failed judge leave the token count of `dapo`.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;

use super::chain::Met;
use super::log::{CompletionRow, Log, Pace, Values, check_finite, of_report};
use super::order::Order;
use super::parameters::Reinforced;
use crate::jsonl;
use crate::maths::grpo::{GrpoLoss, ScaleRewards, advantages, share_without_spread};
use crate::model::{Backend, Completion, Model, Optimizer, Request, Rollout, Sampling, Sequence, StepReport};

/// What the loop needs besides the models.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How many steps, and how often they are told.
    pub pace: Pace,
    /// Prompts in a step.
    pub prompts_per_step: usize,
    /// Completions a prompt.
    pub num_generations: usize,
    /// Updates a rollout.
    pub num_iterations: usize,
    /// How completions are drawn; the seed also names the order of the prompts.
    pub sampling: Sampling,
    /// The clipped loss.
    pub loss: GrpoLoss,
    /// What rewards are divided by.
    pub scale_rewards: ScaleRewards,
    /// Whether completions that were cut take no part.
    pub mask_truncated_completions: bool,
    /// Rollouts in one pass; 0 takes all.
    pub micro_batch: usize,
}

/// What the judges of a step said.
pub struct Graded {
    /// By prompt, then by completion; `None` is masked.
    pub rewards: Vec<Vec<Option<f64>>>,
    /// Further metrics of the step.
    pub metrics: Values,
}

/// Prompts and what their completions are worth.
pub trait Task {
    /// How many prompts there are.
    fn prompts(&self) -> usize;
    /// The prompt's id.
    fn id(&self, item: usize) -> &str;
    /// Its token ids.
    fn tokens(&self, item: usize) -> &[u32];
    /// Its text, for the log.
    fn text(&self, item: usize) -> &str;
    /// Rewards of the completions' texts.
    fn grade(&mut self, step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError>;
}

/// Completions logged a step.
const LOGGED: usize = 4;

/// Runs a kind that learns by GRPO: trains the policy, which was opened from its folder, and writes the outputs.
pub(super) fn run(
    kind: &str,
    backend: &dyn Backend,
    (folder, mut policy): (&Path, Box<dyn Model>),
    task: &mut dyn Task,
    params: &impl Reinforced,
    io: &Io,
) -> Result<(), StageError> {
    let settings = params.settings();
    let mut reference = match settings.loss.beta {
        0.0 => None,
        _ => Some(backend.load(folder, params.dtype(), io.manner())?),
    };
    policy.prepare_training(&optimizer(params, &settings), params.trainable_layers())?;
    let reference = reference.as_mut().map(|model| model.as_mut() as &mut dyn Model);
    let log = train(policy.as_mut(), reference, task, &settings, io)?;
    policy.save(io.output("model")?)?;
    jsonl::write(io.output("completions")?, &log.completions)?;
    log.write(kind, settings.pace, io)
}

// The schedule counts updates, of which a rollout has several.
fn optimizer(params: &impl Reinforced, settings: &Settings) -> Optimizer {
    let updates = settings.pace.max_steps.saturating_mul(settings.num_iterations as u64);
    Optimizer { max_steps: updates, ..params.optimizer() }
}

/// Trains `policy`. `reference` is there where `beta` is not 0.
fn train(
    policy: &mut dyn Model,
    mut reference: Option<&mut dyn Model>,
    task: &mut dyn Task,
    settings: &Settings,
    io: &Io,
) -> Result<Log, StageError> {
    let (mut log, done) = Log::resume(policy, io)?;
    let mut order = Order::new(settings.sampling.seed, "prompts", task.prompts());
    let mut tokens = log.tokens();
    for step in done + 1..=settings.pace.max_steps {
        let start = usize::try_from(step - 1).unwrap_or_default() * settings.prompts_per_step;
        let items = order.take(start, settings.prompts_per_step);
        let sampled = sample(policy, task, &items, step, settings)?;
        let texts = texts(policy, &sampled)?;
        let graded = task.grade(step, &items, &texts)?;
        let rewards: Vec<Option<f64>> = graded.rewards.iter().flatten().copied().collect();
        let advantages = advantages(&rewards, settings.num_generations, settings.scale_rewards);
        let mut rollouts = rollouts(task, &items, &sampled, &rewards, &advantages, settings);
        add_reference(&mut rollouts, reference.as_mut(), settings)?;
        let mut met = met(task, &items, &sampled, &rewards);
        let report = learn(policy, &rollouts, settings, |report| {
            met.numbers([report.loss, report.grad_norm]);
            check_finite(step, report, items.iter().map(|item| task.id(*item)))
        })?;
        tokens += sampled.iter().flatten().map(|completion| completion.tokens.len() as f64).sum::<f64>();
        let mut metrics = metrics(&report, &sampled, &rewards, settings);
        metrics.extend(graded.metrics);
        metrics.insert("num_tokens".into(), tokens);
        log.completions.extend(logged(step, task, &items, &texts, &rewards, &advantages));
        log.finish(step, met, metrics, settings.pace, policy, io)?;
    }
    Ok(log)
}

fn sample(
    policy: &mut dyn Model,
    task: &dyn Task,
    items: &[usize],
    step: u64,
    settings: &Settings,
) -> Result<Vec<Vec<Completion>>, StageError> {
    let request = |(place, item): (usize, &usize)| Request {
        prompt: task.tokens(*item).to_vec(),
        samples: settings.num_generations,
        stream: (step << 32) | place as u64,
    };
    let requests: Vec<Request> = items.iter().enumerate().map(request).collect();
    policy.generate(&requests, &settings.sampling, &mut |_| {})
}

fn texts(policy: &dyn Model, sampled: &[Vec<Completion>]) -> Result<Vec<Vec<String>>, StageError> {
    let group = |group: &Vec<Completion>| group.iter().map(|one| super::tokens::decode(policy, one)).collect();
    sampled.iter().map(group).collect()
}

fn rollouts(
    task: &dyn Task,
    items: &[usize],
    sampled: &[Vec<Completion>],
    rewards: &[Option<f64>],
    advantages: &[f64],
    settings: &Settings,
) -> Vec<Rollout> {
    let pairs = items.iter().zip(sampled).flat_map(|(item, group)| group.iter().map(move |one| (*item, one)));
    let rollout = |((item, completion), (reward, advantage)): ((usize, &Completion), (&Option<f64>, &f64))| Rollout {
        sequence: Sequence { prompt: task.tokens(item).to_vec(), completion: completion.tokens.clone() },
        advantage: *advantage,
        old_logprobs: if settings.num_iterations > 1 { completion.logprobs.clone() } else { Vec::new() },
        ref_logprobs: Vec::new(),
        counted: reward.is_some() && (completion.finished || !settings.mask_truncated_completions),
    };
    pairs.zip(rewards.iter().zip(advantages)).map(rollout).collect()
}

fn add_reference(
    rollouts: &mut [Rollout],
    reference: Option<&mut &mut dyn Model>,
    settings: &Settings,
) -> Result<(), StageError> {
    let Some(reference) = reference else { return Ok(()) };
    let sequences: Vec<Sequence> = rollouts.iter().map(|rollout| rollout.sequence.clone()).collect();
    let scored = reference.log_probabilities(&sequences, settings.loss.temperature)?;
    for (rollout, scored) in rollouts.iter_mut().zip(scored) {
        rollout.ref_logprobs = scored;
    }
    Ok(())
}

// The last update's report; each goes through `check`.
fn learn(
    policy: &mut dyn Model,
    rollouts: &[Rollout],
    settings: &Settings,
    mut check: impl FnMut(&StepReport) -> Result<(), StageError>,
) -> Result<StepReport, StageError> {
    let mut report = StepReport::default();
    for _ in 0..settings.num_iterations {
        report = policy.grpo_step(rollouts, &settings.loss, settings.micro_batch)?;
        check(&report)?;
    }
    Ok(report)
}

// What was drawn and what it was worth; a masked reward is NaN here.
fn met(task: &dyn Task, items: &[usize], sampled: &[Vec<Completion>], rewards: &[Option<f64>]) -> Met {
    let mut met = Met::default();
    items.iter().for_each(|item| met.id(task.id(*item)));
    for completion in sampled.iter().flatten() {
        met.tokens(&completion.tokens);
        met.numbers(completion.logprobs.iter().copied().map(f64::from));
    }
    met.numbers(rewards.iter().map(|reward| reward.unwrap_or(f64::NAN)));
    met
}

fn metrics(report: &StepReport, sampled: &[Vec<Completion>], rewards: &[Option<f64>], settings: &Settings) -> Values {
    let mut metrics = of_report(report);
    let mut set = |name: &str, value: f64| _ = metrics.insert(name.to_string(), value);
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    set("reward", mean(&known));
    set("reward_std", deviation(&known));
    set("frac_reward_zero_std", share_without_spread(rewards, settings.num_generations));
    set("frac_reward_masked", 1.0 - known.len() as f64 / rewards.len().max(1) as f64);
    let all: Vec<&Completion> = sampled.iter().flatten().collect();
    let lengths: Vec<f64> = all.iter().map(|one| one.tokens.len() as f64).collect();
    let ended: Vec<f64> = all.iter().filter(|one| one.finished).map(|one| one.tokens.len() as f64).collect();
    set("completions/mean_length", mean(&lengths));
    set("completions/min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min));
    set("completions/max_length", lengths.iter().copied().fold(0.0, f64::max));
    set("completions/mean_terminated_length", mean(&ended));
    set("completions/clipped_ratio", 1.0 - ended.len() as f64 / all.len().max(1) as f64);
    set("clip_ratio/low_mean", report.clip_low);
    set("clip_ratio/high_mean", report.clip_high);
    set("clip_ratio/region_mean", report.clip_low + report.clip_high);
    if settings.loss.beta != 0.0 {
        set("kl", report.kl);
    }
    metrics
}

fn logged(
    step: u64,
    task: &dyn Task,
    items: &[usize],
    texts: &[Vec<String>],
    rewards: &[Option<f64>],
    advantages: &[f64],
) -> Vec<CompletionRow> {
    let pairs = items.iter().zip(texts).flat_map(|(item, group)| group.iter().map(move |text| (*item, text)));
    let row = |((item, text), (reward, advantage)): ((usize, &String), (&Option<f64>, &f64))| CompletionRow {
        step,
        id: task.id(item).to_string(),
        prompt: task.text(item).to_string(),
        completion: text.clone(),
        reward: *reward,
        advantage: *advantage,
    };
    pairs.zip(rewards.iter().zip(advantages)).take(LOGGED).map(row).collect()
}

/// The mean; 0 of nothing, for a metric must be a number.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

/// Answers each distinct prompt once: greedy decoding gives equal prompts equal answers.
pub fn greedy_texts(
    model: &mut dyn Model,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
) -> Result<Vec<(String, bool)>, StageError> {
    let mut places = BTreeMap::new();
    let mut requests = Vec::new();
    for prompt in prompts {
        places.entry(prompt).or_insert_with(|| {
            requests.push(Request { prompt: prompt.clone(), samples: 1, stream: 0 });
            requests.len() - 1
        });
    }
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, max_new_tokens, seed: 0 };
    let answers = model.generate(&requests, &sampling, &mut |_| {})?;
    let text = |prompt: &Vec<u32>| {
        let answer = &answers[places[prompt]][0];
        Ok((super::tokens::decode(model, answer)?, answer.finished))
    };
    prompts.iter().map(text).collect()
}
