//! Two branches on the same items: what each adds to a metric, cluster by cluster. Items that only one side has, and
//! those one side does not know, are counted and left out of the difference, never silently dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Draw, Interval};
use super::items::ItemRow;
use super::metric::Metric;
use super::significance::mcnemar;

/// Numerators and denominators of both branches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    of: (f64, f64),
    against: (f64, f64),
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.of = (self.of.0 + other.of.0, self.of.1 + other.of.1);
        self.against = (self.against.0 + other.against.0, self.against.1 + other.against.1);
    }

    /// The metric of the first branch minus that of the second; `None` where one is not defined.
    pub fn difference(&self) -> Option<f64> {
        Some(ratio(self.of)? - ratio(self.against)?)
    }
}

fn ratio((numerator, denominator): (f64, f64)) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

/// How the items of two branches overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Items that both branches have and know: the difference is computed on these.
    pub both: usize,
    /// Items that both have and at least one does not know (a failed judge).
    pub masked: usize,
    /// Items that only the first branch has.
    pub only_of: usize,
    /// Items that only the second branch has.
    pub only_against: usize,
}

/// One seed of two branches.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairing {
    /// Sums of the clusters, by cluster name.
    pub clusters: Vec<Sums>,
    /// What was and what was not compared.
    pub overlap: Overlap,
    /// Items right under the first branch only, and under the second only; `None` where values are not all 0 or 1.
    pub discordant: Option<(u64, u64)>,
}

impl Pairing {
    /// Pairs the items of two branches by id.
    pub fn of(metric: &Metric, of: &[ItemRow], against: &[ItemRow]) -> Self {
        let others: BTreeMap<&str, &ItemRow> = against.iter().map(|row| (row.id.as_str(), row)).collect();
        let shared: Vec<_> = of.iter().filter_map(|row| Some((row, *others.get(row.id.as_str())?))).collect();
        let known: Vec<_> = shared
            .iter()
            .filter_map(|(row, other)| Some((*row, Sums { of: metric.parts(row)?, against: metric.parts(other)? })))
            .collect();
        let mut clusters: BTreeMap<&str, Sums> = BTreeMap::new();
        for (row, sums) in &known {
            clusters.entry(row.cluster()).or_default().add(sums);
        }
        let overlap = Overlap {
            both: known.len(),
            masked: shared.len() - known.len(),
            only_of: of.len() - shared.len(),
            only_against: against.len() - shared.len(),
        };
        let discordant = if metric.is_spurious_correctness() { None } else { discordant(&known) };
        Self { clusters: clusters.into_values().collect(), overlap, discordant }
    }

    /// The difference on all items.
    pub fn difference(&self) -> Option<f64> {
        total(self.clusters.iter()).difference()
    }

    /// The metric of each branch on the items that both have; `None` where it is not defined.
    pub fn sides(&self) -> (Option<f64>, Option<f64>) {
        let sums = total(self.clusters.iter());
        (ratio(sums.of), ratio(sums.against))
    }

    /// McNemar's p, where values are all 0 or 1.
    pub fn mcnemar(&self) -> Option<f64> {
        self.discordant.map(|(first, second)| mcnemar(first, second))
    }

    fn resampled(&self, draw: &mut Draw) -> Option<f64> {
        let count = self.clusters.len();
        total((0..count).map(|_| &self.clusters[draw.index(count)])).difference()
    }
}

fn total<'a>(clusters: impl Iterator<Item = &'a Sums>) -> Sums {
    let mut sums = Sums::default();
    clusters.for_each(|cluster| sums.add(cluster));
    sums
}

fn discordant(known: &[(&ItemRow, Sums)]) -> Option<(u64, u64)> {
    known.iter().try_fold((0, 0), |(first, second), (_, sums)| match (sums.of.0, sums.against.0) {
        (1.0, 0.0) => Some((first + 1, second)),
        (0.0, 1.0) => Some((first, second + 1)),
        (a, b) if a == b && (a == 0.0 || a == 1.0) => Some((first, second)),
        _ => None,
    })
}

