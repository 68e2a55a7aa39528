//! Words, sentences and capital tokens as IFEval counts them. Rules only, no trained models.

use std::sync::LazyLock;

use regex::Regex;

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern, tested")
}

static WORD: LazyLock<Regex> = LazyLock::new(|| compile(r"\w+"));
static ENDING: LazyLock<Regex> = LazyLock::new(|| compile(r#"[.!?]+["'”’)\]*_]*\s+"#));
static TREEBANK_MARKS: LazyLock<Regex> = LazyLock::new(|| compile(r#"[;@#$%&?!()\[\]{}<>"“”]|\.\.\.|--|[:,](?:\D|$)"#));
static CONTRACTION: LazyLock<Regex> = LazyLock::new(|| compile(r"(?i)(n't|'s|'m|'d|'ll|'re|'ve)\b"));

/// Runs of letters, digits and underscores.
#[must_use]
pub fn count_words(text: &str) -> usize {
    WORD.find_iter(text).count()
}

/// Sentences: cut after `.`, `!` or `?` before a blank, except after an abbreviation or an initial.
#[must_use]
pub fn count_sentences(text: &str) -> usize {
    let text = text.trim();
    if text.is_empty() {
        return 0;
    }
    1 + ENDING.find_iter(text).filter(|ending| ends_sentence(text, ending.start(), ending.end())).count()
}

fn ends_sentence(text: &str, stop: usize, next: usize) -> bool {
    let marks: &str = text[stop..next].trim_end();
    if marks.contains(['!', '?']) {
        return true;
    }
    let word = text[..stop].rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower_follows = text[next..].chars().next().is_some_and(char::is_lowercase);
    if marks.starts_with("...") {
        return !lower_follows;
    }
    let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    !initial && !ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

// Those of Punkt's English list that occur in ordinary prose.
const ABBREVIATIONS: [&str; 34] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "e.g", "i.e", "etc", "inc", "ltd", "co", "corp", "u.s",
    "u.k", "a.m", "p.m", "no", "fig", "gen", "col", "sen", "rep", "gov", "jan", "feb", "aug", "sept", "oct", "nov",
    "dec",
];

/// Tokens with a capital letter and no small one, cut as Treebank's tokenizer cuts.
#[must_use]
pub fn count_capital_words(text: &str) -> usize {
    let spaced = TREEBANK_MARKS.replace_all(text, |found: &regex::Captures<'_>| format!(" {} ", &found[0]));
    let spaced = CONTRACTION.replace_all(&spaced, " $1");
    spaced.split_whitespace().filter(|token| is_upper(token)).count()
}

/// Python's `isupper`: some cased letter, and none that is small.
#[must_use]
pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Python's `islower`.
#[must_use]
pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_at_stops_but_not_at_abbreviations() {
        for (text, count) in [
            ("", 0),
            ("No stop", 1),
            ("One. Two! Three? \"Four.\" Five", 5),
            ("Dr. J. Smith met e.g. Mr. Jones at 3 p.m. sharp.", 1),
            ("Wait... no. 1. First item", 2),
            ("line one\nline two", 1),
        ] {
            assert_eq!(count_sentences(text), count, "{text}");
        }
    }

    #[test]
    fn capital_words_are_counted_by_token() {
        for (text, count) in
            [("I AM here.", 2), ("DON'T stop", 2), ("U.S. and WELL-KNOWN (NASA)", 3), ("**BOLD** 42", 1)]
        {
            assert_eq!(count_capital_words(text), count, "{text}");
        }
    }
}
