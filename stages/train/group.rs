//! The GRPO loop that `genrm.train` and `actor.rlhf` share: draw prompts, sample groups, have them rewarded, learn.
//! What a completion is worth is the task's matter.
//!
//! ```text
//! A    = (r - mean group) / (std group + 1e-4)                      std with Bessel's correction
//! loss = - min(ρA, clip(ρ, 1 - ε, 1 + ε_high)A) + β (exp(d) - d - 1),  d = log π_ref - log π
//! ```
//!
//! (TRL's GRPOTrainer, where the other loss types and their papers are named.) Differences: 1. with several
//! `num_iterations` the old log-probabilities are those of sampling, not of a second forward pass; with one the ratio is 1
//! and clipping inert, as in TRL; 2. a completion without a reward leaves the loss and `dapo`'s token count; in TRL its
//! advantage is 0 and its tokens count; 3. a step is `prompts_per_step` prompts, all of which are drawn, rewarded and
//! learnt from at once: `steps_per_generation` is 1; 4. `use_bias_correction_kl` is off unless asked for, as it was in TRL
//! before 1.11; 5. `frac_reward_zero_std` is of groups, whatever `scale_rewards` is; 6. no dropout, no `step_time` among
//! the metrics (the runner's events have it); 7. `dynamic_filtering` is OpenRLHF's and DAPO's, not TRL's.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;

use super::log::{CompletionRow, Log, Pace, Values, check_finite, kept_reference};
use super::order::Order;
use super::parameters::Reinforced;
use crate::jsonl;
use crate::maths::grpo::{GrpoLoss, ScaleRewards, advantages};
use crate::model::{Backend, Model, Request, Rollout, Sampling, Sequence, StepReport, Training};
use batch::Batch;
pub use metrics::{deviation, mean};

mod batch;
mod metrics;

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
    /// How the reference follows the policy; `None` where it stays.
    pub follow: Option<Follow>,
    /// Batches of prompts drawn at most to fill a step with groups whose rewards differ; `None` where all groups count.
    pub filtering: Option<usize>,
    /// Whether completions that were cut take no part.
    pub mask_truncated_completions: bool,
    /// Rollouts in one pass; 0 takes all.
    pub micro_batch: usize,
}

/// A reference that follows its policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Follow {
    /// How far it goes each time.
    pub share: f64,
    /// Steps between two times.
    pub every: u64,
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
    backend: &dyn Backend,
    (folder, mut policy): (&Path, Box<dyn Model>),
    task: &mut dyn Task,
    params: &impl Reinforced,
    io: &Io,
) -> Result<(), StageError> {
    let settings = params.settings();
    // Without its adapters a policy is its own reference.
    let mut reference = match settings.loss.beta {
        _ if params.training().lora.is_some() => None,
        0.0 => None,
        _ => Some(backend.load(folder, params.dtype(), io.manner())?),
    };
    check_context(policy.as_ref(), task, &settings)?;
    policy.prepare_training(&training(params, &settings))?;
    let reference = reference.as_mut().map(|model| model.as_mut() as &mut dyn Model);
    let log = train(policy.as_mut(), reference, task, &settings, io)?;
    policy.save(io.output("model")?)?;
    jsonl::write(io.output("completions")?, &log.completions)?;
    log.write(settings.pace, io)
}

fn check_context(policy: &dyn Model, task: &dyn Task, settings: &Settings) -> Result<(), StageError> {
    let completion = settings.sampling.max_new_tokens;
    (0..task.prompts()).try_for_each(|item| {
        let checked = super::tokens::check_context(policy, task.id(item), task.tokens(item).len() + completion);
        let most = policy.context().saturating_sub(completion);
        checked.map_err(|error| {
            error.hint(format!("with.max_prompt_length = {most}, or a smaller with.max_completion_length"))
        })
    })
}

// The schedule counts updates, of which a rollout has several.
fn training(params: &impl Reinforced, settings: &Settings) -> Training {
    let mut training = params.training();
    training.optimizer.max_steps = settings.pace.max_steps.saturating_mul(settings.num_iterations as u64);
    training
}

