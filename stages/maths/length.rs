//! Length shaping of rewards. R-Align's "dynamic length penalty" has no published formula: none here claims to be it.

/// DAPO's soft overlong punishment: 0 up to `limit - buffer`, then down in a line to `-factor` at `limit`, and no further.
pub fn overlong(length: usize, limit: usize, buffer: usize, factor: f64) -> f64 {
    let over = length as f64 - (limit as f64 - buffer as f64);
    -(over / (buffer as f64).max(1.0)).clamp(0.0, 1.0) * factor
}

/// ProRL's rule for a completion that did not stop by itself: its reward times `keep` (0 to 1).
pub fn truncated(reward: f64, finished: bool, keep: f64) -> f64 {
    if finished { reward } else { reward * keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlong_answers_pay_in_a_line() {
        let found = [10, 80, 90, 100, 500].map(|length| overlong(length, 100, 20, 1.0));
        assert_eq!(found, [0.0, 0.0, -0.5, -1.0, -1.0]);
        assert_eq!(overlong(90, 100, 20, 0.5), -0.25);
    }

    #[test]
    fn only_truncated_answers_lose_reward() {
        assert_eq!([truncated(1.0, true, 0.25), truncated(1.0, false, 0.25)], [1.0, 0.25]);
    }
}
