//! Finding rows that say the same: exact ones by digest, near ones by MinHash over word shingles. Never decides what
//! becomes of them.

use std::collections::BTreeMap;

use super::hash;

/// Words that a shingle spans.
const SPAN: usize = 3;
/// Bands of the index and rows in each: two texts that share half their shingles meet in some band with a chance of
/// 87 %, at four fifths with one beyond 99.99 %.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// Texts seen so far, to ask whether a new one is nearly one of them.
#[derive(Debug)]
pub struct NearIndex {
    threshold: f64,
    shingles: Vec<Vec<u64>>,
    bands: BTreeMap<(usize, u64), Vec<usize>>,
}

impl NearIndex {
    /// Texts count as near where their shingles' Jaccard similarity is at least `threshold`.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self { threshold, shingles: Vec::new(), bands: BTreeMap::new() }
    }

    /// The number of an earlier text that this one is near to; a text that is near to none is added.
    pub fn find_or_add(&mut self, text: &str) -> Option<usize> {
        let shingles = shingles(text);
        let keys = band_keys(&shingles);
        let candidates = keys.iter().filter_map(|key| self.bands.get(key)).flatten().copied();
        let candidates: std::collections::BTreeSet<usize> = candidates.collect();
        let near = candidates.into_iter().find(|&other| jaccard(&shingles, &self.shingles[other]) >= self.threshold);
        if near.is_none() {
            for key in keys {
                self.bands.entry(key).or_default().push(self.shingles.len());
            }
            self.shingles.push(shingles);
        }
        near
    }
}

/// A text without what near-duplicates differ in: case, punctuation, blanks.
#[must_use]
pub fn plain(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

// Sorted, without repetition.
fn shingles(text: &str) -> Vec<u64> {
    let plain = plain(text);
    let words: Vec<&str> = plain.split(' ').collect();
    let mut found: Vec<u64> = words.windows(SPAN.min(words.len())).map(hash::number).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn band_keys(shingles: &[u64]) -> Vec<(usize, u64)> {
    let smallest =
        |permutation: usize| shingles.iter().map(|shingle| mix(*shingle, permutation as u64)).min().unwrap_or(0);
    (0..BANDS).map(|band| (band, (0..ROWS).fold(0, |key, row| mix(key ^ smallest(band * ROWS + row), 1)))).collect()
}

// SplitMix64's finaliser: one cheap permutation of 64-bit numbers for each value of `which`.
fn mix(value: u64, which: u64) -> u64 {
    let mut z = value.wrapping_add((which + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn jaccard(one: &[u64], two: &[u64]) -> f64 {
    let shared = one.iter().filter(|shingle| two.binary_search(shingle).is_ok()).count();
    let all = one.len() + two.len() - shared;
    if all == 0 { 1.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_near_and_another_text_is_not() {
        let text = (0..60).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
        let mut index = NearIndex::new(0.8);
        assert_eq!(index.find_or_add(&text), None);
        assert_eq!(index.find_or_add(&text.replace("word30", "other").to_uppercase()), Some(0));
        assert_eq!(index.find_or_add(&text.replace("word", "else")), None);
        assert_eq!(index.find_or_add("word1 word2"), None);
        assert_eq!(index.find_or_add("Word1, word2!"), Some(2));
    }

    #[test]
    fn similarity_is_counted_exactly() {
        assert_eq!(jaccard(&[1, 2, 3], &[2, 3, 4]), 0.5);
        assert_eq!(jaccard(&[], &[]), 1.0);
    }
}
