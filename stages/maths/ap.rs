//! Average precision of an ordered list of reasons against a checklist (RationaleRM, 2602.04649).

/// `Σ_k P@k · I(k) / |checklist|`: `matched` says for each reason, most important first, whether it is on the list.
pub fn average_precision(matched: &[bool], checklist: usize) -> f64 {
    let mut hits = 0.0;
    let mut sum = 0.0;
    for (place, _) in matched.iter().enumerate().filter(|(_, matched)| **matched) {
        hits += 1.0;
        sum += hits / (place + 1) as f64;
    }
    sum / checklist.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_reasons_count_more_and_missing_ones_cost() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
        close(average_precision(&[true, false, true, false, false], 4), 0.4166666667);
        close(average_precision(&[false, false, true, true], 2), 0.4166666667);
        close(average_precision(&[true, true], 2), 1.0);
        close(average_precision(&[], 3), 0.0);
    }
}
