//! Word overlap with the gold: F1 over lower-cased words as counted in both texts, the sentences that only announce
//! the verdict left out. A stand-in that runs anywhere and is labelled so: it measures wording, not reasons.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation as _;

use super::{Judged, MetaVerdict};

// Unicode's own sentence rules see no boundary before `\\boxed`: it starts with no capital.
static BOUNDARY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[.!?][)*]*\s+|\n").expect("a pattern of this file, compiled by its tests"));

/// Compares two prose judgments by their words.
pub fn judge(golden: &str, rationale: &str, threshold: f64) -> Judged {
    let (golden, rationale) = (words(golden), words(rationale));
    if golden.is_empty() {
        return Judged::failed(MetaVerdict::ParseFail, "the gold judgment holds nothing but its verdict");
    }
    let score = f1(&golden, &rationale);
    let analysis = format!("word-overlap stand-in: F1 {score:.3}, threshold {threshold}");
    Judged::decided(score >= threshold, score, analysis)
}

fn f1(golden: &BTreeMap<String, usize>, rationale: &BTreeMap<String, usize>) -> f64 {
    let total = |words: &BTreeMap<String, usize>| words.values().sum::<usize>();
    let count = |word: &String| rationale.get(word).copied().unwrap_or(0);
    let shared: usize = golden.iter().map(|(word, number)| count(word).min(*number)).sum();
    2.0 * shared as f64 / (total(golden) + total(rationale)) as f64
}

fn words(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let sentences = BOUNDARY.split(text).filter(|sentence| !announces_verdict(sentence));
    for word in sentences.flat_map(|sentence| sentence.unicode_words()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

fn announces_verdict(sentence: &str) -> bool {
    ["boxed{", "boxed {", "[[A]]", "[[B]]", "[A]", "[B]"].iter().any(|mark| sentence.contains(mark))
}

#[cfg(test)]
mod tests {
    use crate::judging::meta::MetaJudge;
    use expect_test::{Expect, expect};

    fn check(golden: &str, rationale: &str, expected: Expect) {
        let judged = MetaJudge::Overlap { threshold: 0.5 }.judge(golden, rationale);
        expected.assert_eq(&format!("{:?} {}", judged.verdict, judged.analysis));
    }

    #[test]
    fn the_same_words_in_another_case_are_full_overlap() {
        check(
            "A adds wrongly. \\boxed{B}",
            "Let me see </think> a ADDS, wrongly!\n\n\\boxed{A}",
            expect!["Correct word-overlap stand-in: F1 1.000, threshold 0.5"],
        );
    }

    #[test]
    fn words_count_as_often_as_they_stand() {
        check("one two two", "two two two two", expect!["Correct word-overlap stand-in: F1 0.571, threshold 0.5"]);
        check("one two", "three", expect!["Incorrect word-overlap stand-in: F1 0.000, threshold 0.5"]);
    }

    #[test]
    fn a_rationale_that_only_gives_its_verdict_overlaps_with_nothing() {
        check(
            "Because of \\boxed{A}. It adds well.",
            "\\boxed{A}",
            expect!["Incorrect word-overlap stand-in: F1 0.000, threshold 0.5"],
        );
        check("\\boxed{A}", "It adds well.", expect!["ParseFail the gold judgment holds nothing but its verdict"]);
    }
}
