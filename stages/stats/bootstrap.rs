//! The seeded bootstrap: percentile intervals of any statistic. Resample `k` always draws the same numbers, whatever
//! the number of threads, so results are the same bytes on any machine.

use plumb_engine::stage::Problem;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Both ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// `centre ± half`.
    pub fn around(centre: f64, half: f64) -> Self {
        Self { low: centre - half, high: centre + half }
    }
}

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples.
    pub samples: usize,
    /// Level of the interval, as 0.95.
    pub level: f64,
    /// Seed.
    pub seed: u64,
}

/// The number of resamples where a pipeline names none.
pub(crate) fn ten_thousand() -> usize {
    10_000
}

/// The level of intervals where a pipeline names none.
pub(crate) fn ninety_five() -> f64 {
    0.95
}

/// The random numbers of one resample.
#[derive(Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// A place below `count`, which must not be 0.
    pub fn index(&mut self, count: usize) -> usize {
        // A multiply and a shift: the bias is below count / 2^32.
        ((u64::from(self.0.next_u32()) * count as u64) >> 32) as usize
    }

    /// Puts the values in a random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            let other = self.index(last + 1);
            values.swap(last, other);
        }
    }
}

impl Bootstrap {
    /// What is wrong with a stage's `bootstrap_samples` and `interval`.
    pub fn problems(samples: usize, level: f64) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(1..=1_000_000).contains(&samples) {
            problems.push(Problem::new("bootstrap_samples", format!("{samples} is not between 1 and 1000000")));
        }
        if !(level > 0.0 && level < 1.0) {
            problems.push(Problem::new("interval", format!("{level} is not between 0 and 1, as 0.95 is")));
        }
        problems
    }

    /// The value of `statistic` under each resample, in the order of the resamples.
    pub fn values<T: Send>(&self, statistic: impl Fn(&mut Draw) -> T + Sync) -> Vec<T> {
        let resample = |sample: usize| {
            let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
            generator.set_stream(sample as u64);
            statistic(&mut Draw(generator))
        };
        (0..self.samples).into_par_iter().map(resample).collect()
    }

    /// Percentile intervals of several statistics of the same resamples. A resample under which a statistic is not
    /// defined is left out of its interval; with none left there is no interval.
    pub fn intervals<const N: usize>(
        &self,
        statistic: impl Fn(&mut Draw) -> [Option<f64>; N] + Sync,
    ) -> [Option<Interval>; N] {
        let resamples = self.values(statistic);
        std::array::from_fn(|place| self.percentiles(resamples.iter().filter_map(|values| values[place]).collect()))
    }

    /// The percentile interval of one statistic.
    pub fn interval(&self, statistic: impl Fn(&mut Draw) -> Option<f64> + Sync) -> Option<Interval> {
        let [interval] = self.intervals(|draw| [statistic(draw)]);
        interval
    }

    /// The percentile interval of values already drawn; `None` of none.
    pub fn percentiles(&self, mut values: Vec<f64>) -> Option<Interval> {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
    }
}

// Between the two nearest order statistics, in a line (R's type 7).
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIPS: Bootstrap = Bootstrap { samples: 4000, level: 0.95, seed: 7 };

    fn mean_of_coins(draw: &mut Draw) -> Option<f64> {
        Some((0..100).map(|_| draw.index(2) as f64).sum::<f64>() / 100.0)
    }

    #[test]
    fn the_interval_of_a_mean_is_the_textbook_one() {
        let interval = FLIPS.interval(mean_of_coins).unwrap();
        assert!((interval.low - 0.402).abs() < 0.011 && (interval.high - 0.598).abs() < 0.011, "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_draws_on_any_number_of_threads() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| FLIPS.values(mean_of_coins))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(on(1), Bootstrap { seed: 8, ..FLIPS }.values(mean_of_coins));
    }

    #[test]
    fn undefined_resamples_are_left_out() {
        assert_eq!(FLIPS.interval(|_| None), None);
        let some = FLIPS.interval(|draw| (draw.index(2) == 0).then_some(3.0));
        assert_eq!(some, Some(Interval { low: 3.0, high: 3.0 }));
    }

    #[test]
    fn quantiles_lie_on_the_line_between_values() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
