//! The loss of supervised fine-tuning, on plain slices.

/// Negative log-likelihood averaged over the tokens that `mask` marks, across the whole batch; 0 where it marks none.
/// Both are (batch, time).
pub fn token_mean_loss(log_probabilities: &[Vec<f64>], mask: &[Vec<bool>]) -> f64 {
    let rows = log_probabilities.iter().zip(mask);
    let marked: Vec<f64> = rows
        .flat_map(|(row, mask)| row.iter().zip(mask).filter(|(_, marked)| **marked).map(|(value, _)| *value))
        .collect();
    -marked.iter().sum::<f64>() / marked.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_tokens_count_and_all_count_the_same() {
        let log_probabilities = [vec![-9.0, -1.0], vec![-2.0, -3.0]];
        assert_eq!(token_mean_loss(&log_probabilities, &[vec![false, true], vec![true, true]]), 2.0);
        assert_eq!(token_mean_loss(&log_probabilities, &[vec![false; 2], vec![false; 2]]), 0.0);
    }
}
