//! Group-relative policy optimisation (DeepSeekMath; names and defaults as in TRL's GRPOConfig).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregation;
use super::clipping::Clip;
use super::divergence::k3;

/// How token losses become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over sequences of the mean over tokens.
    Grpo,
    /// Sum over the tokens of the whole accumulated batch, by their number (TRL's default).
    #[default]
    Dapo,
    /// The same within each micro-batch.
    Bnpo,
    /// Sum over tokens by (sequences × `max_completion_length`).
    DrGrpo,
}

/// What rewards are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The group's standard deviation.
    #[default]
    Group,
    /// The whole batch's standard deviation.
    Batch,
    /// Nothing (Dr. GRPO).
    None,
}

/// The settings of the clipped loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrpoLoss {
    /// Lower clip range.
    pub epsilon: f64,
    /// Upper clip range.
    pub epsilon_high: f64,
    /// Upper bound on the unclipped ratio.
    pub delta: Option<f64>,
    /// Weight of the k3 divergence from the reference.
    pub beta: f64,
    /// Aggregation.
    pub loss_type: LossType,
    /// Temperature the completions were drawn at: logits are divided by it.
    pub temperature: f64,
    /// `dr_grpo`'s constant length.
    pub max_completion_length: usize,
}

/// Added to a standard deviation before dividing, as TRL does (veRL: 1e-6, OpenRLHF: 1e-9).
pub const STD_EPSILON: f64 = 1e-4;

/// `(reward - group mean) / (std + 1e-4)`, the std with Bessel's correction. `None` is a masked reward: it takes no part
/// in mean or std, and its advantage is 0. A last group that is short is a group of its own.
pub fn advantages(rewards: &[Option<f64>], group: usize, scale: ScaleRewards) -> Vec<f64> {
    advantages_with(rewards, group, scale, STD_EPSILON)
}

/// [`advantages`] with another guard against division by 0.
pub fn advantages_with(rewards: &[Option<f64>], group: usize, scale: ScaleRewards, epsilon: f64) -> Vec<f64> {
    let batch_std = deviation(rewards);
    let one_group = |group: &[Option<f64>]| {
        let mean = mean(group);
        let divisor = match scale {
            ScaleRewards::Group => deviation(group) + epsilon,
            ScaleRewards::Batch => batch_std + epsilon,
            ScaleRewards::None => 1.0,
        };
        group.iter().map(|reward| reward.map_or(0.0, |reward| (reward - mean) / divisor)).collect::<Vec<_>>()
    };
    rewards.chunks(group.max(1)).flat_map(one_group).collect()
}

/// Leave-one-out (RLOO): a reward minus the mean of the others of its group; 0 where there are no others.
pub fn leave_one_out(rewards: &[Option<f64>], group: usize) -> Vec<f64> {
    let one_group = |group: &[Option<f64>]| {
        let (known, mean) = (group.iter().flatten().count() as f64, mean(group));
        let advantage = |reward: f64| if known > 1.0 { (reward - mean) * known / (known - 1.0) } else { 0.0 };
        group.iter().map(|reward| reward.map_or(0.0, advantage)).collect::<Vec<_>>()
    };
    rewards.chunks(group.max(1)).flat_map(one_group).collect()
}

/// The share of groups whose known rewards are all equal: they teach nothing (TRL's `frac_reward_zero_std`).
pub fn share_without_spread(rewards: &[Option<f64>], group: usize) -> f64 {
    let groups: Vec<_> = rewards.chunks(group.max(1)).collect();
    let flat = groups.iter().filter(|group| deviation(group) < 1e-12).count();
    flat as f64 / groups.len().max(1) as f64
}

fn mean(rewards: &[Option<f64>]) -> f64 {
    let known = rewards.iter().flatten().count();
    rewards.iter().flatten().sum::<f64>() / known.max(1) as f64
}

// Bessel's correction; fewer than two known rewards have no spread.
fn deviation(rewards: &[Option<f64>]) -> f64 {
    let (known, mean) = (rewards.iter().flatten().count(), mean(rewards));
    let squares: f64 = rewards.iter().flatten().map(|reward| (reward - mean).powi(2)).sum();
    (squares / known.saturating_sub(1).max(1) as f64).sqrt()
}

