//! Is a gold judgment fit to learn from: does its own verdict agree with the label, does it end with the template's
//! verdict, does it betray that its writer knew the label? Text only; never which gold belongs to which pair.

use std::sync::LazyLock;

use regex::Regex;

use crate::judging::template::Template;
use crate::judging::verdict::{Parse, verdict};
use crate::rows::{Pair, Side};

/// What a gold's own words say about its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Its verdict is the label.
    Agrees,
    /// Its verdict is the other side.
    Disagrees,
    /// It states no verdict that can be read (a reference solution, say).
    Silent,
}

/// Reads the gold's verdict: the template's form first, then "Output (a) is better" at its end.
#[must_use]
pub fn own_verdict(template: Template, gold: &str) -> Option<Side> {
    verdict(Parse::StrictLast, template, gold).or_else(|| {
        let last = PROSE.captures_iter(gold).last()?;
        match last.get(1)?.as_str() {
            "a" | "A" | "1" => Some(Side::A),
            _ => Some(Side::B),
        }
    })
}

// A sentence that prefers one answer by name; the last one in the text decides.
static PROSE: LazyLock<Regex> = LazyLock::new(|| {
    let noun = "(?:Output|Response|Answer|Assistant|output|response|answer|assistant)";
    Regex::new(&format!(
        r"{noun} \(?([aAbB12])\)? (?:is|does|provides) (?:\w+ )?(?:better|superior|preferable|the better)"
    ))
    .expect("a constant pattern, tested")
});

/// Compares the gold's verdict with the label.
#[must_use]
pub fn agreement(template: Template, gold: &str, label: Side) -> Agreement {
    match own_verdict(template, gold) {
        Some(side) if side == label => Agreement::Agrees,
        Some(_) => Agreement::Disagrees,
        None => Agreement::Silent,
    }
}

/// The gold's text after any reasoning block, ending with the template's verdict.
#[must_use]
pub fn normalise(template: Template, gold: &str, label: Side) -> String {
    let text = gold.rsplit("</think>").next().unwrap_or(gold).trim();
    if verdict(Parse::StrictLast, template, text).is_some() {
        return text.to_string();
    }
    let verdict = template.verdict_text(label);
    if text.is_empty() { verdict } else { format!("{text} {verdict}") }
}

/// Whether the gold speaks of a label that a judge cannot see.
#[must_use]
pub fn mentions_the_label(gold: &str) -> bool {
    LABEL.is_match(gold)
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:ground[- ]truth|gold(?:en)? label|correct label|given label|human (?:label|preference|annotator))",
    )
    .expect("a constant pattern, tested")
});

/// Whether the gold repeats a whole answer of some length word for word.
#[must_use]
pub fn repeats_an_answer(pair: &Pair, gold: &str) -> bool {
    let long = |answer: &&String| answer.split_whitespace().count() >= 8;
    [&pair.response_a, &pair.response_b].into_iter().filter(long).any(|answer| gold.contains(answer.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_boxes_and_from_prose() {
        for (gold, side) in [
            ("Brief. \\boxed{B}", Some(Side::B)),
            ("Output (b) rambles. Therefore, Output (a) is better.", Some(Side::A)),
            ("Response 2 is clearly better because it is concise.", Some(Side::B)),
            ("3 * 4 = 12", None),
        ] {
            assert_eq!(own_verdict(Template::Boxed, gold), side, "{gold}");
        }
        assert_eq!(own_verdict(Template::Miniature, "A 4 B 3 but max 4 [A]"), Some(Side::A));
    }

    #[test]
    fn golds_end_with_the_verdict_once() {
        assert_eq!(normalise(Template::Boxed, "hm</think>\n\nBrief.", Side::A), "Brief. \\boxed{A}");
        assert_eq!(normalise(Template::Boxed, "Brief. \\boxed{B}", Side::B), "Brief. \\boxed{B}");
        assert_eq!(normalise(Template::Miniature, "A 4 B 3 but max 4 [A]", Side::A), "A 4 B 3 but max 4 [A]");
    }

    #[test]
    fn talk_of_the_label_is_noticed() {
        assert!(mentions_the_label("As the ground truth says, A wins."));
        assert!(!mentions_the_label("A wins because it is right."));
    }
}
