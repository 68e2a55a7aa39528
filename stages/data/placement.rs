//! Which answer stands as A: decided by a hash, and exchanged together with everything that names the sides.
//! Never touches the dialogue.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::hash;
use crate::rows::{Order, Pair, Side};

/// The same pair with its answers exchanged: label, cue and the letters in the gold judgment follow.
#[must_use]
pub fn swap(pair: &Pair) -> Pair {
    Pair {
        response_a: pair.response_b.clone(),
        response_b: pair.response_a.clone(),
        gt_label: pair.gt_label.other(),
        gt_judgment: pair.gt_judgment.as_deref().map(relabel),
        swapped: !pair.swapped,
        cue: pair.cue.map(Side::other),
        ..pair.clone()
    }
}

/// Whether item and seed decide to exchange the answers: an even chance that never depends on the label.
#[must_use]
pub fn exchanges(id: &str, seed: u64) -> bool {
    hash::share(&["placement", &seed.to_string(), id]) < 0.5
}

/// A judgment's text with A and B exchanged wherever the text names the answers. Its own inverse.
#[must_use]
pub fn relabel(judgment: &str) -> String {
    if let Some(text) = relabel_miniature(judgment) {
        return text;
    }
    let names = if OUTPUT_IN_PARENTHESES.is_match(judgment) { &*NAMES_AND_PARENTHESES } else { &*NAMES };
    names.replace_all(judgment, |found: &Captures<'_>| exchange(&found[0])).into_owned()
}

// The miniature's grounded judgment states A's claim, then B's: there the claims move, not the letters.
fn relabel_miniature(judgment: &str) -> Option<String> {
    let words: Vec<&str> = judgment.split(' ').collect();
    match words[..] {
        ["A", first, "B", second, "but", factor, truth, verdict @ ("[A]" | "[B]")] => {
            Some(format!("A {second} B {first} but {factor} {truth} {}", exchange(verdict)))
        }
        [side @ ("A" | "B"), "longer", ref reasons @ .., verdict @ ("[A]" | "[B]")] => {
            let middle: String = reasons.iter().map(|reason| format!(" {reason}")).collect();
            Some(format!("{} longer{middle} {}", exchange(side), exchange(verdict)))
        }
        _ => None,
    }
}

// Names of an answer as judges write them: a noun with one or more letters or numbers, an ordinal with a noun, a
// verdict. A bare letter is left alone, for "A" is an article too; so is a bare number.
fn names() -> String {
    let noun = "(?i:outputs?|responses?|answers?|assistants?|options?|candidates?|replies|reply)";
    let numbered = "(?i:outputs?|responses?|assistants?)";
    let join = r"\s*(?:,|/|&|\band\b|\bor\b|\bthan\b|\bversus\b|\bvs\b\.?)\s*";
    [
        format!(r"\b{noun}(?:[ _-]*\([ABab]\)|[ _-]+[AB]\b)(?:{join}(?:\([ABab]\)|[AB]\b))*"),
        format!(r"\b{numbered}(?:[ _-]*\([12]\)|[ _-]+[12]\b)(?:{join}(?:\([12]\)|[12]\b))*"),
        format!(r"\b(?i:first|second)\s+{noun}\b"),
        r"\\boxed\s*\{\s*(?:\\text\s*\{\s*)?[AB]\s*\}".to_string(),
        r"\[[AB]\]".to_string(),
    ]
    .join("|")
}

static NAMES: LazyLock<Regex> = LazyLock::new(|| Regex::new(&names()).expect("a constant pattern, tested"));

// "Both (a) and (b)": bare parentheses name an answer only in texts that also say "Output (a)".
static NAMES_AND_PARENTHESES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"{}|\([ab]\)", names())).expect("a constant pattern, tested"));

static OUTPUT_IN_PARENTHESES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\boutputs?[ _-]*\([ab]\)").expect("a constant pattern, tested"));

// Exchanges the letters, numbers and ordinals that stand alone in a name.
fn exchange(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    let mut word = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() {
            word.push(c);
        } else {
            text.push_str(opposite(&word));
            word.clear();
            text.push(c);
        }
    }
    text.push_str(opposite(&word));
    text
}

