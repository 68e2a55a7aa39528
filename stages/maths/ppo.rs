//! PPO's losses and rewards of one token: the clipped policy loss is `clipping.rs`'s, the estimates `gae.rs`'s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::divergence::{k1, k3};

/// How the divergence from the reference is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// The difference of the log-probabilities: of either sign.
    #[default]
    K1,
    /// Schulman's third: never negative.
    K3,
}

/// The numbers of PPO's two losses, under TRL's names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PpoLoss {
    /// How far a ratio may go from 1.
    pub cliprange: f64,
    /// How far a value may go from what it was.
    pub cliprange_value: f64,
    /// Weight of the value loss.
    pub vf_coef: f64,
    /// What logits are divided by.
    pub temperature: f64,
}

/// `max((v - R)², (clip(v, old ± range) - R)²) / 2`, its slope by `v`, and whether the clipped value was the worse one.
pub fn value_loss(value: f64, old: f64, target: f64, range: f64) -> (f64, f64, bool) {
    let clipped = value.max(old - range).min(old + range);
    let (free, held) = (value - target, clipped - target);
    if held * held > free * free { (held * held / 2.0, 0.0, true) } else { (free * free / 2.0, free, false) }
}

/// Rewards of a completion's tokens: what divergence costs at each, and the score at the last.
pub fn token_rewards(policy: &[f32], reference: &[f32], score: f64, coefficient: f64, kl: KlEstimator) -> Vec<f64> {
    let estimate = match kl {
        KlEstimator::K1 => k1,
        KlEstimator::K3 => k3,
    };
    let each = policy.iter().zip(reference);
    let mut rewards: Vec<f64> =
        each.map(|(policy, reference)| -coefficient * estimate(f64::from(*policy), f64::from(*reference))).collect();
    rewards.last_mut().into_iter().for_each(|last| *last += score);
    rewards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_held_near_what_it_was() {
        assert_eq!(value_loss(0.6, 0.5, 1.0, 0.2), (0.08000000000000002, -0.4, false));
        // Too far towards the return: the clipped value is the worse one, and nothing pulls.
        let (loss, slope, clipped) = value_loss(0.9, 0.5, 1.0, 0.2);
        assert!((loss - 0.045).abs() < 1e-12 && slope == 0.0 && clipped);
        // Too far the other way: the value itself is the worse one.
        let (loss, slope, clipped) = value_loss(0.0, 0.5, 1.0, 0.2);
        assert_eq!((loss, slope, clipped), (0.5, -1.0, false));
    }

    #[test]
    fn the_score_lies_on_the_last_token_and_divergence_on_each() {
        let rewards = token_rewards(&[-1.2, -1.0], &[-0.9, -1.0], 2.0, 0.5, KlEstimator::K1);
        assert!((rewards[0] - 0.15).abs() < 1e-6 && (rewards[1] - 2.0).abs() < 1e-6, "{rewards:?}");
        let rewards = token_rewards(&[-1.2, -1.0], &[-0.9, -1.0], 2.0, 0.5, KlEstimator::K3);
        assert!((rewards[0] + 0.5 * 0.0498588076).abs() < 1e-6, "{rewards:?}");
        assert!(token_rewards(&[], &[], 2.0, 0.5, KlEstimator::K1).is_empty());
    }
}
