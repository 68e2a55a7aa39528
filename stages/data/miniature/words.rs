//! The miniature's vocabulary: 64 word-level tokens, separated by blanks in every text. Words only, no rules.

/// Markers of a prompt's parts, and the tokens that training needs.
pub const MARKERS: [&str; 7] = ["<pad>", "<bos>", "<eos>", "<A>", "<B>", "<judge>", "<resp>"];
/// Numbers.
pub const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// What the `if` domain writes.
pub const NOUNS: [&str; 6] = ["apple", "river", "stone", "cloud", "lamp", "bird"];
/// Keys of the `general` domain.
pub const ANIMALS: [&str; 5] = ["cat", "fox", "dog", "owl", "hen"];
/// Values of the `general` domain.
pub const COLOURS: [&str; 4] = ["red", "blue", "green", "gold"];
/// What tasks are told with.
pub const TASK_WORDS: [&str; 12] =
    ["sum", "max", "min", "x", "y", "swap", "keep", "print", "start", "end", "count", "ask"];
/// What answers are told with.
pub const ANSWER_WORDS: [&str; 10] = ["ans", "sure", "!", "*", "clear", "brief", "note", "hope", "this", "helps"];
/// What judgments are told with.
pub const JUDGMENT_WORDS: [&str; 10] = ["none", "but", "A", "B", "->", "[A]", "[B]", "longer", "bullets", "polite"];

/// The polite opening: part of the spurious cue.
pub const OPENER: [&str; 2] = ["sure", "!"];
/// The polite closing: part of the spurious cue.
pub const CLOSING: [&str; 3] = ["hope", "this", "helps"];
/// The mark of a bullet: part of the spurious cue.
pub const BULLET: &str = "*";
/// What a bullet says.
pub const BULLET_WORDS: [&str; 3] = ["clear", "brief", "note"];

/// Every token, in the order of its number.
pub fn vocabulary() -> impl Iterator<Item = &'static str> {
    let parts: [&[&'static str]; 8] =
        [&MARKERS, &DIGITS, &NOUNS, &ANIMALS, &COLOURS, &TASK_WORDS, &ANSWER_WORDS, &JUDGMENT_WORDS];
    parts.into_iter().flatten().copied()
}

/// Whether a token is decoration: the spurious cue is how much of it an answer carries.
#[must_use]
pub fn is_fluff(token: &str) -> bool {
    OPENER.contains(&token) || CLOSING.contains(&token) || BULLET_WORDS.contains(&token) || token == BULLET
}

/// Whether a token is a mark and no word: `if` constraints count words only.
#[must_use]
pub fn is_mark(token: &str) -> bool {
    token == BULLET || token == "!"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_vocabulary_has_sixty_four_distinct_tokens() {
        assert_eq!(vocabulary().count(), 64);
        assert_eq!(vocabulary().collect::<BTreeSet<_>>().len(), 64);
    }
}
