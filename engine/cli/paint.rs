//! Colour, where the reader wants it: a terminal, and no `NO_COLOR`. Everything reads the same without it.

use std::io::IsTerminal;

/// What a piece of text is, which decides how it is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// A heading or a name.
    Strong,
    /// Of lesser weight.
    Faint,
    /// Went well.
    Good,
    /// Wants attention.
    Warn,
    /// Went wrong.
    Bad,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

/// Whether one stream takes colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colour at all.
    pub const OFF: Self = Self { on: false };

    /// Colour if the stream is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: stream.is_terminal() && !refused }
    }

    /// The text in its tone.
    pub fn text(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.on) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_wraps_the_text_only_where_it_is_on() {
        assert_eq!(Paint::OFF.text(Tone::Bad, "error"), "error");
        assert_eq!(Paint { on: true }.text(Tone::Bad, "error"), "\u{1b}[1;31merror\u{1b}[0m");
        assert_eq!(Paint { on: true }.text(Tone::Plain, "text"), "text");
    }
}
