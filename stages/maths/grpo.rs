//! Group-relative policy optimisation (DeepSeekMath; names and defaults as in TRL's GRPOConfig).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregation;
use super::clipping::{Clip, sequence_ratio};
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
    /// The weight, bounded by `epsilon_high` itself, stands outside the gradient (MiniMax-M1); summed as `dapo`.
    Cispo,
    /// A sigmoid gate instead of a clip (Qwen's SAPO); summed as `grpo`.
    Sapo,
    /// Mean over sequences of the sum over tokens.
    Luspo,
}

/// What a ratio is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSamplingLevel {
    /// Each token's own.
    #[default]
    Token,
    /// The whole completion's: `exp` of the mean log-ratio (GSPO).
    Sequence,
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
    /// Whether k3 is weighted by the ratio (DeepSeek-V3.2's unbiased estimate).
    pub use_bias_correction_kl: bool,
    /// Aggregation.
    pub loss_type: LossType,
    /// Ratios of tokens or of completions.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// `sapo`'s gate for positive advantages.
    pub sapo_temperature_pos: f64,
    /// `sapo`'s gate for the others.
    pub sapo_temperature_neg: f64,
    /// Temperature the completions were drawn at: logits are divided by it.
    pub temperature: f64,
    /// `dr_grpo`'s constant length.
    pub max_completion_length: usize,
}

impl Default for GrpoLoss {
    fn default() -> Self {
        Self {
            epsilon: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.0,
            use_bias_correction_kl: false,
            loss_type: LossType::default(),
            importance_sampling_level: ImportanceSamplingLevel::default(),
            sapo_temperature_pos: 1.0,
            sapo_temperature_neg: 1.05,
            temperature: 1.0,
            max_completion_length: 512,
        }
    }
}

impl GrpoLoss {
    /// The loss of one token with this ratio (its own or its completion's) and log-probability, without divergence.
    pub fn of_token(&self, ratio: f64, logprob: f64, advantage: f64) -> f64 {
        match self.loss_type {
            LossType::Cispo => -ratio.min(self.epsilon_high) * advantage * logprob,
            LossType::Sapo => {
                let heat = if advantage > 0.0 { self.sapo_temperature_pos } else { self.sapo_temperature_neg };
                -4.0 / heat / (1.0 + (-heat * (ratio - 1.0)).exp()) * advantage
            }
            _ => {
                let clip = Clip { low: self.epsilon, high: self.epsilon_high, delta: self.delta, dual: None };
                clip.loss(ratio, advantage)
            }
        }
    }
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

/// The loss of a batch: the policy gradient plus `beta` times k3, aggregated. Log-probabilities and `mask` are
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
    let mut losses = Vec::with_capacity(new.len());
    for (row, (((new, old), mask), advantage)) in new.iter().zip(old).zip(mask).zip(advantages).enumerate() {
        let reference = reference.and_then(|reference| reference.get(row));
        let known = new.iter().zip(old).zip(mask).enumerate().filter(|(_, (_, marked))| **marked);
        let known: Vec<(usize, f64, f64)> =
            known.map(|(time, ((policy, drawn), _))| (time, *policy, policy - drawn)).collect();
        let whole = sequence_ratio(&known.iter().map(|(_, _, apart)| *apart).collect::<Vec<_>>());
        let of_token = |(time, policy, apart): &(usize, f64, f64)| {
            let ratio = match settings.importance_sampling_level {
                ImportanceSamplingLevel::Token => apart.exp(),
                ImportanceSamplingLevel::Sequence => whole,
            };
            let reference = reference.and_then(|reference| reference.get(*time));
            let divergence = reference.map_or(0.0, |reference| k3(*policy, *reference));
            let divergence = if settings.use_bias_correction_kl { divergence * ratio } else { divergence };
            settings.of_token(ratio, *policy, *advantage) + settings.beta * divergence
        };
        losses.push(known.iter().map(of_token).collect());
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
        GrpoLoss { epsilon_high: 0.28, beta, loss_type, max_completion_length: 4, ..GrpoLoss::default() }
    }

    #[test]
    fn on_policy_the_loss_is_minus_the_advantage_however_it_is_aggregated() {
        let new = [vec![-1.0, -2.0], vec![-0.5, -9.0]];
        let mask = [vec![true, true], vec![true, false]];
        let loss = |loss_type| batch_loss(&new, &new, None, &[1.0, -0.5], &mask, &settings(loss_type, 0.0));
        close(&[loss(LossType::Grpo)], &[-0.25]);
        close(&[loss(LossType::Dapo)], &[-0.5]);
        close(&[loss(LossType::DrGrpo)], &[-1.5 / 8.0]);
        close(&[loss(LossType::Luspo)], &[-0.75]);
        // The gate is open half way: a ratio of 1 weighs 2 / temperature.
        close(&[loss(LossType::Sapo)], &[(-2.0 + 0.5 * 2.0 / 1.05) / 2.0]);
        // Its value is no loss of the policy: the log-probability stands in it.
        close(&[loss(LossType::Cispo)], &[0.28 * (-1.0 * -3.0 - 0.5 * 0.5) / 3.0]);
    }

    #[test]
    fn a_completion_may_have_one_ratio_and_divergence_its_weight() {
        let (new, old) = ([vec![0.1, -0.2, 0.3]], [vec![0.0; 3]]);
        let sequence =
            GrpoLoss { importance_sampling_level: ImportanceSamplingLevel::Sequence, ..settings(LossType::Dapo, 0.0) };
        close(&[batch_loss(&new, &old, None, &[1.0], &[vec![true; 3]], &sequence)], &[-1.068_939_105_7]);
        let weighted = GrpoLoss { use_bias_correction_kl: true, beta: 0.5, ..sequence };
        let apart = -0.068_939_105_7 - 1.0 + 0.5 * 1.068_939_105_7 * k3(0.1, 0.0);
        let loss = batch_loss(
            &[vec![0.1; 1]],
            &[vec![0.1 - 1.068_939_105_7_f64.ln()]],
            Some(&[vec![0.0]]),
            &[1.0],
            &[vec![true]],
            &weighted,
        );
        close(&[loss], &[apart]);
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
