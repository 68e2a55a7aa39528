//! pass@k, the unbiased estimate of the HumanEval paper.

/// Probability that at least one of `k` answers drawn from `samples`, of which `correct` are right, is right:
/// `1 - Π (1 - k/i)` over `i = samples-correct+1 ..= samples`.
pub fn pass_at_k(samples: usize, correct: usize, k: usize) -> f64 {
    if samples.saturating_sub(correct) < k {
        return 1.0;
    }
    1.0 - (samples - correct + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_of_ten_samples_with_three_right() {
        assert!((pass_at_k(10, 3, 1) - 0.3).abs() < 1e-12);
        assert!((pass_at_k(10, 3, 5) - 0.9166666667).abs() < 1e-9);
        assert_eq!([pass_at_k(10, 0, 5), pass_at_k(10, 6, 5), pass_at_k(3, 3, 1)], [0.0, 1.0, 1.0]);
    }
}
