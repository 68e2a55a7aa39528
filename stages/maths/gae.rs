//! Generalised advantage estimation for PPO: `δ = r + γV' - V`, folded from the end. The value after the last token
//! is 0. Never whitens by itself: returns are formed before whitening.

/// Advantages and the returns the value head learns, one a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimates {
    /// Advantages, not whitened.
    pub advantages: Vec<f64>,
    /// Advantages plus values.
    pub returns: Vec<f64>,
}

/// Estimates of one episode. Tokens beyond the shorter of the two slices are not looked at.
pub fn estimate(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Estimates {
    let length = rewards.len().min(values.len());
    let mut advantages = vec![0.0; length];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for step in (0..length).rev() {
        let delta = rewards[step] + gamma * next_value - values[step];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[step];
        advantages[step] = next_advantage;
    }
    let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    Estimates { advantages, returns }
}

/// `(x - mean) / sqrt(unbiased variance + 1e-8)`, as TRL whitens.
pub fn whiten(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    values.iter().map(|value| (value - mean) / (variance + 1e-8).sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: [f64; 3]) {
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn a_terminal_reward_flows_back() {
        let found = estimate(&[0.0, 0.0, 1.0], &[0.5, 0.6, 0.7], 1.0, 0.95);
        close(&found.advantages, [0.46575, 0.385, 0.3]);
        close(&found.returns, [0.96575, 0.985, 1.0]);
        close(&whiten(&found.advantages), [0.9913436473, 0.0170921319, -1.0084357792]);
    }

    #[test]
    fn with_lambda_one_returns_are_the_discounted_rewards() {
        let found = estimate(&[1.0, 2.0, 4.0], &[9.0, -3.0, 0.1], 0.5, 1.0);
        close(&found.returns, [3.0, 4.0, 4.0]);
    }
}
