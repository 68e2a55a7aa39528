//! Reading a verdict out of a judge's text. Never guesses: a text without a readable verdict has none, and the
//! caller counts it.

use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::rows::Side;

/// Which rule reads the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Parse {
    /// After the last `</think>`, the last box, tolerant of spaces, lower case and `\text`.
    #[default]
    StrictLast,
    /// The official script's rule, to the letter: the first box anywhere.
    RalignOfficial,
}

// The official pair of patterns: the second is tried only where the first is found nowhere.
static OFFICIAL: LazyLock<[Regex; 2]> = LazyLock::new(|| [r"\\boxed\{([AB])\}", r"boxed\{([AB])\}"].map(compile));
// A box with at most one level of braces inside, as `\text{B}` has.
static ANY_BOX: LazyLock<Regex> = LazyLock::new(|| compile(r"boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}"));
static LETTER: LazyLock<Regex> = LazyLock::new(|| compile(r"^\s*(?:\\[a-z]+\s*\{)?[\s*]*([ABab])[\s*]*\}?\s*$"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file, compiled by its tests")
}

/// The verdict, or `None` where there is none. The miniature's grammar has one rule: its last `[A]` or `[B]` token.
pub fn verdict(parse: Parse, template: Template, text: &str) -> Option<Side> {
    match (template, parse) {
        (Template::Miniature, _) => text.split_whitespace().rev().find_map(token),
        (Template::Boxed, Parse::StrictLast) => strict_last(text),
        (Template::Boxed, Parse::RalignOfficial) => official(text),
    }
}

/// What a judge finally said: the text after the last `</think>`, trimmed.
pub fn after_thinking(text: &str) -> &str {
    text.rsplit("</think>").next().unwrap_or(text).trim()
}

fn official(text: &str) -> Option<Side> {
    OFFICIAL.iter().find_map(|pattern| side(&pattern.captures(text)?[1]))
}

// The last box decides even where it holds no letter: what follows a verdict may take it back.
fn strict_last(text: &str) -> Option<Side> {
    let last = ANY_BOX.captures_iter(after_thinking(text)).last()?;
    side(&LETTER.captures(&last[1])?[1])
}

fn token(token: &str) -> Option<Side> {
    match token {
        "[A]" => Some(Side::A),
        "[B]" => Some(Side::B),
        _ => None,
    }
}

fn side(letter: &str) -> Option<Side> {
    match letter {
        "A" | "a" => Some(Side::A),
        "B" | "b" => Some(Side::B),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Option<Side> {
        verdict(Parse::StrictLast, Template::Boxed, text)
    }

    #[test]
    fn the_last_box_after_the_thinking_decides() {
        assert_eq!(strict(r"\boxed{A}\n\boxed{B}"), Some(Side::B));
        assert_eq!(strict(r"\boxed{A} or \boxed{B}?</think> B it is. \boxed{B}"), Some(Side::B));
        assert_eq!(strict(r"\boxed{A}</think> no verdict"), None);
        assert_eq!(strict(r"\boxed{A}, no: \boxed{C}"), None);
    }

    #[test]
    fn spaces_text_macros_and_lower_case_are_read() {
        for text in
            [r"\boxed{ B }", r"\boxed{\text{B}}", r"\boxed{b}", r"boxed {B}", r"\boxed{\textbf{ b }}", r"\boxed{**B**}"]
        {
            assert_eq!(strict(text), Some(Side::B), "{text}");
        }
        for text in [r"\boxed{A>B}", r"\boxed{AB}", r"\boxed{}", "[[B]]", "", r"\boxed{A"] {
            assert_eq!(strict(text), None, "{text}");
        }
    }

    #[test]
    fn the_official_rule_takes_the_first_box_anywhere() {
        let official = |text| verdict(Parse::RalignOfficial, Template::Boxed, text);
        assert_eq!(official(r"\boxed{A} or \boxed{B}?</think> \boxed{B}"), Some(Side::A));
        assert_eq!(official(r"boxed{B} then \boxed{A}"), Some(Side::A));
        assert_eq!(official(r"\boxed{ B }"), None);
    }

    #[test]
    fn the_miniature_reads_its_last_bracketed_letter() {
        let miniature = |text| verdict(Parse::StrictLast, Template::Miniature, text);
        assert_eq!(miniature("A 4 B 3 but max 4 [A]"), Some(Side::A));
        assert_eq!(miniature("[A] longer [B] but"), Some(Side::B));
        assert_eq!(miniature("A longer"), None);
        assert_eq!(miniature("[A]x"), None);
    }
}
