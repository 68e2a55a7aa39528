//! GSM8K by lm-eval's rules (task `gsm8k` version 3): two filters that extract an answer, and `exact_match` with its
//! ignored patterns. Reads text only; the mean over tasks is `score.rs`'s.

use std::sync::LazyLock;

use regex::Regex;

/// What a filter yields where it finds nothing.
pub const INVALID: &str = "[invalid]";

/// Of `strict-match`.
pub const STRICT_PATTERN: &str = r"#### (-?[0-9.,]+)";
/// Of `flexible-extract`.
pub const FLEXIBLE_PATTERN: &str = r"(-?[$0-9.,]{2,})|(-?[0-9]+)";
/// What `exact_match` takes out of both sides.
pub const IGNORE: [&str; 4] = [",", r"\$", r"(?s).*#### ", r"\.$"];

static STRICT: LazyLock<Regex> = LazyLock::new(|| compile(STRICT_PATTERN));
static FLEXIBLE: LazyLock<Regex> = LazyLock::new(|| compile(FLEXIBLE_PATTERN));
static IGNORED: LazyLock<[Regex; 4]> = LazyLock::new(|| IGNORE.map(compile));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern, tested")
}

/// `strict-match`: the first number after `#### `.
#[must_use]
pub fn strict_match(text: &str) -> String {
    STRICT.captures(text).map_or(INVALID, |found| found.get(1).map_or(INVALID, |number| number.as_str())).to_string()
}

/// `flexible-extract`: the last thing that looks like a number.
#[must_use]
pub fn flexible_extract(text: &str) -> String {
    FLEXIBLE.find_iter(text).last().map_or(INVALID, |found| found.as_str().trim()).to_string()
}

/// `exact_match`: equal once commas, dollars, what precedes `#### `, a final full stop and case are ignored.
#[must_use]
pub fn exact_match(answer: &str, target: &str) -> bool {
    bare(answer) == bare(target)
}

fn bare(text: &str) -> String {
    IGNORED.iter().fold(text.to_string(), |text, pattern| pattern.replace_all(&text, "").into_owned()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, strict: &str, flexible: &str) {
        assert_eq!((strict_match(text).as_str(), flexible_extract(text).as_str()), (strict, flexible), "{text}");
    }

    #[test]
    fn filters_extract_as_lm_eval_does() {
        check("so 9 * 2 = 18\n#### 18", "18", "18");
        check("#### 1,234.50 and #### 7", "1,234.50", "7");
        check("It costs $18.", INVALID, "$18.");
        check("about 3 apples", INVALID, "3");
        check("negative -5", INVALID, "-5");
        check("no number", INVALID, INVALID);
        // The known weakness of the flexible filter: trailing punctuation alone counts as a number.
        check("18 dollars..", INVALID, "..");
    }

    #[test]
    fn matches_ignore_what_lm_eval_ignores() {
        for (answer, target, equal) in [
            ("18", "Janet sells 9 eggs.\n#### 18", true),
            ("$1,234.", "…\n#### 1234", true),
            ("18.0", "#### 18", false),
            (INVALID, "#### 18", false),
        ] {
            assert_eq!(exact_match(answer, target), equal, "{answer}");
        }
    }
}
