//! The miniature's judgments: the grounded gold one and the superficial one, as texts. Never read back here: verdicts
//! and rubrics belong to `judging/`.

use super::answer::{count_fluff, has_bullets, is_polite, is_right, observe};
use super::pair::task_of;
use crate::rows::{Pair, Side};

/// What the gold judgment says: `A 4 B 3 but max 4 [A]`. `None` where the row is no pair of this world, or where the
/// rules do not single out one right answer.
#[must_use]
pub fn gold(pair: &Pair) -> Option<String> {
    let task = task_of(&pair.conversations)?;
    let side = decided(pair)?;
    let (seen_a, seen_b) = (observe(&task, &pair.response_a), observe(&task, &pair.response_b));
    Some(format!("A {seen_a} B {seen_b} but {} {} [{side}]", task.factor(), task.truth()))
}

/// The side that the rules call right, where they call exactly one right.
#[must_use]
pub fn decided(pair: &Pair) -> Option<Side> {
    let task = task_of(&pair.conversations)?;
    match (is_right(&task, &pair.response_a), is_right(&task, &pair.response_b)) {
        (true, false) => Some(Side::A),
        (false, true) => Some(Side::B),
        _ => None,
    }
}

/// What a judge says that sees only the fluff: `A longer bullets polite [A]`. `None` where the fluff is equal.
#[must_use]
pub fn superficial(pair: &Pair) -> Option<String> {
    let side = match count_fluff(&pair.response_a).cmp(&count_fluff(&pair.response_b)) {
        std::cmp::Ordering::Greater => Side::A,
        std::cmp::Ordering::Less => Side::B,
        std::cmp::Ordering::Equal => return None,
    };
    let answer = if side == Side::A { &pair.response_a } else { &pair.response_b };
    let bullets = if has_bullets(answer) { " bullets" } else { "" };
    let polite = if is_polite(answer) { " polite" } else { "" };
    Some(format!("{side} longer{bullets}{polite} [{side}]"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::pair::Contrast;
    use super::super::words::vocabulary;
    use super::*;
    use crate::data::placement;

    fn pairs(count: usize) -> Vec<Pair> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let side = |index: usize| if index.is_multiple_of(2) { Side::A } else { Side::B };
        (0..count).map(|index| Contrast::draw(0.5, &mut random).into_row(index.to_string(), side(index))).collect()
    }

    #[test]
    fn gold_agrees_with_the_label_and_survives_the_swap() {
        for mut pair in pairs(4000) {
            let text = gold(&pair).expect("a pair of the world");
            assert!(text.ends_with(&format!("[{}]", pair.gt_label)), "{text}");
            assert_eq!(text.split(' ').count(), 8);
            pair.gt_judgment = Some(text);
            let swapped = placement::swap(&pair);
            assert_eq!(swapped.gt_judgment, gold(&swapped));
        }
    }

    #[test]
    fn superficial_judgments_follow_the_cue() {
        for pair in pairs(4000) {
            let text = superficial(&pair).expect("unequal fluff");
            let cue = pair.cue.expect("the generator knows");
            assert!(text.starts_with(&format!("{cue} longer")) && text.ends_with(&format!(" [{cue}]")), "{text}");
            let swapped = placement::relabel(&text);
            assert_eq!(Some(swapped), superficial(&placement::swap(&pair)));
        }
    }

    #[test]
    fn every_token_is_in_the_vocabulary() {
        let known: Vec<_> = vocabulary().collect();
        for pair in pairs(2000) {
            let texts =
                [gold(&pair), superficial(&pair), Some(pair.response_a), Some(pair.response_b), Some(pair.prompt_id)];
            for token in texts.iter().flatten().flat_map(|text| text.split(' ')) {
                assert!(known.contains(&token), "{token}");
            }
        }
    }
}
