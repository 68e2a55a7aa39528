//! Drawing tokens from logits: penalty, temperature and filters are HF's, in HF's order (repetition penalty, temperature,
//! top-k, top-p, min-p). The random number of each draw is a function of (seed, stream, sample, position) alone, so batch
//! size and order change no draw. The log-probability that is told is that under the distribution drawn from: after
//! penalty and temperature, over the tokens that the filters left; of a greedy token, over all of them and at
//! temperature 1.

use plumb_stages::model::Sampling;
use tch::{Device, Kind, Tensor};

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

/// Tokens that are looked at first where a filter keeps the likeliest: the whole vocabulary is only sorted where they are
/// not enough.
const LIKELIEST: i64 = 512;

/// One token a row with its log-probability; `numbers` are the rows' own. (rows, vocabulary) logits in f32.
pub fn draw(logits: &Tensor, sampling: &Sampling, numbers: &[f64]) -> Vec<(u32, f32)> {
    if sampling.temperature <= 0.0 {
        return greedy(logits);
    }
    let scaled = if sampling.temperature == 1.0 { logits.shallow_clone() } else { logits / sampling.temperature };
    let logprobs = scaled.log_softmax(-1, Kind::Float);
    if sampling.top_k == 0 && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
        return whole(&logprobs, numbers);
    }
    let vocabulary = logprobs.size()[1];
    let first = if sampling.top_k > 0 { sampling.top_k as i64 } else { LIKELIEST };
    let (values, tokens) = logprobs.topk(first.min(vocabulary), -1, true, true);
    let (values, tokens) = (rows_of(&values), rows_of(&tokens.to_kind(Kind::Double)));
    let one = |(row, number): (usize, &f64)| {
        let pairs = values[row].iter().zip(&tokens[row]);
        let best = pairs.map(|(value, token)| (*token as u32, *value as f32)).collect();
        let all = || sorted(&rows_of(&logprobs.get(row as i64).unsqueeze(0))[0]);
        from_likeliest(best, vocabulary as usize, sampling, *number, all)
    };
    numbers.iter().enumerate().map(one).collect()
}

/// Logits of a step with the tokens that a row holds made less likely: (rows, vocabulary), and (rows, vocabulary) of Bool.
pub fn penalised(logits: &Tensor, held: &Tensor, penalty: f64) -> Tensor {
    let penalised = (logits * penalty).where_self(&logits.lt(0.0), &(logits / penalty));
    penalised.where_self(held, logits)
}

// The first of equals.
fn greedy(logits: &Tensor) -> Vec<(u32, f32)> {
    let tokens = logits.argmax(-1, true);
    let logprobs = logits.gather(-1, &tokens, false) - logits.logsumexp([-1].as_slice(), true);
    let (tokens, logprobs) = (rows_of(&tokens.to_kind(Kind::Double)), rows_of(&logprobs));
    tokens.iter().zip(&logprobs).map(|(token, logprob)| (token[0] as u32, logprob[0] as f32)).collect()
}

// The token at the number of the cumulative distribution, in the order of the vocabulary.
fn whole(logprobs: &Tensor, numbers: &[f64]) -> Vec<(u32, f32)> {
    let sums = logprobs.to_kind(Kind::Double).exp().cumsum(-1, Kind::Double);
    let numbers = Tensor::from_slice(numbers).unsqueeze(1).to_device(logprobs.device());
    // Where rounding leaves the sum below the number, the last token that is possible.
    let last = sums.narrow(1, sums.size()[1] - 1, 1);
    let beyond = sums.le_tensor(&numbers).sum_dim_intlist([-1].as_slice(), true, Kind::Int64);
    let possible = sums.lt_tensor(&last).sum_dim_intlist([-1].as_slice(), true, Kind::Int64);
    let tokens = beyond.minimum(&possible);
    let logprobs = logprobs.gather(-1, &tokens, false);
    let (tokens, logprobs) = (rows_of(&tokens.to_kind(Kind::Double)), rows_of(&logprobs));
    tokens.iter().zip(&logprobs).map(|(token, logprob)| (token[0] as u32, logprob[0] as f32)).collect()
}

// Filters, then the token at the number. `best` are the likeliest of `vocabulary` tokens, the likeliest first.
fn from_likeliest(
    best: Vec<(u32, f32)>,
    vocabulary: usize,
    sampling: &Sampling,
    number: f64,
    all: impl FnOnce() -> Vec<(u32, f32)>,
) -> (u32, f32) {
    let complete = sampling.top_k > 0 || best.len() == vocabulary;
    let mut kept = match filtered(&best, sampling, complete) {
        Some(_) => best,
        None => all(),
    };
    let count = filtered(&kept, sampling, true).unwrap_or(1);
    kept.truncate(count);
    kept.sort_by_key(|(token, _)| *token);
    let mass: f64 = kept.iter().map(|(_, value)| f64::from(*value).exp()).sum();
    let (token, value) = at(&kept, number * mass);
    (token, value - mass.ln() as f32)
}

