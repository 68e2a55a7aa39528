//! The only file that prints. Data goes to stdout, all else to stderr. A reader that went away (`plumb log | head`)
//! is no error; data that could not be written otherwise is. Progress bars share stderr with the notes, so notes are
//! told through them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::paint::{Paint, Tone};
use crate::table::Table;

/// Where all text goes.
#[derive(Debug, Clone)]
pub struct Printer {
    data: Paint,
    notes: Paint,
    bars: Option<MultiProgress>,
    /// Why data did not reach stdout, once that happened.
    lost: Arc<OnceLock<String>>,
}

impl Default for Printer {
    fn default() -> Self {
        Self::new()
    }
}

impl Printer {
    /// A printer for this process's own streams.
    pub fn new() -> Self {
        let live = io::stderr().is_terminal();
        let bars = live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { bars, ..Self::plain() }
    }

    /// A printer without bars.
    pub fn plain() -> Self {
        Self { data: Paint::of(&io::stdout()), notes: Paint::of(&io::stderr()), bars: None, lost: Arc::default() }
    }

    /// The progress bars, where stderr is a terminal.
    pub fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Colour of what goes to stdout.
    pub fn data_paint(&self) -> Paint {
        self.data
    }

    /// Colour of what goes to stderr.
    pub fn note_paint(&self) -> Paint {
        self.notes
    }

    /// A line (or several) of data.
    pub fn data(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Bytes of data as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        let write = || io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush());
        if let Err(error) = self.aside(write)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let _ = self.lost.set(error.to_string());
        }
    }

    /// Why data did not reach stdout, if that happened.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// One JSON value on one line: for streams.
    pub fn json_line(&self, value: &impl Serialize) {
        self.data(&serde_json::to_string(value).expect("what plumb prints has text keys only"));
    }

    /// One JSON value for people and machines: indented.
    pub fn json(&self, value: &impl Serialize) {
        self.data(&serde_json::to_string_pretty(value).expect("what plumb prints has text keys only"));
    }

    /// A table of data.
    pub fn table(&self, table: &Table) {
        for line in table.lines("", self.data) {
            self.data(&line);
        }
    }

    /// A line (or several) for people.
    pub fn note(&self, text: &str) {
        // Nobody is left to tell that stderr cannot be written.
        let _ = self.aside(|| writeln!(io::stderr().lock(), "{text}"));
    }

    /// A table for people.
    pub fn note_table(&self, table: &Table) {
        for line in table.lines("  ", self.notes) {
            self.note(&line);
        }
    }

    /// `warning: …`.
    pub fn warning(&self, message: &str) {
        self.note(&format!("{} {message}", self.notes.text(Tone::Warn, "warning:")));
    }

    /// `error: …`, then `hint: …`.
    pub fn error(&self, message: &str, hint: Option<&str>) {
        self.note(&format!("{} {message}", self.notes.text(Tone::Bad, "error:")));
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// `hint: …`; further lines of it stand under the first.
    pub fn hint(&self, hint: &str) {
        let hint = hint.trim_end().replace('\n', "\n      ");
        self.note(&format!("{} {hint}", self.notes.text(Tone::Good, "hint:")));
    }

    /// Asks a yes-or-no question on the terminal; no terminal, no yes.
    pub fn ask(&self, question: &str) -> bool {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return false;
        }
        let _ = write!(io::stderr().lock(), "{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}
