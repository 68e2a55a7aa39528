//! Per-token estimators of the divergence of a policy from its reference (Schulman's k1, k2, k3). Log-probabilities
//! in, one number out; never averages.

/// `log policy - log reference`: unbiased, of either sign.
pub fn k1(policy: f64, reference: f64) -> f64 {
    policy - reference
}

/// Half the squared log-ratio: biased, never negative.
pub fn k2(policy: f64, reference: f64) -> f64 {
    (policy - reference).powi(2) / 2.0
}

/// `exp(r) - r - 1` with `r = log reference - log policy`: unbiased and never negative (GRPO's choice).
pub fn k3(policy: f64, reference: f64) -> f64 {
    let ratio = reference - policy;
    ratio.exp_m1() - ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_estimators_of_one_token() {
        let (policy, reference) = (-1.2, -0.9);
        assert!((k1(policy, reference) + 0.3).abs() < 1e-12);
        assert!((k2(policy, reference) - 0.045).abs() < 1e-12);
        assert!((k3(policy, reference) - 0.0498588076).abs() < 1e-10);
    }
}
