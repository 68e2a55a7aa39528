//! One rule for each kind of instruction, in the order of their names. A rule reads a response and its arguments.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::language;
use super::text::{count_capital_words, count_sentences, count_words, is_lower, is_upper};

type Arguments = Map<String, Value>;

/// Every kind that [`follows`] knows.
pub const KINDS: [&str; 25] = [
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "combination:repeat_prompt",
    "combination:two_responses",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:constrained_response",
    "detectable_format:json_format",
    "detectable_format:multiple_sections",
    "detectable_format:number_bullet_lists",
    "detectable_format:number_highlighted_sections",
    "detectable_format:title",
    "keywords:existence",
    "keywords:forbidden_words",
    "keywords:frequency",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:nth_paragraph_first_word",
    "length_constraints:number_paragraphs",
    "length_constraints:number_sentences",
    "length_constraints:number_words",
    "punctuation:no_comma",
    "startend:end_checker",
    "startend:quotation",
];

/// Whether a response follows an instruction; an error where the kind or its arguments are unknown.
pub fn follows(kind: &str, given: &Arguments, response: &str) -> Result<bool, String> {
    let wrong = |problem: String| format!("instruction `{kind}`: {problem}");
    let obeyed = match kind {
        "change_case:capital_word_frequency" => {
            compare(given, "capital_relation", "capital_frequency", count_capital_words(response))
        }
        "change_case:english_capital" => Ok(is_upper(response) && language::is_in("en", response)),
        "change_case:english_lowercase" => Ok(is_lower(response) && language::is_in("en", response)),
        "combination:repeat_prompt" => {
            text(given, "prompt_to_repeat").map(|prompt| lower(response).starts_with(&lower(prompt)))
        }
        "combination:two_responses" => Ok(has_two_responses(response)),
        "detectable_content:number_placeholders" => {
            at_least(given, "num_placeholders", PLACEHOLDER.find_iter(response).count())
        }
        "detectable_content:postscript" => {
            text(given, "postscript_marker").and_then(|marker| has_postscript(marker, response))
        }
        "detectable_format:constrained_response" => Ok(CONSTRAINED.iter().any(|option| response.contains(option))),
        "detectable_format:json_format" => Ok(is_json(response)),
        "detectable_format:multiple_sections" => {
            count_sections(given, response).and_then(|count| at_least(given, "num_sections", count))
        }
        "detectable_format:number_bullet_lists" => {
            number(given, "num_bullets").map(|wanted| count_bullets(response) == wanted)
        }
        "detectable_format:number_highlighted_sections" => {
            at_least(given, "num_highlights", count_highlights(response))
        }
        "detectable_format:title" => Ok(has_title(response)),
        "keywords:existence" => all_keywords(given, "keywords", |keyword| Ok(count_matches(keyword, response)? > 0)),
        "keywords:forbidden_words" => {
            all_keywords(given, "forbidden_words", |word| Ok(count_matches(&format!(r"\b{word}\b"), response)? == 0))
        }
        "keywords:frequency" => text(given, "keyword")
            .and_then(|keyword| count_matches(keyword.trim(), response))
            .and_then(|count| compare(given, "relation", "frequency", count)),
        "keywords:letter_frequency" => text(given, "letter").and_then(|letter| {
            let count = response.to_lowercase().matches(&letter.trim().to_lowercase()).count();
            compare(given, "let_relation", "let_frequency", count)
        }),
        "language:response_language" => text(given, "language").and_then(|code| match language::is_known(code) {
            true => Ok(language::is_in(code, response)),
            false => Err(format!("no rule tells the language `{code}`")),
        }),
        "length_constraints:nth_paragraph_first_word" => nth_paragraph_starts(given, response),
        "length_constraints:number_paragraphs" => {
            number(given, "num_paragraphs").map(|wanted| count_paragraphs(response) == Some(wanted))
        }
        "length_constraints:number_sentences" => compare(given, "relation", "num_sentences", count_sentences(response)),
        "length_constraints:number_words" => compare(given, "relation", "num_words", count_words(response)),
        "punctuation:no_comma" => Ok(!response.contains(',')),
        "startend:end_checker" => {
            text(given, "end_phrase").map(|phrase| lower(response.trim().trim_matches('"')).ends_with(&lower(phrase)))
        }
        "startend:quotation" => Ok(is_quoted(response.trim())),
        _ => Err("no checker is known".into()),
    };
    obeyed.map_err(wrong)
}

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern, tested")
}

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| compile(r"\[.*?\]"));
static HIGHLIGHT: LazyLock<Regex> = LazyLock::new(|| compile(r"\*[^\n*]*\*"));
static DOUBLE_HIGHLIGHT: LazyLock<Regex> = LazyLock::new(|| compile(r"\*\*[^\n*]*\*\*"));
static STAR_BULLET: LazyLock<Regex> = LazyLock::new(|| compile(r"(?m)^\s*\*[^*].*$"));
static DASH_BULLET: LazyLock<Regex> = LazyLock::new(|| compile(r"(?m)^\s*-.*$"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| compile(r"<<[^\n]+>>"));
static DIVIDER: LazyLock<Regex> = LazyLock::new(|| compile(r"\s?\*\*\*\s?"));
const CONSTRAINED: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];

fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

