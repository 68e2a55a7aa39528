//! The groups of one step: prompts drawn, completions sampled and rewarded, and which of them are learnt from. With
//! `dynamic_filtering` further prompts are drawn until the step is full of groups whose rewards differ.

use plumb_engine::stage::StageError;

use super::metrics::mean;
use super::{Settings, Task};
use crate::maths::grpo::share_without_spread;
use crate::model::{Completion, Model, Request, Rollout, Sequence};
use crate::train::chain::Met;
use crate::train::log::Values;
use crate::train::order::Order;

/// Groups of one step, in the order they were drawn.
#[derive(Default)]
pub(super) struct Batch {
    /// The prompts.
    pub items: Vec<usize>,
    /// By prompt, then by sample.
    pub sampled: Vec<Vec<Completion>>,
    /// Their texts.
    pub texts: Vec<Vec<String>>,
    /// What they are worth; `None` is masked.
    pub graded: Vec<Vec<Option<f64>>>,
    /// What the task told of each drawing.
    pub told: Vec<Values>,
    step: u64,
}

impl Batch {
    /// Draws the groups of a step, from position `drawn` of the order on, which moves.
    pub fn draw(
        policy: &mut dyn Model,
        task: &mut dyn Task,
        (order, drawn): (&mut Order, &mut usize),
        step: u64,
        settings: &Settings,
    ) -> Result<Self, StageError> {
        let mut batch = Self { step, ..Self::default() };
        for _ in 0..settings.filtering.unwrap_or(1) {
            let items = order.take(*drawn, settings.prompts_per_step);
            *drawn += items.len();
            batch.add(policy, task, items, settings)?;
            if settings.filtering.is_some() && batch.with_spread().len() >= settings.prompts_per_step {
                break;
            }
        }
        batch.check_rewards(task)?;
        Ok(batch)
    }

    fn add(
        &mut self,
        policy: &mut dyn Model,
        task: &mut dyn Task,
        items: Vec<usize>,
        settings: &Settings,
    ) -> Result<(), StageError> {
        let request = |(place, item): (usize, &usize)| Request {
            prompt: task.tokens(*item).to_vec(),
            samples: settings.num_generations,
            stream: (self.step << 32) | (self.items.len() + place) as u64,
        };
        let requests: Vec<Request> = items.iter().enumerate().map(request).collect();
        let sampled = policy.generate(&requests, &settings.sampling, &mut |_| {})?;
        let text = |one: &Completion| crate::train::tokens::decode(policy, one);
        let texts = sampled.iter().map(|group| group.iter().map(text).collect()).collect::<Result<Vec<_>, _>>()?;
        let graded = task.grade(self.step, &items, &texts)?;
        self.items.extend(items);
        self.sampled.extend(sampled);
        self.texts.extend(texts);
        // A reward that is no number says nothing of its completion.
        let finite = |reward: Option<f64>| reward.filter(|reward| reward.is_finite());
        self.graded.extend(graded.rewards.into_iter().map(|group| group.into_iter().map(finite).collect::<Vec<_>>()));
        self.told.push(graded.metrics);
        Ok(())
    }

    fn check_rewards(&self, task: &dyn Task) -> Result<(), StageError> {
        if self.graded.iter().flatten().any(Option::is_some) {
            return Ok(());
        }
        let ids: Vec<&str> = self.items.iter().map(|item| task.id(*item)).collect();
        let all = self.graded.iter().map(Vec::len).sum::<usize>();
        let message = format!(
            "step {}: none of {all} completions has a reward (each is masked or no number); items {}",
            self.step,
            ids.join(", ")
        );
        Err(StageError::new(message)
            .hint("look at the judge or the reward: `completions.jsonl` holds what was written"))
    }

    // Places of the groups that teach something.
    fn with_spread(&self) -> Vec<usize> {
        let spread = |place: &usize| share_without_spread(&self.graded[*place], usize::MAX) == 0.0;
        (0..self.items.len()).filter(spread).collect()
    }

    /// The groups to learn from: all, or as many as a step holds of those whose rewards differ.
    pub fn kept(self, settings: &Settings) -> Result<Self, StageError> {
        let Some(batches) = settings.filtering else { return Ok(self) };
        let places: Vec<usize> = self.with_spread().into_iter().take(settings.prompts_per_step).collect();
        if places.is_empty() {
            let message = format!(
                "step {}: in none of {} groups ({batches} batches of prompts) do rewards differ",
                self.step,
                self.items.len()
            );
            return Err(StageError::new(message)
                .hint("prompts of other difficulty, a larger `num_generations`, or `dynamic_filtering = false`"));
        }
        Ok(Self {
            items: places.iter().map(|place| self.items[*place]).collect(),
            sampled: places.iter().map(|place| self.sampled[*place].clone()).collect(),
            texts: places.iter().map(|place| self.texts[*place].clone()).collect(),
            graded: places.iter().map(|place| self.graded[*place].clone()).collect(),
            ..self
        })
    }

    /// Rewards of all completions in a row.
    pub fn rewards(&self) -> Vec<Option<f64>> {
        self.graded.iter().flatten().copied().collect()
    }

    /// Tokens of all completions, each with its prompt, as TRL counts them.
    pub fn tokens(&self, task: &dyn Task) -> f64 {
        let groups = self.items.iter().zip(&self.sampled);
        let all = groups.flat_map(|(item, group)| group.iter().map(|one| task.tokens(*item).len() + one.tokens.len()));
        all.map(|count| count as f64).sum()
    }

    /// What the task told, over all drawings.
    pub fn told(&self) -> Values {
        let mut told = Values::new();
        for name in self.told.iter().flat_map(Values::keys) {
            let known: Vec<f64> = self.told.iter().filter_map(|values| values.get(name)).copied().collect();
            told.entry(name.clone()).or_insert_with(|| mean(&known));
        }
        told
    }

    /// What the loss is made of.
    pub fn rollouts(
        &self,
        task: &dyn Task,
        rewards: &[Option<f64>],
        advantages: &[f64],
        settings: &Settings,
    ) -> Vec<Rollout> {
        let groups = self.items.iter().zip(&self.sampled);
        let pairs = groups.flat_map(|(item, group)| group.iter().map(move |one| (*item, one)));
        let rollout =
            |((item, completion), (reward, advantage)): ((usize, &Completion), (&Option<f64>, &f64))| Rollout {
                sequence: Sequence { prompt: task.tokens(item).to_vec(), completion: completion.tokens.clone() },
                advantage: *advantage,
                old_logprobs: if settings.num_iterations > 1 { completion.logprobs.clone() } else { Vec::new() },
                ref_logprobs: Vec::new(),
                counted: reward.is_some() && (completion.finished || !settings.mask_truncated_completions),
            };
        pairs.zip(rewards.iter().zip(advantages)).map(rollout).collect()
    }

    /// What was drawn and what it was worth; a masked reward is NaN here.
    pub fn met(&self, task: &dyn Task, rewards: &[Option<f64>]) -> Met {
        let mut met = Met::default();
        self.items.iter().for_each(|item| met.id(task.id(*item)));
        for completion in self.sampled.iter().flatten() {
            met.tokens(&completion.tokens);
            met.numbers(completion.logprobs.iter().copied().map(f64::from));
        }
        met.numbers(rewards.iter().map(|reward| reward.unwrap_or(f64::NAN)));
        met
    }
}
