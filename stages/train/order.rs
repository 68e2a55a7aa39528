//! Which rows a step takes: seeded shuffles, one an epoch, computed from the step's number alone, so that a resumed
//! run takes the same rows.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::hash;

/// An endless sequence of row numbers: every epoch is a fresh permutation.
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    stream: &'static str,
    rows: usize,
    epoch: Option<usize>,
    permutation: Vec<usize>,
}

impl Order {
    /// Of `rows` rows; `stream` keeps two orders of one stage apart.
    pub fn new(seed: u64, stream: &'static str, rows: usize) -> Self {
        Self { seed, stream, rows, epoch: None, permutation: Vec::new() }
    }

    /// The `count` rows from position `start` on.
    pub fn take(&mut self, start: usize, count: usize) -> Vec<usize> {
        if self.rows == 0 {
            return Vec::new();
        }
        (start..start + count).map(|position| self.at(position)).collect()
    }

    fn at(&mut self, position: usize) -> usize {
        let epoch = position / self.rows;
        if self.epoch != Some(epoch) {
            let seed = hash::digest(&["order", self.stream, &self.seed.to_string(), &epoch.to_string()]);
            self.permutation = (0..self.rows).collect();
            self.permutation.shuffle(&mut ChaCha8Rng::from_seed(seed));
            self.epoch = Some(epoch);
        }
        self.permutation[position % self.rows]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_and_depends_on_its_position_alone() {
        let mut order = Order::new(3, "pairs", 10);
        let epochs: Vec<Vec<usize>> = (0..3).map(|epoch| order.take(epoch * 10, 10)).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(Order::new(3, "pairs", 10).take(15, 8), [&epochs[1][5..], &epochs[2][..3]].concat());
        assert_ne!(Order::new(3, "tasks", 10).take(0, 10), epochs[0]);
    }
}
