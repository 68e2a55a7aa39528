//! Tests of paired right-or-wrong answers (McNemar) and the correction for a family of them (Holm).

use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF as _, DiscreteCDF as _};

use super::intervals::settled;

/// McNemar's two-sided p from the two kinds of discordant items: exact below 25, with continuity correction above.
/// Without discordant items there is nothing to tell apart: 1.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let discordant = only_first + only_second;
    if discordant < 25 {
        let tail = Binomial::new(0.5, discordant).map_or(1.0, |coin| coin.cdf(only_first.min(only_second)));
        return settled(2.0 * tail).min(1.0);
    }
    let distance = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
    ChiSquared::new(1.0).map_or(1.0, |chi| settled(chi.sf(distance * distance / discordant as f64)))
}

/// Holm's adjusted p of each test of a family, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        least = least.max((p[place] * (p.len() - rank) as f64).min(1.0));
        adjusted[place] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_discordant_items_are_counted_exactly() {
        assert!((mcnemar(1, 9) - 22.0 / 1024.0).abs() < 1e-12);
        assert_eq!(mcnemar(1, 9), mcnemar(9, 1));
        assert_eq!([mcnemar(0, 0), mcnemar(5, 5)], [1.0, 1.0]);
    }

    #[test]
    fn many_discordant_items_use_the_corrected_chi_square() {
        // (|40 - 20| - 1)² / 60 = 6.016667
        assert!((mcnemar(40, 20) - 0.014_171).abs() < 1e-4, "{}", mcnemar(40, 20));
        assert_eq!(mcnemar(13, 13), 1.0);
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_never_falls() {
        let found = holm(&[0.04, 0.01, 0.03]);
        for (found, expected) in found.iter().zip([0.06, 0.03, 0.06]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert!(holm(&[]).is_empty());
    }
}