// How many of the likeliest are kept; `None` where that is not known from these.
fn filtered(best: &[(u32, f32)], sampling: &Sampling, complete: bool) -> Option<usize> {
    let likely = |value: f32| f64::from(value).exp();
    // Shares of what top-k left.
    let mass = if sampling.top_k > 0 { best.iter().map(|(_, value)| likely(*value)).sum() } else { 1.0 };
    let least = best.first().map_or(0.0, |(_, value)| likely(*value)) * sampling.min_p;
    let mut sum = 0.0;
    let ends = best.iter().position(|(_, value)| {
        let ends = sum >= sampling.top_p * mass && sampling.top_p < 1.0 || likely(*value) < least;
        sum += likely(*value);
        ends
    });
    match ends {
        Some(count) => Some(count.max(1)),
        None => (complete || sum >= sampling.top_p * mass && sampling.top_p < 1.0).then_some(best.len()),
    }
}

fn at(candidates: &[(u32, f32)], wanted: f64) -> (u32, f32) {
    let (mut sum, mut last) = (0.0, (0, f32::NEG_INFINITY));
    for (token, value) in candidates {
        let probability = f64::from(*value).exp();
        if probability == 0.0 {
            continue;
        }
        (sum, last) = (sum + probability, (*token, *value));
        if sum > wanted {
            break;
        }
    }
    last
}

// The likeliest first; of equals, that which comes first in the vocabulary.
fn sorted(logprobs: &[f64]) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0u32..).zip(logprobs).map(|(token, value)| (token, *value as f32)).collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    all
}

fn rows_of(tensor: &Tensor) -> Vec<Vec<f64>> {
    let width = tensor.size()[1] as usize;
    let host = tensor.to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
    let mut flat = vec![0f64; host.numel()];
    let count = flat.len();
    host.copy_data(&mut flat, count);
    flat.chunks_exact(width.max(1)).map(<[f64]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Tensor {
        let logprobs: Vec<f32> = [0.1f32, 0.4, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        Tensor::from_slice(&logprobs).unsqueeze(0)
    }

    fn shares(sampling: &Sampling) -> Vec<f64> {
        let sampling = Sampling { temperature: 1.0, ..sampling.clone() };
        let numbers: Vec<f64> = (0..20_000).map(|position| uniform(7, 1, 2, position)).collect();
        let rows = logits().expand([20_000, 4], false);
        let mut counts = [0.0; 4];
        draw(&rows, &sampling, &numbers).into_iter().for_each(|(token, _)| counts[token as usize] += 1.0);
        counts.iter().map(|count| (count / 20_000.0 * 50.0_f64).round() / 50.0).collect()
    }

    #[test]
    fn draws_follow_the_distribution_and_its_filters() {
        let all = Sampling::default();
        assert_eq!(shares(&all), [0.1, 0.4, 0.3, 0.2]);
        assert_eq!(shares(&Sampling { top_k: 2, ..all.clone() }), [0.0, 0.58, 0.42, 0.0]);
        assert_eq!(shares(&Sampling { top_p: 0.5, ..all.clone() }), [0.0, 0.58, 0.42, 0.0]);
        assert_eq!(shares(&Sampling { top_p: 0.39, ..all.clone() }), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(shares(&Sampling { min_p: 0.6, ..all.clone() }), [0.0, 0.58, 0.42, 0.0]);
        assert_eq!(shares(&Sampling { top_k: 3, top_p: 0.75, ..all }), [0.0, 0.58, 0.42, 0.0]);
    }

    #[test]
    fn a_filter_that_needs_more_than_the_likeliest_sorts_the_whole_vocabulary() {
        // Flat, so that half of the mass is half of the tokens.
        let flat = Tensor::zeros([1, 4 * LIKELIEST], (Kind::Float, Device::Cpu));
        let sampling = Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() };
        let drawn: Vec<u32> =
            (0..200).map(|position| draw(&flat, &sampling, &[uniform(1, 1, 1, position)])[0].0).collect();
        assert!(drawn.iter().all(|token| i64::from(*token) < 2 * LIKELIEST), "{drawn:?}");
        assert!(drawn.iter().any(|token| i64::from(*token) >= LIKELIEST), "{drawn:?}");
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
        let sampling = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
        let (token, logprob) = draw(&Tensor::from_slice(&logprobs).unsqueeze(0), &sampling, &[0.0])[0];
        assert_eq!(token, 0);
        assert!((logprob.exp() - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn the_last_possible_token_is_drawn_where_rounding_leaves_a_rest() {
        let logits = Tensor::from_slice(&[0.0f32, 0.0, f32::NEG_INFINITY]).unsqueeze(0);
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(draw(&logits, &sampling, &[1.0])[0].0, 1);
        assert_eq!(draw(&logits, &sampling, &[0.0])[0].0, 0);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let logits = Tensor::from_slice(&[-2.0f32, -1.0, -1.0]).unsqueeze(0);
        assert_eq!(draw(&logits, &Sampling::default(), &[0.0])[0].0, 1);
    }

    #[test]
    fn a_token_that_was_there_is_less_likely_whatever_its_sign() {
        let logits = Tensor::from_slice(&[2.0f32, -2.0, 1.0]).unsqueeze(0);
        let held = Tensor::from_slice(&[true, true, false]).unsqueeze(0);
        let found = Vec::<f32>::try_from(&penalised(&logits, &held, 2.0).flatten(0, 1)).expect("numbers");
        assert_eq!(found, [1.0, -4.0, 1.0]);
    }
}
