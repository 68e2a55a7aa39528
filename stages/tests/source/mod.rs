//! Reads Rust source as code: comments, documentation, layout and test modules are gone, so that what is left changes
//! only when behaviour may. Used by the version guard here and by the house's own test. Never compiles anything.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The tokens of a file, flat, without comments, doc attributes, `#[cfg(test)]` items and trailing commas.
pub fn code(text: &str) -> Result<Vec<String>, String> {
    let stream = TokenStream::from_str(text).map_err(|error| error.to_string())?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Ok(tokens)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut next = 0;
    while let Some(tree) = trees.get(next) {
        if let Some((attribute, length)) = attribute(&trees[next..]) {
            if attribute.starts_with("cfg(test)") || attribute.starts_with("cfg(all(test") {
                if length == 3 {
                    tokens.clear();
                    return;
                }
                next += length + item_length(&trees[next + length..]);
                continue;
            }
            if attribute.starts_with("doc=") {
                next += length;
                continue;
            }
        }
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(open.into());
                flatten(group.stream(), tokens);
                if tokens.last().is_some_and(|last| last == ",") {
                    tokens.pop();
                }
                tokens.push(close.into());
            }
            other => tokens.push(other.to_string()),
        }
        next += 1;
    }
}

/// The text of an attribute without spaces and the number of trees it takes: 2, or 3 for an inner one.
fn attribute(trees: &[TokenTree]) -> Option<(String, usize)> {
    let is =
        |tree: Option<&TokenTree>, mark: char| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == mark);
    if !is(trees.first(), '#') {
        return None;
    }
    let length = if is(trees.get(1), '!') { 3 } else { 2 };
    match trees.get(length - 1) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group.stream().to_string().replace(' ', ""), length))
        }
        _ => None,
    }
}

/// How many trees the item after an attribute takes: up to its body or its semicolon.
fn item_length(trees: &[TokenTree]) -> usize {
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    trees.iter().position(ends).map_or(trees.len(), |last| last + 1)
}

/// Every file below a folder for which `keep` holds, sorted, as paths relative to it.
pub fn files(folder: &Path, keep: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(here) = waiting.pop() {
        for entry in std::fs::read_dir(&here).unwrap_or_else(|error| panic!("list {}: {error}", here.display())) {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            if path.is_dir() {
                if !matches!(name.to_str(), Some("target" | ".git" | ".venv")) {
                    waiting.push(path);
                }
            } else if keep(&name) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}