fn opposite(word: &str) -> &str {
    const OPPOSITES: [(&str, &str); 6] =
        [("A", "B"), ("a", "b"), ("1", "2"), ("first", "second"), ("First", "Second"), ("FIRST", "SECOND")];
    let found = OPPOSITES.iter().find_map(|&(left, right)| match word {
        _ if word == left => Some(right),
        _ if word == right => Some(left),
        _ => None,
    });
    found.unwrap_or(word)
}

/// A pair as it stands and, where both orders are asked for, with its answers exchanged.
pub fn orders(pair: Pair, both: bool) -> impl Iterator<Item = (Order, Pair)> {
    let swapped = both.then(|| (Order::Swapped, swap(&pair)));
    std::iter::once((Order::Original, pair)).chain(swapped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::{Message, Origin};

    fn check(text: &str, expected: &str) {
        assert_eq!(relabel(text), expected);
        assert_eq!(relabel(expected), text);
    }

    #[test]
    fn names_of_the_answers_are_exchanged() {
        check(
            "Output (a) is brief; output (b) rambles. Both (a) and (b) err.",
            "Output (b) is brief; output (a) rambles. Both (b) and (a) err.",
        );
        check("Response A beats Assistant B's Answer. \\boxed{A}", "Response B beats Assistant A's Answer. \\boxed{B}");
        check("Responses A and B differ; response_A wins. [[A]]", "Responses B and A differ; response_B wins. [[B]]");
        check("@Response 1 is better than Response 2", "@Response 2 is better than Response 1");
        check(
            "The first response is right, the Second Answer wrong: \\boxed{ \\text{A} }",
            "The second response is right, the First Answer wrong: \\boxed{ \\text{B} }",
        );
    }

    #[test]
    fn what_names_no_answer_is_left_alone() {
        for text in
            ["A longer answer is not a better one", "answer a question", "(a) milk (b) eggs", "the answer 12", "Plan A"]
        {
            check(text, text);
        }
    }

    #[test]
    fn judgments_of_the_miniature_keep_their_grammar() {
        check("A 4 B 3 but max 4 [A]", "A 3 B 4 but max 4 [B]");
        check("A longer bullets polite [A]", "B longer bullets polite [B]");
    }

    proptest! {
        #[test]
        fn exchanging_twice_changes_nothing(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "Output (a)", "output (b)", "(a)", "Response A", "Answers A and B", "first", "response", "Second answer",
                    "[A]", "[B]", "\\boxed{A}", "A", "B", "longer", "a", "and", "response 1", "or 2", ",", "the", "but", "4",
                ]),
                0..14,
            ),
            glue in prop::sample::select(vec![" ", "", "\n"]),
        ) {
            let text = pieces.join(glue);
            prop_assert_eq!(relabel(&relabel(&text)), text);
        }

        #[test]
        fn a_pair_swapped_twice_is_the_same_pair(a in ".{0,20}", b in ".{0,20}", label in prop::bool::ANY) {
            let side = if label { Side::A } else { Side::B };
            let pair = Pair {
                id: "1".into(),
                conversations: vec![Message { role: "user".into(), content: "q".into() }],
                response_a: a,
                response_b: b,
                gt_label: side,
                gt_judgment: Some(format!("Response {side} is right. \\boxed{{{side}}}")),
                source: Origin::default(),
                prompt_id: "q".into(),
                swapped: false,
                cue: Some(side.other()),
            };
            let swapped = swap(&pair);
            prop_assert_eq!(swapped.gt_label, side.other());
            prop_assert_eq!(&swapped.response_a, &pair.response_b);
            prop_assert_eq!(swap(&swapped), pair);
        }
    }

    #[test]
    fn placement_is_an_even_and_repeatable_chance() {
        let exchanged = (0..2000).filter(|index| exchanges(&format!("item-{index}"), 7)).count();
        assert!((900..1100).contains(&exchanged), "{exchanged} of 2000");
        let other = (0..2000).filter(|index| exchanges(&format!("item-{index}"), 8)).count();
        assert_ne!(exchanged, other);
    }
}
