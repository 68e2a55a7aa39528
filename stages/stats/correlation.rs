//! Pearson and Spearman correlation, and the permutation test of Pearson's. Slices in; never says what a point is.

use super::bootstrap::Bootstrap;

// All orders of this many points are tried (5,040 for 7); above it, random ones.
const EXACT_POINTS: usize = 8;

/// Pearson's r; `None` for fewer than two points or where one side does not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let count = x.len().min(y.len());
    if count < 2 {
        return None;
    }
    let mean = |values: &[f64]| values[..count].iter().sum::<f64>() / count as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sums = x.iter().zip(y).fold([0.0; 3], |[xx, yy, xy], (x, y)| {
        let (dx, dy) = (x - mean_x, y - mean_y);
        [xx + dx * dx, yy + dy * dy, xy + dx * dy]
    });
    let scale = (sums[0] * sums[1]).sqrt();
    (scale > 1e-15).then(|| (sums[2] / scale).clamp(-1.0, 1.0))
}

/// Spearman's rho: Pearson's r of ranks, ties sharing their mean rank.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// Two-sided p of |r| under random pairing of the points: exact for up to 8 points, else by seeded shuffles.
pub fn permutation_p(x: &[f64], y: &[f64], shuffles: Bootstrap) -> Option<f64> {
    let found = pearson(x, y)?.abs() - 1e-12;
    let as_far = |y: &[f64]| pearson(x, y).is_some_and(|r| r.abs() >= found);
    if y.len() <= EXACT_POINTS {
        let (mut hits, mut all) = (0_u64, 0_u64);
        each_order(&mut y.to_vec(), y.len(), &mut |y| {
            hits += u64::from(as_far(y));
            all += 1;
        });
        return Some(hits as f64 / all as f64);
    }
    let shuffled = shuffles.values(|draw| {
        let mut y = y.to_vec();
        draw.shuffle(&mut y);
        as_far(&y)
    });
    let hits = shuffled.iter().filter(|far| **far).count();
    Some((hits + 1) as f64 / (shuffled.len() + 1) as f64)
}

// Heap's algorithm.
fn each_order(values: &mut Vec<f64>, first: usize, visit: &mut impl FnMut(&[f64])) {
    if first <= 1 {
        return visit(values);
    }
    for place in 0..first {
        each_order(values, first - 1, visit);
        values.swap(if first.is_multiple_of(2) { place } else { 0 }, first - 1);
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // R-Align's seven judges on HelpSteer3 against the actors' downstream average.
    const LABEL: [f64; 7] = [72.9, 72.9, 73.1, 74.1, 75.5, 76.3, 74.7];
    const FIDELITY: [f64; 7] = [39.5, 40.4, 47.8, 44.5, 40.1, 54.0, 30.6];
    const DOWNSTREAM: [f64; 7] = [58.1, 57.6, 59.7, 59.1, 59.4, 61.7, 54.8];
    const SHUFFLES: Bootstrap = Bootstrap { samples: 2000, level: 0.95, seed: 1 };

    #[test]
    fn the_papers_two_correlations_come_out() {
        let round = |r: Option<f64>| (r.unwrap() * 1000.0).round() / 1000.0;
        assert_eq!(round(pearson(&LABEL, &DOWNSTREAM)), 0.366);
        assert_eq!(round(pearson(&FIDELITY, &DOWNSTREAM)), 0.947);
    }

    #[test]
    fn spearman_looks_only_at_the_order() {
        assert_eq!(spearman(&[1.0, 2.0, 9.0], &[0.1, 0.2, 0.3]), Some(1.0));
        assert!((spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap() - 0.75_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_side_that_does_not_vary_has_no_correlation() {
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(pearson(&[1.0], &[2.0]), None);
        assert_eq!(permutation_p(&[1.0, 1.0], &[1.0, 2.0], SHUFFLES), None);
    }

    #[test]
    fn few_points_are_permuted_exactly_and_many_by_shuffles() {
        // 4 points in a line: 2 of the 24 orders (up and down) are as far.
        let line = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(permutation_p(&line, &line, SHUFFLES), Some(2.0 / 24.0));
        assert!(permutation_p(&FIDELITY, &DOWNSTREAM, SHUFFLES).unwrap() < 0.01);
        assert!(permutation_p(&LABEL, &DOWNSTREAM, SHUFFLES).unwrap() > 0.3);
        let many: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(permutation_p(&many, &many, SHUFFLES), Some(1.0 / 2001.0));
    }
}
