//! Decisions by hash: the same item gets the same decision whatever its neighbours are. Never a generator's state.

/// A digest of parts, each kept apart from the next.
#[must_use]
pub fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The first eight bytes of [`digest`] as a number: an order, or a bucket.
#[must_use]
pub fn number(parts: &[&str]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest(parts);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// [`number`] as a share of its range: at least 0, below 1.
#[must_use]
pub fn share(parts: &[&str]) -> f64 {
    // 53 bits fill a double exactly, so that the result is the same on every machine.
    (number(parts) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }

    #[test]
    fn shares_lie_between_zero_and_one() {
        let mean = (0..4000).map(|index| share(&[&index.to_string()])).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
