//! Closed-form intervals: Student's t over seeds, Wilson for a rate, and the difference that a design could have seen.
//! Summaries in, ends out; the bootstrap is in `bootstrap.rs`.
//!
//! Quantiles and probabilities are kept to nine significant digits: what is after them depends on the machine's
//! mathematical library, and results do not. Square roots, sums and quotients are exact everywhere.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

use super::bootstrap::Interval;

/// A number that a special function gave, as far as every machine agrees on it.
pub(super) fn settled(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}

/// What the per-seed differences say together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OverSeeds {
    /// Mean difference.
    pub mean: f64,
    /// t-interval with seeds - 1 degrees of freedom.
    pub interval: Interval,
    /// Two-sided p of "no difference"; `null` where the seeds do not differ at all, so that nothing estimates the error.
    pub p: Option<f64>,
    /// The smallest true difference that this many seeds with this spread would find with a power of 80 %.
    pub smallest_detectable: f64,
}

/// The t-interval over values of two or more seeds; `None` for fewer.
pub fn over_seeds(values: &[f64], level: f64) -> Option<OverSeeds> {
    let count = values.len() as f64;
    let student = StudentsT::new(0.0, 1.0, count - 1.0).ok().filter(|_| values.len() > 1)?;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let error = (variance / count).sqrt();
    let wide = settled(student.inverse_cdf(0.5 + level / 2.0));
    Some(OverSeeds {
        mean,
        interval: Interval::around(mean, wide * error),
        p: (error > 1e-12).then(|| settled(2.0 * student.cdf(-(mean / error).abs()))),
        smallest_detectable: (wide + settled(student.inverse_cdf(0.8))) * error,
    })
}

/// How wide the t-interval at 95 % over values of two or more seeds is: what a rule for more seeds looks at.
pub fn width_over_seeds(values: &[f64]) -> Option<f64> {
    over_seeds(values, 0.95).map(|over| over.interval.high - over.interval.low)
}

/// Wilson's interval of a rate; `None` without trials.
pub fn wilson(hits: f64, trials: f64, level: f64) -> Option<Interval> {
    let z = settled(Normal::standard().inverse_cdf(0.5 + level / 2.0));
    let rate = (trials > 0.0).then(|| hits / trials)?;
    let shrunk = (rate + z * z / (2.0 * trials)) / (1.0 + z * z / trials);
    let half = z / (1.0 + z * z / trials) * (rate * (1.0 - rate) / trials + z * z / (4.0 * trials * trials)).sqrt();
    Some(Interval::around(shrunk, half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, within: f64) {
        assert!((found - expected).abs() < within, "{found} is not {expected}");
    }

    #[test]
    fn three_seeds_have_two_degrees_of_freedom() {
        // t(.975, 2) = 4.302653, t(.8, 2) = 1.060660; sd of 1, 2, 3 is 1.
        let found = over_seeds(&[1.0, 2.0, 3.0], 0.95).unwrap();
        let half = 4.302_653 / 3.0_f64.sqrt();
        close(found.interval.low, 2.0 - half, 1e-5);
        close(found.interval.high, 2.0 + half, 1e-5);
        close(width_over_seeds(&[1.0, 2.0, 3.0]).unwrap(), 2.0 * half, 1e-5);
        close(found.smallest_detectable, (4.302_653 + 1.060_660) / 3.0_f64.sqrt(), 1e-5);
        close(found.p.unwrap(), 0.074_180, 1e-5);
    }

    #[test]
    fn nine_digits_of_a_special_function_are_kept() {
        let kept = [100.0 / 7.0, -1.0 / 3e7, 0.0, 2.5, 1e300, f64::INFINITY].map(settled);
        assert_eq!(kept, [14.285_714_3, -3.333_333_33e-8, 0.0, 2.5, 1e300, f64::INFINITY]);
        assert_eq!(settled(0.3), settled(f64::from_bits(0.3_f64.to_bits() + 1)), "another library's last bit");
        // The quantile of three seeds, whose ends are 2 ± that / √3.
        let interval = over_seeds(&[1.0, 2.0, 3.0], 0.95).unwrap().interval;
        assert_eq!(interval.high, 2.0 + 4.302_652_73 * (1.0_f64 / 3.0).sqrt());
    }

    #[test]
    fn one_seed_has_no_interval_and_equal_seeds_no_p() {
        assert_eq!(over_seeds(&[0.3], 0.95), None);
        assert_eq!(over_seeds(&[], 0.95), None);
        assert_eq!(over_seeds(&[0.25, 0.25], 0.95).unwrap().p, None);
    }

    #[test]
    fn wilson_of_a_rate_stays_inside_zero_and_one() {
        let found = wilson(8.0, 10.0, 0.95).unwrap();
        close(found.low, 0.490_162, 1e-5);
        close(found.high, 0.943_318, 1e-5);
        close(wilson(0.0, 10.0, 0.95).unwrap().low, 0.0, 1e-12);
        assert_eq!(wilson(0.0, 0.0, 0.95), None);
    }
}