/// Trains `policy`. `reference` is there where `beta` is not 0 and the policy does not learn adapters.
fn train(
    policy: &mut dyn Model,
    mut reference: Option<&mut dyn Model>,
    task: &mut dyn Task,
    settings: &Settings,
    io: &Io,
) -> Result<Log, StageError> {
    if let (Some(reference), Some(moved)) = (&mut reference, kept_reference(io)) {
        reference.move_towards(&moved, 1.0)?;
    }
    let (mut log, done) = Log::resume(policy, io)?;
    let mut order = Order::new(settings.sampling.seed, "prompts", task.prompts());
    let mut tokens = log.tokens();
    for step in done + 1..=settings.pace.max_steps {
        let drawn = Batch::draw(policy, task, (&mut order, &mut log.drawn), step, settings)?;
        tokens += drawn.tokens(task);
        let mut metrics = drawn.metrics(settings);
        let batch = drawn.kept(settings)?;
        let rewards = batch.rewards();
        let advantages = advantages(&rewards, settings.num_generations, settings.scale_rewards);
        let mut rollouts = batch.rollouts(task, &rewards, &advantages, settings);
        add_reference(&mut rollouts, policy, reference.as_mut(), settings)?;
        let mut met = batch.met(task, &rewards);
        let report = learn(policy, &rollouts, settings, |report| {
            met.numbers([report.loss, report.grad_norm]);
            check_finite(step, report, batch.items.iter().map(|item| task.id(*item)))
        })?;
        metrics.extend(metrics::of_update(&report, settings));
        metrics.insert("num_tokens".into(), tokens);
        metrics.insert("epoch".into(), log.drawn as f64 / task.prompts().max(1) as f64);
        log.completions.extend(logged(step, task, &batch, &rewards, &advantages));
        let moved = follow(policy, reference.as_mut(), settings, step, io)?;
        let reference = reference.as_deref().filter(|_| moved);
        log.finish_with(step, (met, metrics), settings.pace, (policy, reference), io)?;
    }
    Ok(log)
}

// Whether the reference is no longer what it was at the start.
fn follow(
    policy: &dyn Model,
    reference: Option<&mut &mut dyn Model>,
    settings: &Settings,
    step: u64,
    io: &Io,
) -> Result<bool, StageError> {
    let (Some(reference), Some(Follow { share, every })) = (reference, settings.follow) else { return Ok(false) };
    if step.is_multiple_of(every) {
        let folder = io.state().join("followed");
        policy.save(&folder)?;
        reference.move_towards(&folder, share)?;
        std::fs::remove_dir_all(&folder).map_err(|error| StageError::file("remove", &folder, &error))?;
    }
    Ok(step >= every)
}

fn add_reference(
    rollouts: &mut [Rollout],
    policy: &mut dyn Model,
    reference: Option<&mut &mut dyn Model>,
    settings: &Settings,
) -> Result<(), StageError> {
    if settings.loss.beta == 0.0 {
        return Ok(());
    }
    let sequences: Vec<Sequence> = rollouts.iter().map(|rollout| rollout.sequence.clone()).collect();
    let scored = match reference {
        Some(reference) => reference.log_probabilities(&sequences, settings.loss.temperature)?,
        None => policy.log_probabilities_of_base(&sequences, settings.loss.temperature)?,
    };
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

fn logged(
    step: u64,
    task: &dyn Task,
    batch: &Batch,
    rewards: &[Option<f64>],
    advantages: &[f64],
) -> Vec<CompletionRow> {
    let groups = batch.items.iter().zip(&batch.texts);
    let pairs = groups.flat_map(|(item, group)| group.iter().map(move |text| (*item, text)));
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
    let sampling = Sampling { max_new_tokens, ..Sampling::default() };
    let answers = model.generate(&requests, &sampling, &mut |_| {})?;
    let text = |prompt: &Vec<u32>| {
        let answer = &answers[places[prompt]][0];
        Ok((super::tokens::decode(model, answer)?, answer.finished))
    };
    prompts.iter().map(text).collect()
}