fn text<'a>(given: &'a Arguments, name: &str) -> Result<&'a str, String> {
    given.get(name).and_then(Value::as_str).ok_or_else(|| format!("expected text in `{name}`"))
}

fn number(given: &Arguments, name: &str) -> Result<usize, String> {
    // Some published files write whole numbers as `3.0`.
    let value = given.get(name).and_then(Value::as_f64).filter(|value| *value >= 0.0 && value.fract() == 0.0);
    value.map(|value| value as usize).ok_or_else(|| format!("expected a whole number in `{name}`"))
}

fn at_least(given: &Arguments, name: &str, count: usize) -> Result<bool, String> {
    number(given, name).map(|wanted| count >= wanted)
}

fn compare(given: &Arguments, relation: &str, name: &str, count: usize) -> Result<bool, String> {
    let wanted = number(given, name)?;
    match text(given, relation)? {
        "at least" => Ok(count >= wanted),
        "less than" => Ok(count < wanted),
        other => Err(format!("`{other}` is no relation: expected `at least` or `less than`")),
    }
}

// Keywords are patterns in the original; one that is no pattern is taken as it is written.
fn count_matches(keyword: &str, response: &str) -> Result<usize, String> {
    let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).build();
    let pattern = build(keyword).or_else(|_| build(&regex::escape(keyword))).map_err(|error| error.to_string())?;
    Ok(pattern.find_iter(response).count())
}

fn all_keywords(given: &Arguments, name: &str, holds: impl Fn(&str) -> Result<bool, String>) -> Result<bool, String> {
    let list = given.get(name).and_then(Value::as_array).ok_or_else(|| format!("expected a list in `{name}`"))?;
    for keyword in list {
        let keyword = keyword.as_str().ok_or_else(|| format!("expected texts in `{name}`"))?;
        if !holds(keyword)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_two_responses(response: &str) -> bool {
    let parts: Vec<&str> = response.split("******").map(str::trim).collect();
    let inner_blank = parts.iter().enumerate().any(|(at, part)| part.is_empty() && at != 0 && at + 1 != parts.len());
    let valid: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !inner_blank && valid.len() == 2 && valid[0] != valid[1]
}

fn has_postscript(marker: &str, response: &str) -> Result<bool, String> {
    let pattern = match marker {
        "P.P.S" => r"\s*p\.\s?p\.\s?s.*$".to_string(),
        "P.S." => r"\s*p\.\s?s\..*$".to_string(),
        other => format!(r"\s*{}.*$", regex::escape(&other.to_lowercase())),
    };
    count_matches(&format!("(?m){pattern}"), &response.to_lowercase()).map(|count| count > 0)
}

fn is_json(response: &str) -> bool {
    let mut text = response.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn count_sections(given: &Arguments, response: &str) -> Result<usize, String> {
    let splitter = text(given, "section_spliter")?;
    let pattern = Regex::new(&format!(r"\s?{splitter}\s?\d+\s?")).map_err(|error| error.to_string())?;
    Ok(pattern.find_iter(response).count())
}

fn count_bullets(response: &str) -> usize {
    STAR_BULLET.find_iter(response).count() + DASH_BULLET.find_iter(response).count()
}

fn count_highlights(response: &str) -> usize {
    let single = HIGHLIGHT.find_iter(response).filter(|found| !found.as_str().trim_matches('*').trim().is_empty());
    let inner = |found: &regex::Match<'_>| {
        let text = found.as_str();
        let text = text.strip_prefix("**").unwrap_or(text);
        !text.strip_suffix("**").unwrap_or(text).trim().is_empty()
    };
    single.count() + DOUBLE_HIGHLIGHT.find_iter(response).filter(inner).count()
}

fn has_title(response: &str) -> bool {
    let mut titles = TITLE.find_iter(response);
    titles.any(|title| !title.as_str().trim_start_matches('<').trim_end_matches('>').trim().is_empty())
}

// Paragraphs apart by `***`; a blank one is passed over at either end and spoils the count elsewhere.
fn count_paragraphs(response: &str) -> Option<usize> {
    let parts: Vec<&str> = DIVIDER.split(response).collect();
    let mut count = parts.len();
    for (at, part) in parts.iter().enumerate() {
        if part.trim().is_empty() {
            if at != 0 && at + 1 != parts.len() {
                return None;
            }
            count -= 1;
        }
    }
    Some(count)
}

fn nth_paragraph_starts(given: &Arguments, response: &str) -> Result<bool, String> {
    let (wanted, nth) = (number(given, "num_paragraphs")?, number(given, "nth_paragraph")?);
    let first_word = text(given, "first_word")?.to_lowercase();
    let paragraphs: Vec<&str> = response.split("\n\n").collect();
    let count = paragraphs.iter().filter(|paragraph| !paragraph.trim().is_empty()).count();
    if nth == 0 || nth > count {
        return Ok(false);
    }
    let Some(word) = paragraphs[nth - 1].split_whitespace().next() else { return Ok(false) };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let word = word.split(['.', ',', '?', '!', '\'', '"']).next().unwrap_or_default();
    Ok(count == wanted && word.to_lowercase() == first_word)
}

fn is_quoted(text: &str) -> bool {
    text.chars().count() > 1 && text.starts_with('"') && text.ends_with('"')
}