/// The bootstrap interval of the mean difference: with several seeds on two levels (seeds, then clusters within), with
/// one seed over clusters only. Each seed's clusters are resampled `samples / seeds` times, and a resample of seeds picks
/// among those: five seeds cost what one costs (redrawing 30 million items a metric took 0.2 s), and the ends move by less
/// than the bootstrap's own noise.
pub fn bootstrap_interval(seeds: &[Pairing], bootstrap: Bootstrap) -> Option<Interval> {
    let samples = bootstrap.samples.div_ceil(seeds.len().max(1));
    let pool = |(place, seed): (usize, &Pairing)| -> Vec<f64> {
        let own = Bootstrap { samples, seed: bootstrap.seed.wrapping_add(place as u64 + 1), ..bootstrap };
        own.values(|draw| seed.resampled(draw)).into_iter().flatten().collect()
    };
    let pools: Vec<Vec<f64>> = seeds.iter().enumerate().map(pool).filter(|pool| !pool.is_empty()).collect();
    match &pools[..] {
        [] => None,
        [one] => bootstrap.percentiles(one.clone()),
        many => bootstrap.interval(|draw| Some(mean_over_seeds(many, draw))),
    }
}

fn mean_over_seeds(pools: &[Vec<f64>], draw: &mut Draw) -> f64 {
    let one = |draw: &mut Draw| {
        let pool = &pools[draw.index(pools.len())];
        pool[draw.index(pool.len())]
    };
    pools.iter().map(|_| one(draw)).sum::<f64>() / pools.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, cluster: &str, values: &[(&str, Option<f64>)]) -> ItemRow {
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        ItemRow { id: id.into(), cluster: cluster.into(), domain: String::new(), values }
    }

    fn right(id: &str, value: f64) -> ItemRow {
        item(id, "", &[("right", Some(value))])
    }

    #[test]
    fn what_one_side_lacks_is_counted_and_left_out() {
        let of = [right("a", 1.0), right("b", 1.0), right("c", 0.0), item("d", "", &[("right", None)])];
        let against = [right("b", 0.0), right("c", 0.0), right("d", 1.0), right("e", 1.0), right("f", 1.0)];
        let pairing = Pairing::of(&Metric::named("right"), &of, &against);
        assert_eq!(pairing.overlap, Overlap { both: 2, masked: 1, only_of: 1, only_against: 2 });
        assert_eq!(pairing.difference(), Some(0.5));
        assert_eq!(pairing.discordant, Some((1, 0)));
        assert!((pairing.mcnemar().unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn s_corr_divides_by_each_branchs_own_right_labels() {
        let row = |id, label, spurious| item(id, "", &[("label_correct", Some(label)), ("spurious", Some(spurious))]);
        let of = [row("a", 1.0, 1.0), row("b", 1.0, 0.0)];
        let against = [row("a", 1.0, 0.0), row("b", 0.0, 0.0)];
        let pairing = Pairing::of(&Metric::named("s_corr"), &of, &against);
        assert_eq!((pairing.difference(), pairing.discordant), (Some(0.5), None));
    }

    #[test]
    fn items_of_one_prompt_are_drawn_together() {
        let rows = |value| [item("a", "p", &[("right", Some(value))]), item("b", "p", &[("right", Some(value))])];
        let pairing = Pairing::of(&Metric::named("right"), &rows(1.0), &rows(0.0));
        assert_eq!(pairing.clusters.len(), 1);
        let settings = Bootstrap { samples: 50, level: 0.95, seed: 0 };
        assert_eq!(bootstrap_interval(&[pairing], settings), Some(Interval { low: 1.0, high: 1.0 }));
        assert_eq!(bootstrap_interval(&[], settings), None);
    }

    #[test]
    fn the_two_level_interval_is_wider_than_items_alone_where_seeds_differ() {
        let seed = |share: usize| {
            let of: Vec<_> = (0..200).map(|i| right(&i.to_string(), f64::from(u8::from(i < share)))).collect();
            let against: Vec<_> = (0..200).map(|i| right(&i.to_string(), 0.0)).collect();
            Pairing::of(&Metric::named("right"), &of, &against)
        };
        let settings = Bootstrap { samples: 500, level: 0.95, seed: 0 };
        let wide = bootstrap_interval(&[seed(20), seed(180)], settings).unwrap();
        let narrow = bootstrap_interval(&[seed(100), seed(100)], settings).unwrap();
        assert!(wide.high - wide.low > 4.0 * (narrow.high - narrow.low), "{wide:?} {narrow:?}");
    }
}
