//! The miniature's tasks: four domains that mirror maths, code, instruction following and general knowledge. What a
//! task asks, and its one true answer; never what an answer says (that is `observe.rs`).

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::words::{ANIMALS, COLOURS, DIGITS, NOUNS};

/// The four domains, in the order of reports.
pub const DOMAINS: [&str; 4] = ["stem", "code", "if", "general"];

/// Arithmetic of the `stem` domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `sum a b`, with a sum of at most 9.
    Sum,
    /// `max a b`.
    Max,
    /// `min a b`.
    Min,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Sum, Self::Max, Self::Min];

    fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// One task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// `max 4 3`.
    Stem {
        /// What to do.
        operation: Operation,
        /// First operand.
        a: u8,
        /// Second operand.
        b: u8,
    },
    /// `x 4 y 7 swap print x`: two registers, exchanged or kept.
    Code {
        /// Value of `x`.
        x: u8,
        /// Value of `y`, another one.
        y: u8,
        /// Whether the registers are exchanged.
        swap: bool,
        /// Whether `x` is printed, or else `y`.
        print_x: bool,
    },
    /// `start apple`: the answer's first word.
    Start(&'static str),
    /// `end apple`: the answer's last word.
    End(&'static str),
    /// `count 3`: the number of the answer's words, 1 to 4.
    Count(u8),
    /// `cat red fox blue ask fox`: one of two stated facts.
    General {
        /// Two animals, each with its colour; no two equal.
        facts: [(&'static str, &'static str); 2],
        /// Which of the two is asked for.
        ask: usize,
    },
}

impl Task {
    /// A random task of a domain of [`DOMAINS`] (of `general`, for any other name).
    pub fn draw(domain: &str, random: &mut ChaCha8Rng) -> Self {
        match domain {
            "stem" => Self::draw_stem(random),
            "code" => Self::draw_code(random),
            "if" => match random.random_range(0..3_u8) {
                0 => Self::Start(pick(&NOUNS, random)),
                1 => Self::End(pick(&NOUNS, random)),
                _ => Self::Count(random.random_range(1..=4)),
            },
            _ => Self::draw_general(random),
        }
    }

    fn draw_stem(random: &mut ChaCha8Rng) -> Self {
        let operation = *Operation::ALL.choose(random).unwrap_or(&Operation::Sum);
        let a = random.random_range(0..=9);
        let most = if operation == Operation::Sum { 9 - a } else { 9 };
        Self::Stem { operation, a, b: random.random_range(0..=most) }
    }

    fn draw_code(random: &mut ChaCha8Rng) -> Self {
        let x = random.random_range(0..=9);
        let y = (x + random.random_range(1..=9)) % 10;
        Self::Code { x, y, swap: random.random(), print_x: random.random() }
    }

    fn draw_general(random: &mut ChaCha8Rng) -> Self {
        let animals = two(&ANIMALS, random);
        let colours = two(&COLOURS, random);
        let ask = random.random_range(0..2_u8).into();
        Self::General { facts: [(animals[0], colours[0]), (animals[1], colours[1])], ask }
    }

    /// How many different tasks the world has.
    #[must_use]
    pub fn count_all() -> usize {
        let sums = (0..10).map(|a| 10 - a).sum::<usize>();
        let stem = sums + 2 * 10 * 10;
        let code = 10 * 9 * 4;
        let constraints = 2 * NOUNS.len() + 4;
        let general = ANIMALS.len() * (ANIMALS.len() - 1) * COLOURS.len() * (COLOURS.len() - 1) * 2;
        stem + code + constraints + general
    }

    /// The task that a prompt states, if it states one.
    #[must_use]
    pub fn parse(prompt: &str) -> Option<Self> {
        let tokens: Vec<&str> = prompt.split_whitespace().collect();
        match tokens[..] {
            ["start", word] => Some(Self::Start(known(&NOUNS, word)?)),
            ["end", word] => Some(Self::End(known(&NOUNS, word)?)),
            ["count", n] => digit(n).filter(|n| (1..=4).contains(n)).map(Self::Count),
            [word, a, b] => Self::parse_stem(word, digit(a)?, digit(b)?),
            ["x", x, "y", y, how @ ("swap" | "keep"), "print", which @ ("x" | "y")] => {
                Some(Self::Code { x: digit(x)?, y: digit(y)?, swap: how == "swap", print_x: which == "x" })
                    .filter(|_| x != y)
            }
            [one, its, other, others, "ask", asked] => Self::parse_general([(one, its), (other, others)], asked),
            _ => None,
        }
    }

    fn parse_stem(word: &str, a: u8, b: u8) -> Option<Self> {
        let operation = Operation::ALL.into_iter().find(|operation| operation.word() == word)?;
        (operation != Operation::Sum || a + b <= 9).then_some(Self::Stem { operation, a, b })
    }

    fn parse_general(told: [(&str, &str); 2], asked: &str) -> Option<Self> {
        let fact = |(animal, colour)| Some((known(&ANIMALS, animal)?, known(&COLOURS, colour)?));
        let facts = [fact(told[0])?, fact(told[1])?];
        let ask = facts.iter().position(|(animal, _)| *animal == asked)?;
        (facts[0].0 != facts[1].0 && facts[0].1 != facts[1].1).then_some(Self::General { facts, ask })
    }

    /// The prompt: 2 to 7 tokens.
    #[must_use]
    pub fn prompt(&self) -> String {
        match *self {
            Self::Stem { operation, a, b } => format!("{} {a} {b}", operation.word()),
            Self::Code { x, y, swap, print_x } => {
                let how = if swap { "swap" } else { "keep" };
                format!("x {x} y {y} {how} print {}", register(print_x))
            }
            Self::Start(word) => format!("start {word}"),
            Self::End(word) => format!("end {word}"),
            Self::Count(n) => format!("count {n}"),
            Self::General { facts: [(one, its), (other, others)], ask } => {
                let asked = if ask == 0 { one } else { other };
                format!("{one} {its} {other} {others} ask {asked}")
            }
        }
    }

    /// The domain: one of [`DOMAINS`].
    #[must_use]
    pub fn domain(&self) -> &'static str {
        match self {
            Self::Stem { .. } => "stem",
            Self::Code { .. } => "code",
            Self::Start(_) | Self::End(_) | Self::Count(_) => "if",
            Self::General { .. } => "general",
        }
    }

    /// What decides: the operation, register, constraint or animal that a gold judgment names.
    #[must_use]
    pub fn factor(&self) -> &'static str {
        match *self {
            Self::Stem { operation, .. } => operation.word(),
            Self::Code { print_x, .. } => register(print_x),
            Self::Start(_) => "start",
            Self::End(_) => "end",
            Self::Count(_) => "count",
            Self::General { facts, ask } => facts[ask].0,
        }
    }

    /// The value that a right answer shows.
    #[must_use]
    pub fn truth(&self) -> &'static str {
        match *self {
            Self::Stem { operation: Operation::Sum, a, b } => number(a + b),
            Self::Stem { operation: Operation::Max, a, b } => number(a.max(b)),
            Self::Stem { operation: Operation::Min, a, b } => number(a.min(b)),
            Self::Code { x, y, swap, print_x } => number(if swap == print_x { y } else { x }),
            Self::Start(word) | Self::End(word) => word,
            Self::Count(n) => number(n),
            Self::General { facts, ask } => facts[ask].1,
        }
    }

    /// A value that a wrong answer shows: mostly the tempting one (the other operand, register or animal's colour).
    pub fn draw_wrong(&self, random: &mut ChaCha8Rng) -> &'static str {
        let tempted = random.random_bool(0.6);
        match *self {
            Self::Stem { a, b, .. } => {
                let others: Vec<_> =
                    [number(a), number(b)].into_iter().filter(|value| *value != self.truth()).collect();
                others.choose(random).filter(|_| tempted).copied().unwrap_or_else(|| near(self.truth(), 0..=9, random))
            }
            Self::Code { x, y, .. } if tempted => [number(x), number(y)][usize::from(number(x) == self.truth())],
            Self::Code { .. } => near(self.truth(), 0..=9, random),
            Self::Count(_) => near(self.truth(), 1..=5, random),
            Self::Start(word) | Self::End(word) => other(&NOUNS, word, random),
            Self::General { facts, ask } if tempted => facts[1 - ask].1,
            Self::General { .. } => other(&COLOURS, self.truth(), random),
        }
    }
}

