//! The name that a misspelt one was probably meant to be. Never guesses wildly: a far name is no hint.

/// Names less alike than this are no hint.
const ALIKE: f64 = 0.5;

/// The candidate most like `name`; the first of equals.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let score = likeness(name, candidate);
        if score >= ALIKE && best.is_none_or(|(most, _)| score > most) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `did you mean `…`?`, where some candidate is near.
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The nearest name, else all of them where they are few, else nothing.
pub fn hint<'c>(what: &str, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(hint) = did_you_mean(name, candidates.iter().copied()) {
        return Some(hint);
    }
    if candidates.is_empty() {
        return Some(format!("there are no {what}"));
    }
    let quoted: Vec<String> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
    (quoted.len() <= 8).then(|| format!("the {what} are {}", quoted.join(", ")))
}

/// 1 for equal names, 0 for names without a common letter; a name that begins like the other counts as near.
fn likeness(name: &str, candidate: &str) -> f64 {
    let edits = strsim::normalized_damerau_levenshtein(name, candidate);
    let begins = name.len() >= 3 && (candidate.starts_with(name) || name.starts_with(candidate));
    if begins { edits.max(ALIKE) } else { edits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        let stages = ["train", "score", "gold-augment"];
        assert_eq!(nearest("trian", stages), Some("train"));
        assert_eq!(nearest("gold", stages), Some("gold-augment"));
        assert_eq!(nearest("scores", stages), Some("score"));
    }

    #[test]
    fn a_far_name_is_no_hint() {
        assert_eq!(nearest("zebra", ["train", "score"]), None);
        assert_eq!(hint("stages", "zebra", ["train", "score"]).unwrap(), "the stages are `train`, `score`");
        assert_eq!(hint("stages", "zebra", []).unwrap(), "there are no stages");
    }
}
