//! Losses on pairs: Bradley–Terry reward models and direct preference optimisation. `delta` is
//! `(log π - log reference)` of the chosen minus that of the rejected, summed over completion tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a pair's log-ratios are worth, under TRL's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum DpoKind {
    /// The logistic loss of the paper.
    #[default]
    Sigmoid,
    /// `max(0, 1 - β delta)` (SLiC).
    Hinge,
    /// The squared distance of the mean log-ratios a token from `1/(2β)`.
    Ipo,
    /// Unbiased under labels that are flipped with probability `label_smoothing`.
    Robust,
}

/// DPO's loss with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DpoLoss {
    /// Which function of the log-ratios.
    pub loss_type: DpoKind,
    /// How hard the reference holds.
    pub beta: f64,
    /// How often labels are taken to be wrong.
    pub label_smoothing: f64,
}

/// `log π - log reference` of one completion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogRatio {
    /// Summed over the completion's tokens.
    pub sum: f64,
    /// Their number.
    pub tokens: f64,
}

impl DpoLoss {
    /// The loss of one pair, and its slopes by the two log-ratios' sums.
    pub fn of(&self, chosen: LogRatio, rejected: LogRatio) -> (f64, [f64; 2]) {
        let Self { loss_type, beta, label_smoothing: smoothing } = *self;
        let delta = chosen.sum - rejected.sum;
        let (down, up) = (beta * sigmoid(-beta * delta), beta * sigmoid(beta * delta));
        let (loss, slope) = match loss_type {
            DpoKind::Sigmoid => (dpo(delta, beta, smoothing), smoothing * up - (1.0 - smoothing) * down),
            DpoKind::Robust => {
                let slope = -(smoothing * up + (1.0 - smoothing) * down) / (1.0 - 2.0 * smoothing);
                (robust_dpo(delta, beta, smoothing), slope)
            }
            DpoKind::Hinge => (hinge(delta, beta), if beta * delta < 1.0 { -beta } else { 0.0 }),
            DpoKind::Ipo => {
                let (own, other) = (chosen.tokens.max(1.0), rejected.tokens.max(1.0));
                let delta = chosen.sum / own - rejected.sum / other;
                let slope = 2.0 * (delta - 1.0 / (2.0 * beta));
                return (ipo(delta, beta), [slope / own, -slope / other]);
            }
        };
        (loss, [slope, -slope])
    }
}

/// `1 / (1 + exp(-x))`, without overflow.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `-log σ(x)`, without overflow for large negative `x`.
fn negative_log_sigmoid(x: f64) -> f64 {
    (-x).max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `-log σ(chosen - rejected - margin)`.
pub fn bradley_terry(chosen: f64, rejected: f64, margin: f64) -> f64 {
    negative_log_sigmoid(chosen - rejected - margin)
}

/// [`bradley_terry`] plus `centre (chosen + rejected)²`, which keeps rewards about 0, and the slopes by the two rewards.
pub fn centred_bradley_terry(chosen: f64, rejected: f64, margin: f64, centre: f64) -> (f64, [f64; 2]) {
    let (push, sum) = (sigmoid(margin + rejected - chosen), chosen + rejected);
    let loss = bradley_terry(chosen, rejected, margin) + centre * sum * sum;
    (loss, [2.0 * centre * sum - push, 2.0 * centre * sum + push])
}

/// DPO; with `smoothing` above 0 cDPO: the label is taken to be wrong with that probability.
pub fn dpo(delta: f64, beta: f64, smoothing: f64) -> f64 {
    let logit = beta * delta;
    (1.0 - smoothing) * negative_log_sigmoid(logit) + smoothing * negative_log_sigmoid(-logit)
}

/// TRL's `robust`: unbiased under labels flipped with probability `smoothing`, which must be below one half.
pub fn robust_dpo(delta: f64, beta: f64, smoothing: f64) -> f64 {
    let logit = beta * delta;
    let corrected = (1.0 - smoothing) * negative_log_sigmoid(logit) - smoothing * negative_log_sigmoid(-logit);
    corrected / (1.0 - 2.0 * smoothing)
}

/// `max(0, 1 - β delta)`.
pub fn hinge(delta: f64, beta: f64) -> f64 {
    (1.0 - beta * delta).max(0.0)
}

/// IPO: `(delta - 1/(2β))²`. TRL gives it log-ratios averaged over tokens, OpenRLHF sums.
pub fn ipo(delta: f64, beta: f64) -> f64 {
    (delta - 1.0 / (2.0 * beta)).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn preference_losses_of_one_pair() {
        close(dpo(1.5, 0.1, 0.0), 0.6209570478);
        close(dpo(1.5, 0.1, 0.1), 0.6359570478);
        close(bradley_terry(1.3, 0.2, 0.0), 0.2873353251);
        close(bradley_terry(1.3, 0.2, 0.5), 0.4374879505);
        close(hinge(1.5, 0.1), 0.85);
        close(ipo(1.5, 0.1), 12.25);
        close(robust_dpo(1.5, 0.1, 0.0), dpo(1.5, 0.1, 0.0));
    }

    // By a step to either side.
    fn check_slopes(of: &dyn Fn(f64, f64) -> (f64, [f64; 2]), (one, other): (f64, f64), what: &str) {
        let step = 1e-5;
        let measured = [
            (of(one + step, other).0 - of(one - step, other).0) / (2.0 * step),
            (of(one, other + step).0 - of(one, other - step).0) / (2.0 * step),
        ];
        let told = of(one, other).1;
        let apart = told.iter().zip(measured).map(|(told, measured)| (told - measured).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-6, "{what} at {one}, {other}: {told:?}, measured {measured:?}");
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        for point in [(1.5, 0.2), (-2.0, 3.0), (30.0, 1.0), (-40.0, 2.0)] {
            for loss_type in [DpoKind::Sigmoid, DpoKind::Hinge, DpoKind::Ipo, DpoKind::Robust] {
                let loss = DpoLoss { loss_type, beta: 0.3, label_smoothing: 0.1 };
                let of = |chosen: f64, rejected: f64| {
                    loss.of(LogRatio { sum: chosen, tokens: 3.0 }, LogRatio { sum: rejected, tokens: 5.0 })
                };
                check_slopes(&of, point, &format!("{loss_type:?}"));
            }
            let of = |chosen: f64, rejected: f64| centred_bradley_terry(chosen, rejected, 0.5, 0.01);
            check_slopes(&of, point, "Bradley-Terry");
        }
    }

    #[test]
    fn robust_dpo_is_the_clean_loss_in_expectation_over_flipped_labels() {
        let flipped = 0.8 * robust_dpo(1.5, 0.1, 0.2) + 0.2 * robust_dpo(-1.5, 0.1, 0.2);
        close(flipped, dpo(1.5, 0.1, 0.0));
    }

    #[test]
    fn a_hopeless_pair_has_a_large_and_finite_loss() {
        close(bradley_terry(-1000.0, 1000.0, 0.0), 2000.0);
        close(bradley_terry(1000.0, -1000.0, 0.0), 0.0);
    }
}