fn register(is_x: bool) -> &'static str {
    if is_x { "x" } else { "y" }
}

fn number(value: u8) -> &'static str {
    DIGITS[usize::from(value % 10)]
}

fn digit(token: &str) -> Option<u8> {
    (0..10).find(|value| number(*value) == token)
}

fn known(list: &[&'static str], word: &str) -> Option<&'static str> {
    list.iter().copied().find(|candidate| *candidate == word)
}

/// One of a list that is never empty.
pub fn pick(list: &[&'static str], random: &mut ChaCha8Rng) -> &'static str {
    list[random.random_range(0..list.len() as u32) as usize]
}

fn other(list: &[&'static str], not: &str, random: &mut ChaCha8Rng) -> &'static str {
    loop {
        let word = pick(list, random);
        if word != not {
            return word;
        }
    }
}

fn two(list: &[&'static str], random: &mut ChaCha8Rng) -> [&'static str; 2] {
    let first = pick(list, random);
    [first, other(list, first, random)]
}

// One or two off, within the range: at least one such value exists for every truth.
fn near(truth: &str, range: std::ops::RangeInclusive<i8>, random: &mut ChaCha8Rng) -> &'static str {
    let truth = digit(truth).unwrap_or_default() as i8;
    loop {
        let step = random.random_range(1..=2_i8);
        let value = if random.random() { truth + step } else { truth - step };
        if range.contains(&value) {
            return number(value.unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_prompt_states_its_task_and_nothing_else() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for round in 0..2000 {
            let task = Task::draw(DOMAINS[round % 4], &mut random);
            assert_eq!(Task::parse(&task.prompt()), Some(task));
            assert_eq!(task.domain(), DOMAINS[round % 4]);
            assert!((2..=7).contains(&task.prompt().split(' ').count()));
            assert_ne!(task.draw_wrong(&mut random), task.truth());
        }
    }

    #[test]
    fn the_world_is_as_large_as_it_says() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let seen: std::collections::BTreeSet<_> =
            (0..40_000).map(|round| Task::draw(DOMAINS[round % 4], &mut random).prompt()).collect();
        assert_eq!(seen.len(), Task::count_all());
    }

    #[test]
    fn truths_are_true() {
        for (prompt, truth, factor) in [
            ("sum 4 3", "7", "sum"),
            ("max 4 3", "4", "max"),
            ("min 8 6", "6", "min"),
            ("x 8 y 5 keep print y", "5", "y"),
            ("x 8 y 5 swap print y", "8", "y"),
            ("x 8 y 5 swap print x", "5", "x"),
            ("start apple", "apple", "start"),
            ("count 3", "3", "count"),
            ("cat red fox blue ask fox", "blue", "fox"),
        ] {
            let task = Task::parse(prompt).expect(prompt);
            assert_eq!((task.truth(), task.factor()), (truth, factor), "{prompt}");
        }
    }

    #[test]
    fn what_is_no_task_is_refused() {
        for prompt in
            ["", "sum 9 9", "count 7", "x 1 y 1 swap print x", "cat red cat blue ask cat", "start cat", "max a b"]
        {
            assert_eq!(Task::parse(prompt), None, "{prompt}");
        }
    }
}
