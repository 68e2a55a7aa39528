//! The clipped policy-gradient loss of one token or one sequence (PPO, GRPO, DAPO, GSPO). Ratios and advantages in,
//! a loss to be minimised out; aggregation is in `aggregate.rs`.

/// The range in which a ratio moves the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Lower range: ratios under `1 - low` stop counting for negative advantages.
    pub low: f64,
    /// Upper range (DAPO: larger than `low`).
    pub high: f64,
    /// Upper bound on the unclipped ratio (INTELLECT-2).
    pub delta: Option<f64>,
    /// veRL's dual clip: for negative advantages the loss is at most `-A · c`.
    pub dual: Option<f64>,
}

impl Clip {
    /// The same range on both sides and no further bound.
    pub const fn symmetric(range: f64) -> Self {
        Self { low: range, high: range, delta: None, dual: None }
    }

    /// `-min(ρA, clip(ρ, 1-low, 1+high)A)`.
    pub fn loss(&self, ratio: f64, advantage: f64) -> f64 {
        let bounded = self.delta.map_or(ratio, |delta| ratio.min(delta));
        let clipped = ratio.max(1.0 - self.low).min(1.0 + self.high);
        let loss = -(bounded * advantage).min(clipped * advantage);
        match self.dual {
            Some(bound) if advantage < 0.0 => loss.min(-advantage * bound),
            _ => loss,
        }
    }
}

/// GSPO's ratio of a whole sequence: `exp` of the mean log-ratio over the tokens that count; 1 where none does.
pub fn sequence_ratio(log_ratios: &[f64]) -> f64 {
    (log_ratios.iter().sum::<f64>() / log_ratios.len().max(1) as f64).exp()
}

/// veRL's guard: a log-ratio is cut to ±20 before `exp`.
pub fn guarded_ratio(log_ratio: f64) -> f64 {
    log_ratio.clamp(-20.0, 20.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_clipped_on_the_side_that_would_go_too_far() {
        let clip = Clip::symmetric(0.2);
        let higher = Clip { high: 0.28, ..clip };
        let cases = [(clip, 1.5, 1.0, -1.2), (higher, 1.5, 1.0, -1.28), (clip, 0.5, -1.0, 0.8), (clip, 5.0, -1.0, 5.0)];
        for (clip, ratio, advantage, expected) in cases {
            assert!((clip.loss(ratio, advantage) - expected).abs() < 1e-12, "{ratio} {advantage}");
        }
    }

    #[test]
    fn dual_clip_and_delta_bound_what_negative_advantages_may_cost() {
        let clip = Clip::symmetric(0.2);
        assert_eq!(Clip { dual: Some(3.0), ..clip }.loss(5.0, -1.0), 3.0);
        assert_eq!(Clip { dual: Some(3.0), ..clip }.loss(5.0, 1.0), -1.2);
        assert_eq!(Clip { delta: Some(4.0), ..clip }.loss(5.0, -1.0), 4.0);
        assert_eq!(Clip { delta: Some(4.0), ..clip }.loss(5.0, 1.0), -1.2);
    }

    #[test]
    fn a_sequence_has_the_ratio_of_its_mean() {
        assert!((sequence_ratio(&[0.1, -0.2, 0.3]) - 1.0689391057).abs() < 1e-10);
        assert_eq!(sequence_ratio(&[]), 1.0);
        assert_eq!(guarded_ratio(1000.0), 20.0_f64.exp());
    }
}
