//! The paths that code names, `use` trees spread out: the edges between modules. Takes every path for one, also those
//! of values and enum variants: a longest prefix that is a module is what counts, and too many edges are harmless.

/// Every path in the code, `use` trees spread out: `crate::rows::{Pair, jsonl::read}` gives two.
pub fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut next = 0;
    while next < tokens.len() {
        if is_name(&tokens[next]) && tokens.get(next + 1).is_some_and(|token| token == ":") {
            next = path(tokens, next, Vec::new(), &mut found).max(next + 1);
        } else {
            next += 1;
        }
    }
    found
}

fn path(tokens: &[String], mut next: usize, mut segments: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let at = |index: usize| tokens.get(index).map(String::as_str).unwrap_or_default();
    loop {
        if at(next) == "{" {
            next += 1;
            while next < tokens.len() && at(next) != "}" {
                next = path(tokens, next, segments.clone(), found);
                while next < tokens.len() && !matches!(at(next), "," | "}") {
                    next += 1;
                }
                if at(next) == "," {
                    next += 1;
                }
            }
            return next + 1;
        }
        if !is_name(at(next)) {
            break;
        }
        segments.push(at(next).to_string());
        next += 1;
        if at(next) != ":" || at(next + 1) != ":" {
            break;
        }
        next += 2;
    }
    if segments.len() > 1 {
        found.push(segments);
    }
    next
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
}
