//! Packing: which sequences share a row of at most so many tokens (TRL's `bfd`, best fit decreasing). Knows lengths only.

use std::collections::BTreeSet;

/// Sequences by number, row by row: the longest first, each into the fullest row that still has room for it.
pub fn best_fit_decreasing(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|number| std::cmp::Reverse(lengths[*number]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Room left, and the row that has it.
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for number in order {
        let length = lengths[number];
        let found = room.range((length, 0)..).next().copied();
        let (left, row) = found.unwrap_or_else(|| {
            rows.push(Vec::new());
            (most.max(length), rows.len() - 1)
        });
        room.remove(&(left, row));
        room.insert((left - length, row));
        rows[row].push(number);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_into_the_fullest_row_that_has_room() {
        assert_eq!(best_fit_decreasing(&[3, 7, 5, 2, 3], 10), [vec![1, 0], vec![2, 4, 3]]);
        assert_eq!(best_fit_decreasing(&[12, 1], 10), [vec![0], vec![1]], "a longer one stands alone");
        assert!(best_fit_decreasing(&[], 10).is_empty());
    }

    #[test]
    fn nothing_is_lost_and_no_row_is_too_long() {
        let lengths: Vec<usize> = (0..500).map(|number| 1 + (number * 7919) % 97).collect();
        let rows = best_fit_decreasing(&lengths, 100);
        let mut all: Vec<usize> = rows.concat();
        all.sort_unstable();
        assert_eq!(all, (0..500).collect::<Vec<_>>());
        assert!(rows.iter().all(|row| row.iter().map(|one| lengths[*one]).sum::<usize>() <= 100));
        let least = lengths.iter().sum::<usize>().div_ceil(100);
        assert!(rows.len() <= least + 3, "{} rows where {least} would hold everything", rows.len());
    }
}
