//! Losses on pairs: Bradley–Terry reward models and direct preference optimisation. `delta` is
//! `(log π - log reference)` of the chosen minus that of the rejected, summed over completion tokens.

/// `-log σ(x)`, without overflow for large negative `x`.
fn negative_log_sigmoid(x: f64) -> f64 {
    (-x).max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `-log σ(chosen - rejected - margin)`.
pub fn bradley_terry(chosen: f64, rejected: f64, margin: f64) -> f64 {
    negative_log_sigmoid(chosen - rejected - margin)
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