/// The loss of a batch: clipped policy gradient plus `beta` times k3, aggregated. Log-probabilities and `mask` are
/// (batch, time), advantages one a sequence; `old` are those the completions were drawn with (pass `new` itself where
/// there was one update a rollout). Tokens beyond the shortest row of a sequence are not looked at.
pub fn batch_loss(
    new: &[Vec<f64>],
    old: &[Vec<f64>],
    reference: Option<&[Vec<f64>]>,
    advantages: &[f64],
    mask: &[Vec<bool>],
    settings: &GrpoLoss,
) -> f64 {
    let clip = Clip { low: settings.epsilon, high: settings.epsilon_high, delta: settings.delta, dual: None };
    let mut losses = Vec::with_capacity(new.len());
    for (row, (((new, old), mask), advantage)) in new.iter().zip(old).zip(mask).zip(advantages).enumerate() {
        let reference = reference.and_then(|reference| reference.get(row));
        let mut tokens = Vec::with_capacity(new.len());
        for (time, ((policy, drawn), _)) in
            new.iter().zip(old).zip(mask).enumerate().filter(|(_, (_, marked))| **marked)
        {
            let reference = reference.and_then(|reference| reference.get(time));
            let divergence = reference.map_or(0.0, |reference| k3(*policy, *reference));
            tokens.push(clip.loss((policy - drawn).exp(), *advantage) + settings.beta * divergence);
        }
        losses.push(tokens);
    }
    Aggregation::of(settings.loss_type, settings.max_completion_length).loss(&losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 8] = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0];

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }

    fn by_reward(right: f64, wrong: f64) -> Vec<f64> {
        REWARDS.iter().map(|reward| if *reward == 1.0 { right } else { wrong }).collect()
    }

    #[test]
    fn advantages_follow_trl_verl_dr_grpo_and_rloo() {
        let rewards = REWARDS.map(Some);
        close(&advantages(&rewards, 8, ScaleRewards::Group), &by_reward(1.2073814406, -0.7244288644));
        close(&advantages_with(&rewards, 8, ScaleRewards::Group, 1e-6), &by_reward(1.2076123955, -0.7245674373));
        close(&advantages(&rewards, 8, ScaleRewards::None), &by_reward(0.625, -0.375));
        close(&leave_one_out(&rewards, 8), &by_reward(0.7142857143, -0.4285714286));
    }

    #[test]
    fn a_group_without_spread_teaches_nothing() {
        let rewards = [Some(1.0), Some(1.0), Some(0.0), Some(1.0)];
        close(&advantages(&rewards, 2, ScaleRewards::Group)[..2], &[0.0, 0.0]);
        assert_eq!(share_without_spread(&rewards, 2), 0.5);
    }

    #[test]
    fn a_masked_reward_takes_no_part() {
        let rewards = [Some(1.0), None, Some(0.0), None, None, None, Some(1.0), None];
        let known = advantages(&[Some(1.0), Some(0.0)], 2, ScaleRewards::Group);
        close(&advantages(&rewards, 4, ScaleRewards::Group), &[known[0], 0.0, known[1], 0.0, 0.0, 0.0, 0.0, 0.0]);
        close(&leave_one_out(&rewards, 4), &[1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn batch_scale_divides_every_group_by_one_spread() {
        let rewards = [Some(2.0), Some(0.0), Some(0.5), Some(0.5)];
        let found = advantages_with(&rewards, 2, ScaleRewards::Batch, 0.0);
        close(&found, &[1.0 / 0.75_f64.sqrt(), -1.0 / 0.75_f64.sqrt(), 0.0, 0.0]);
    }

    fn settings(loss_type: LossType, beta: f64) -> GrpoLoss {
        GrpoLoss {
            epsilon: 0.2,
            epsilon_high: 0.28,
            delta: None,
            beta,
            loss_type,
            temperature: 1.0,
            max_completion_length: 4,
        }
    }

    #[test]
    fn on_policy_the_loss_is_minus_the_advantage_however_it_is_aggregated() {
        let new = [vec![-1.0, -2.0], vec![-0.5, -9.0]];
        let mask = [vec![true, true], vec![true, false]];
        let loss = |loss_type| batch_loss(&new, &new, None, &[1.0, -0.5], &mask, &settings(loss_type, 0.0));
        close(&[loss(LossType::Grpo)], &[-0.25]);
        close(&[loss(LossType::Dapo)], &[-0.5]);
        close(&[loss(LossType::DrGrpo)], &[-1.5 / 8.0]);
    }

    #[test]
    fn ratios_are_clipped_and_divergence_is_added_per_token() {
        let (new, old) = ([vec![1.5_f64.ln(), 0.0]], [vec![0.0, 0.0]]);
        let reference = [vec![1.5_f64.ln(), 0.3]];
        let mask = [vec![true, true]];
        let loss = batch_loss(&new, &old, Some(&reference), &[1.0], &mask, &settings(LossType::Dapo, 0.1));
        close(&[loss], &[(-1.28 - 1.0 + 0.1 * 0.049_858_807_576) / 2.0]);
    }
}
