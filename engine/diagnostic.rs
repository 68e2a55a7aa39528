//! What is wrong with a pipeline file or a command line: the sentence, the place, the hint; as text with a caret
//! under the very token, and as data. Never prints: the command line does.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Columns that a tab takes in the excerpt.
const TAB: &str = "    ";

/// Whether it stops the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The pipeline or the command line is wrong.
    Error,
    /// Probably a slip; nothing stops.
    Warning,
}

/// A place in a file, with the line it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// How many characters of the line the token takes; at least 1.
    pub width: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong; lowercase, no full stop, names in backticks.
    pub message: String,
    /// Byte range in the pipeline file; `None` for the command line.
    pub span: Option<Range<usize>>,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// What to type or to change.
    pub hint: Option<String>,
    /// The span's place, once [`Diagnostic::locate`] has seen the file's text.
    pub place: Option<Box<Place>>,
}

impl Diagnostic {
    /// An error at a place of the pipeline file.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::new(message) }
    }

    /// An error without a place in a file: of the command line, or of a file that cannot be read.
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, message, span: None, label: None, hint: None, place: None }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// With a word beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With a hint, where there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether it stops the command.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Finds the span's line and column, so that the diagnostic can be shown without the file.
    #[must_use]
    pub fn locate(mut self, file: &Path, text: &str) -> Self {
        self.place = self.span.clone().map(|span| Box::new(place(file, text, &span)));
        self
    }

    /// The text for people; ends in a newline.
    pub fn render(&self) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut shown = format!("{word}: {}\n", self.message);
        if let Some(place) = &self.place {
            render_place(&mut shown, place, self.label.as_deref());
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(shown, "hint: {hint}");
        }
        shown
    }
}

/// All that is wrong, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.render())]
pub struct Diagnostics {
    /// At least one of them is an error.
    pub diagnostics: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Places each in the file, sorts them by place and keeps the first of those that say the same of one place.
    pub fn located(mut diagnostics: Vec<Diagnostic>, file: &Path, text: &str) -> Self {
        diagnostics.sort_by_key(|one| one.span.as_ref().map_or((0, 0), |span| (span.start, span.end)));
        diagnostics.dedup_by(|later, first| later.span == first.span && later.message == first.message);
        Self { diagnostics: diagnostics.into_iter().map(|one| one.locate(file, text)).collect() }
    }

    /// The text for people: one after the other, a blank line between them.
    pub fn render(&self) -> String {
        let shown: Vec<String> = self.diagnostics.iter().map(Diagnostic::render).collect();
        shown.join("\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self { diagnostics: vec![one] }
    }
}

/// Spans beyond the text, or within a character, are moved back: a wrong span must not hide the message.
fn place(file: &Path, text: &str, span: &Range<usize>) -> Place {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.max(start));
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let shown_end = end.min(line_start + line.len()).max(start);
    Place {
        file: file.to_path_buf(),
        line: text[..line_start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        text: line.to_string(),
        width: text[start..shown_end].chars().count().max(1),
    }
}

fn render_place(shown: &mut String, place: &Place, label: Option<&str>) {
    let Place { file, line, column, text, width } = place;
    let gutter = " ".repeat(line.to_string().len());
    let before: usize = text.chars().take(column - 1).map(columns).sum();
    let under: usize = text.chars().skip(column - 1).take(*width).map(columns).sum();
    let line_text: String = text.chars().map(visible).collect();
    let carets = format!("{}{} {}", " ".repeat(before), "^".repeat(under.max(1)), label.unwrap_or_default());
    let _ = writeln!(shown, "{gutter}--> {}:{line}:{column}", file.display());
    let _ = writeln!(shown, "{gutter} |");
    let _ = writeln!(shown, "{}", format!("{line} | {line_text}").trim_end());
    let _ = writeln!(shown, "{}", format!("{gutter} | {carets}").trim_end());
}

/// A character as the excerpt shows it: a tab as spaces, other control characters as a dot.
fn visible(character: char) -> String {
    match character {
        '\t' => TAB.into(),
        control if control.is_control() => '·'.into(),
        other => other.into(),
    }
}

/// Columns that a terminal gives a character: two for East Asian wide ones and emoji, none for combining marks.
fn columns(character: char) -> usize {
    match u32::from(character) {
        0x09 => TAB.len(),
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, token: &str, expect: Expect) {
        let start = text.find(token).unwrap();
        let one =
            Diagnostic::at(start..start + token.len(), "what is wrong").label("here").hint("try `that`".to_string());
        expect.assert_eq(&one.locate(Path::new("a.toml"), text).render());
    }

    #[test]
    fn the_caret_is_under_the_very_token() {
        check(
            "schema = 1\nname = \"x\"\n",
            "\"x\"",
            expect![[r#"
                error: what is wrong
                 --> a.toml:2:8
                  |
                2 | name = "x"
                  |        ^^^ here
                hint: try `that`
            "#]],
        );
    }

    #[test]
    fn tabs_and_wide_characters_keep_the_caret_in_its_column() {
        check(
            "\tname = [\"漢字\", \"é\", \"x\"]",
            "\"x\"",
            expect![[r#"
                error: what is wrong
                 --> a.toml:1:21
                  |
                1 |     name = ["漢字", "é", "x"]
                  |                          ^^^ here
                hint: try `that`
            "#]],
        );
    }

    #[test]
    fn a_token_of_several_lines_is_marked_to_the_end_of_its_first() {
        check(
            "a = [1,\r\n2]",
            "[1,\r\n2]",
            expect![[r#"
                error: what is wrong
                 --> a.toml:1:5
                  |
                1 | a = [1,
                  |     ^^^ here
                hint: try `that`
            "#]],
        );
    }

    #[test]
    fn a_span_beyond_the_text_still_shows_the_message() {
        let one = Diagnostic::at(90..95, "what is wrong").warning().locate(Path::new("a.toml"), "é");
        expect![[r#"
            warning: what is wrong
             --> a.toml:1:2
              |
            1 | é
              |  ^
        "#]]
        .assert_eq(&one.render());
    }

    #[test]
    fn the_command_line_has_no_place() {
        let one = Diagnostic::new("unknown profile `smok`").hint("did you mean `smoke`?".to_string());
        expect![[r#"
            error: unknown profile `smok`
            hint: did you mean `smoke`?
        "#]]
        .assert_eq(&one.render());
    }
}
