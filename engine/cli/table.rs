//! Tables of aligned columns for a terminal: two spaces between columns, numbers to the right, no frames, so that
//! they paste into a mail and into `awk`.

use crate::paint::{Paint, Tone};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Text in a tone.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone, right: false }
    }

    /// A number: aligned to the right.
    pub fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, right: true }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn laid_out(&self, width: usize, paint: Paint) -> String {
        let space = " ".repeat(width.saturating_sub(self.width()));
        let text = paint.text(self.tone, &self.text);
        if self.right { space + &text } else { text + &space }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Rows of cells under an optional header.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a header.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        let header = header.into_iter().map(|text| Cell::toned(Tone::Faint, text)).collect();
        Self { header, rows: Vec::new() }
    }

    /// Adds a row; a short one is filled with empty cells.
    pub fn row<T: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each indented, without blanks at their ends.
    pub fn lines(&self, indent: &str, paint: Paint) -> Vec<String> {
        let header = self.aligned_header();
        let widths = self.widths();
        let all = std::iter::once(&header).filter(|cells| !cells.is_empty()).chain(&self.rows);
        all.map(|cells| line(indent, cells, &widths, paint)).collect()
    }

    // A header stands over its column: to the right where every cell under it is a number.
    fn aligned_header(&self) -> Vec<Cell> {
        let number = |column: usize| self.rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.right));
        self.header.iter().enumerate().map(|(column, cell)| Cell { right: number(column), ..cell.clone() }).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        widths
    }
}

// The last cells of a line carry no padding: `last` is where the text ends.
fn line(indent: &str, cells: &[Cell], widths: &[usize], paint: Paint) -> String {
    let last = cells.iter().rposition(|cell| !cell.text.is_empty());
    let told = cells.iter().zip(widths).enumerate().take(last.map_or(0, |last| last + 1));
    let texts: Vec<String> = told
        .map(|(column, (cell, &width))| {
            let bare = Some(column) == last && !cell.right;
            cell.laid_out(if bare { 0 } else { width }, paint)
        })
        .collect();
    format!("{indent}{}", texts.join("  "))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_at_their_text() {
        let mut table = Table::new(["step", "took", "why"]);
        table.row([Cell::from("prep"), Cell::number("3 ms"), Cell::from("")]);
        table.row([Cell::from("train@seed=1"), Cell::number("12.0 s"), Cell::from("first run")]);
        expect![[r"
              step            took  why
              prep            3 ms
              train@seed=1  12.0 s  first run"]]
        .assert_eq(&table.lines("", Paint::OFF).join("\n"));
    }
}
