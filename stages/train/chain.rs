//! The chain of step digests, `chain.jsonl`: each link covers the link before it and all that its step met and
//! reported, so two runs of one step parted at the first link in which they differ. Cheap enough for every step: some
//! kilobytes are hashed, and the weights (a pass over all of them) only where they are given. What moves the weights
//! and neither a loss, a gradient norm nor a sampled log-probability is seen at their next digest.

use blake3::Hasher;
use serde::{Deserialize, Serialize};

use super::log::Values;

/// One line of `chain.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Counted from 1.
    pub step: u64,
    /// Digest of the link before, and of this step.
    pub chain: String,
    /// Digest of the trained weights after the step, where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// What a step met on its way to its metrics: rows, drawn tokens, rewards, earlier updates.
#[derive(Debug, Default)]
pub struct Met(Hasher);

impl Met {
    /// A row's id.
    pub fn id(&mut self, id: &str) {
        self.part(1, id.bytes());
    }

    /// Token ids.
    pub fn tokens(&mut self, tokens: &[u32]) {
        self.part(4, tokens.iter().flat_map(|token| token.to_le_bytes()));
    }

    /// Numbers, to their last bits.
    pub fn numbers(&mut self, numbers: impl IntoIterator<Item = f64>) {
        let bits: Vec<u8> = numbers.into_iter().flat_map(|number| number.to_bits().to_le_bytes()).collect();
        self.part(8, bits.into_iter());
    }

    // With its kind and length first: no two ways of cutting the same bytes are alike.
    fn part(&mut self, width: u8, bytes: impl Iterator<Item = u8>) {
        let bytes: Vec<u8> = bytes.collect();
        self.0.update(&[width]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
}

impl Link {
    /// The link of a step, after the one before it.
    pub fn after(before: Option<&Link>, step: u64, mut met: Met, metrics: &Values, weights: Option<String>) -> Self {
        met.id(before.map_or("", |link| &link.chain));
        met.id(weights.as_deref().unwrap_or_default());
        for (name, value) in metrics {
            met.id(name);
            met.numbers([*value]);
        }
        Self { step, chain: met.0.finalize().to_hex().to_string(), weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(parts: &[&str]) -> Met {
        let mut met = Met::default();
        parts.iter().for_each(|part| met.id(part));
        met
    }

    fn link(before: Option<&Link>, parts: &[&str], loss: f64, weights: Option<&str>) -> Link {
        Link::after(before, 1, met(parts), &[("loss".to_string(), loss)].into(), weights.map(String::from))
    }

    #[test]
    fn a_link_covers_all_before_it_and_every_bit_of_its_step() {
        let first = link(None, &["a", "b"], 0.1, None);
        assert_eq!(first, link(None, &["a", "b"], 0.1, None));
        let others = [
            link(None, &["ab"], 0.1, None),
            link(None, &["b", "a"], 0.1, None),
            link(None, &["a", "b"], f64::from_bits(0.1_f64.to_bits() + 1), None),
            link(None, &["a", "b"], 0.1, Some("w")),
            link(Some(&first), &["a", "b"], 0.1, None),
            link(Some(&link(None, &["c"], 0.1, None)), &["a", "b"], 0.1, None),
        ];
        let mut chains: Vec<&str> = others.iter().chain([&first]).map(|link| link.chain.as_str()).collect();
        chains.sort_unstable();
        chains.dedup();
        assert_eq!(chains.len(), 7, "{others:?}");
    }

    #[test]
    fn tokens_and_numbers_of_the_same_bytes_are_told_apart() {
        let chain = |fill: &dyn Fn(&mut Met)| {
            let mut met = Met::default();
            fill(&mut met);
            Link::after(None, 1, met, &Values::new(), None).chain
        };
        assert_ne!(chain(&|met| met.tokens(&[0, 0])), chain(&|met| met.numbers([0.0])));
        assert_ne!(chain(&|met| met.tokens(&[1, 2])), chain(&|met| [1, 2].iter().for_each(|one| met.tokens(&[*one]))));
    }
}
