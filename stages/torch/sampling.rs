//! Drawing a token from log-probabilities: temperature and filters are HF's, in HF's order. The random number of
//! each draw is a function of (seed, stream, sample, position) alone, so batch size and order change no draw.
//! Pure functions on slices.

use plumb_stages::model::Sampling;

/// A uniform number in [0, 1) that is a function of its name.
pub fn uniform(seed: u64, stream: u64, sample: u64, position: u64) -> f64 {
    let bits = [stream, sample, position].into_iter().fold(mix(seed), |state, part| mix(state ^ mix(part)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

// The finaliser of SplitMix64 over its Weyl step.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The token with the highest log-probability; the first of equals.
pub fn greedy(logprobs: &[f32]) -> (usize, f32) {
    let first = (0, f32::NEG_INFINITY);
    logprobs.iter().enumerate().fold(first, |best, (token, value)| if *value > best.1 { (token, *value) } else { best })
}

/// The token at `uniform` of the cumulative distribution, with its log-probability. `logprobs` are already divided
/// by the temperature and normalised.
pub fn draw(logprobs: &[f32], sampling: &Sampling, uniform: f64) -> (usize, f32) {
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return at(logprobs.iter().copied().enumerate(), 1.0, uniform);
    }
    let kept = filtered(logprobs, sampling);
    let mass: f64 = kept.iter().map(|(_, value)| f64::from(*value).exp()).sum();
    let (token, value) = at(kept.into_iter(), mass, uniform);
    (token, value - mass.ln() as f32)
}

fn at(candidates: impl Iterator<Item = (usize, f32)>, mass: f64, uniform: f64) -> (usize, f32) {
    let (mut sum, mut last) = (0.0, (0, f32::NEG_INFINITY));
    for (token, value) in candidates {
        let probability = f64::from(value).exp();
        if probability == 0.0 {
            continue;
        }
        (sum, last) = (sum + probability, (token, value));
        if sum > uniform * mass {
            break;
        }
    }
    last
}

// The `top_k` best, then the smallest set of the best that holds `top_p` of what is left; in token order.
fn filtered(logprobs: &[f32], sampling: &Sampling) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = logprobs.iter().copied().enumerate().collect();
    best.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    if sampling.top_k > 0 {
        best.truncate(sampling.top_k);
    }
    let mass: f64 = best.iter().map(|(_, value)| f64::from(*value).exp()).sum();
    let mut sum = 0.0;
    let kept = best.iter().take_while(|(_, value)| {
        let wanted = sum < sampling.top_p * mass;
        sum += f64::from(*value).exp();
        wanted
    });
    let count = kept.count().max(1);
    best.truncate(count);
    best.sort_by_key(|(token, _)| *token);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(top_k: usize, top_p: f64) -> Sampling {
        Sampling { temperature: 1.0, top_p, top_k, max_new_tokens: 1, seed: 0 }
    }

    fn shares(top_k: usize, top_p: f64) -> Vec<f64> {
        let logprobs: Vec<f32> = [0.1f32, 0.4, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let mut counts = [0.0; 4];
        for position in 0..20_000 {
            counts[draw(&logprobs, &sampling(top_k, top_p), uniform(7, 1, 2, position)).0] += 1.0;
        }
        counts.iter().map(|count| (count / 20_000.0 * 50.0_f64).round() / 50.0).collect()
    }

    #[test]
    fn draws_follow_the_distribution_and_its_filters() {
        assert_eq!(shares(0, 1.0), [0.1, 0.4, 0.3, 0.2]);
        assert_eq!(shares(2, 1.0), [0.0, 0.58, 0.42, 0.0]);
        assert_eq!(shares(0, 0.5), [0.0, 0.58, 0.42, 0.0]);
        assert_eq!(shares(0, 0.39), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_draw_is_named_by_all_four_numbers() {
        let one = uniform(1, 2, 3, 4);
        assert_eq!(one, uniform(1, 2, 3, 4));
        for other in [uniform(0, 2, 3, 4), uniform(1, 3, 2, 4), uniform(1, 2, 4, 3), uniform(1, 2, 3, 5)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_filtered_draw_tells_the_probability_it_was_drawn_with() {
        let logprobs: Vec<f32> = [0.5f32, 0.25, 0.25].iter().map(|p| p.ln()).collect();
        let (token, logprob) = draw(&logprobs, &sampling(2, 1.0), 0.0);
        assert_eq!(token, 0);
        assert!((logprob.exp() - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(greedy(&[-2.0, -1.0, -1.0]), (1, -1.0));
    }
}
