//! How the miniature's answers are written and read: a body that shows a value, fluff around it, and the value that
//! a reader observes. Never which of two answers is better (`pair.rs`).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::task::{Task, pick};
use super::words::{BULLET, BULLET_WORDS, CLOSING, NOUNS, OPENER, is_fluff, is_mark};

/// What a reader sees where an answer shows no value.
pub const NONE: &str = "none";

/// Which decorations an answer carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fluff {
    /// `sure !` before the body.
    pub opener: bool,
    /// One or two bullets after the body (before each word, where words are counted).
    pub bullets: bool,
    /// `hope this helps` at the end.
    pub closing: bool,
}

impl Fluff {
    /// Up to `level` random decorations that do not break the task's constraint.
    pub fn draw(task: &Task, level: usize, random: &mut ChaCha8Rng) -> Self {
        let mut free = match task {
            Task::Start(_) => vec![Segment::Bullets, Segment::Closing],
            Task::End(_) => vec![Segment::Opener],
            Task::Count(_) => vec![Segment::Bullets],
            _ => vec![Segment::Opener, Segment::Bullets, Segment::Closing],
        };
        let mut fluff = Self::default();
        for _ in 0..level.min(free.len()) {
            match free.swap_remove(random.random_range(0..free.len() as u32) as usize) {
                Segment::Opener => fluff.opener = true,
                Segment::Bullets => fluff.bullets = true,
                Segment::Closing => fluff.closing = true,
            }
        }
        fluff
    }
}

enum Segment {
    Opener,
    Bullets,
    Closing,
}

/// An answer without decoration that shows `value`.
pub fn draw_body(task: &Task, value: &'static str, random: &mut ChaCha8Rng) -> Vec<&'static str> {
    let filler = random.random_range(1..=2_usize);
    let mut words = |count: usize| -> Vec<_> { (0..count).map(|_| pick(&NOUNS, random)).collect() };
    match task {
        Task::Stem { .. } => vec!["ans", value],
        Task::Code { .. } | Task::General { .. } => vec![task.factor(), value],
        Task::Start(_) => [vec![value], words(filler)].concat(),
        Task::End(_) => [words(filler), vec![value]].concat(),
        Task::Count(_) => words(value.parse().unwrap_or_default()),
    }
}

/// The body with its decorations around it.
pub fn decorate(task: &Task, body: &[&'static str], fluff: Fluff, random: &mut ChaCha8Rng) -> String {
    let mut tokens: Vec<&str> = Vec::with_capacity(14);
    if fluff.opener {
        tokens.extend(OPENER);
    }
    if fluff.bullets && matches!(task, Task::Count(_)) {
        tokens.extend(body.iter().flat_map(|word| [BULLET, word]));
    } else {
        tokens.extend(body);
    }
    if fluff.bullets && !matches!(task, Task::Count(_)) {
        for _ in 0..random.random_range(1..=2_u8) {
            tokens.extend([BULLET, pick(&BULLET_WORDS, random)]);
        }
    }
    if fluff.closing {
        tokens.extend(CLOSING);
    }
    tokens.join(" ")
}

/// A task's answer by a mediocre writer: right with the given chance, with `level` decorations.
pub fn draw_mediocre(task: &Task, right: f64, level: usize, random: &mut ChaCha8Rng) -> String {
    let value = if random.random_bool(right) { task.truth() } else { task.draw_wrong(random) };
    let body = draw_body(task, value, random);
    let fluff = Fluff::draw(task, level, random);
    decorate(task, &body, fluff, random)
}

/// The value that an answer shows: the first word, the last word, the number of words, or else the token after the
/// last key (`ans`, the register, the animal); [`NONE`] where there is none.
#[must_use]
pub fn observe(task: &Task, answer: &str) -> String {
    let mut words = answer.split_whitespace().filter(|token| !is_mark(token));
    let seen = match task {
        Task::Start(_) => words.next(),
        Task::End(_) => words.next_back(),
        Task::Count(_) => return words.count().to_string(),
        Task::Stem { .. } => after_last_key(answer, "ans"),
        Task::Code { .. } | Task::General { .. } => after_last_key(answer, task.factor()),
    };
    seen.unwrap_or(NONE).to_string()
}

fn after_last_key<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    let tokens: Vec<&str> = answer.split_whitespace().collect();
    let at = tokens.iter().rposition(|token| *token == key)?;
    tokens.get(at + 1).copied()
}

/// Whether an answer is right: the miniature's checker.
#[must_use]
pub fn is_right(task: &Task, answer: &str) -> bool {
    observe(task, answer) == task.truth()
}

/// How many tokens of an answer are decoration.
#[must_use]
pub fn count_fluff(answer: &str) -> usize {
    answer.split_whitespace().filter(|token| is_fluff(token)).count()
}

/// Whether an answer has bullets.
#[must_use]
pub fn has_bullets(answer: &str) -> bool {
    answer.split_whitespace().any(|token| token == BULLET)
}

/// Whether an answer opens or closes politely.
#[must_use]
pub fn is_polite(answer: &str) -> bool {
    answer.split_whitespace().any(|token| OPENER[0] == token || CLOSING.contains(&token))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::task::DOMAINS;
    use super::*;

    #[test]
    fn observed_values_follow_the_rules() {
        for (prompt, answer, seen) in [
            ("max 4 3", "sure ! ans 4 * clear hope this helps", "4"),
            ("max 4 3", "ans 3 ans 4", "4"),
            ("max 4 3", "ans", "none"),
            ("max 4 3", "sure ! hope this helps", "none"),
            ("x 8 y 5 keep print y", "y 8", "8"),
            ("start apple", "sure ! apple river", "sure"),
            ("start apple", "* apple river", "apple"),
            ("end apple", "river apple hope this helps", "helps"),
            ("end apple", "", "none"),
            ("count 3", "* apple * river * bird", "3"),
            ("count 1", "sure ! apple", "2"),
            ("cat red fox blue ask fox", "fox blue * note", "blue"),
        ] {
            let task = Task::parse(prompt).expect(prompt);
            assert_eq!(observe(&task, answer), seen, "{prompt} | {answer}");
        }
    }

    #[test]
    fn decoration_never_changes_what_a_mediocre_answer_shows() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for round in 0..4000 {
            let task = Task::draw(DOMAINS[round % 4], &mut random);
            let level = round % 5;
            let right = draw_mediocre(&task, 1.0, level, &mut random);
            assert!(is_right(&task, &right), "{} | {right}", task.prompt());
            assert_eq!(count_fluff(&right) > 0, level > 0, "{right}");
            assert!(right.split(' ').count() <= 11, "{right}");
            assert!(!is_right(&task, &draw_mediocre(&task, 0.0, level, &mut random)));
        }
    }
}
