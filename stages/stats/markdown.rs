//! Markdown tables that read well as plain text: columns padded, numbers to the right.

/// A table with a head and rows of the same width.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The Markdown text. The first column stands to the left, the others to the right.
    pub fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        let width = |column: usize| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!(" {cell:<width$} "),
                _ => format!(" {cell:>width$} "),
            });
            format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
        };
        let rule = widths.iter().enumerate().map(|(column, width)| match column {
            0 => "-".repeat(width + 2),
            _ => format!("{}:", "-".repeat(width + 1)),
        });
        let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
        let mut lines = self.rows.iter().map(line);
        lines.next().into_iter().chain([rule]).chain(lines).collect()
    }
}

/// A number with three decimals; a dash where it is not known.
pub fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:.3}", value + 0.0))
}

/// A number with its sign.
pub fn signed(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:+.3}", value + 0.0))
}

/// Both ends, with signs.
pub fn range(interval: Option<super::bootstrap::Interval>) -> String {
    interval.map_or("–".into(), |ends| format!("[{}, {}]", signed(Some(ends.low)), signed(Some(ends.high))))
}

/// A probability: never shown as exactly 0.
pub fn probability(p: Option<f64>) -> String {
    match p {
        Some(p) if p < 0.001 => "<.001".into(),
        p => number(p),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_padded_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["branch", "S"]);
        table.row(["reward=label".into(), number(Some(0.5))]);
        table.row(["–".into(), probability(Some(0.0))]);
        expect![[r#"
            | branch       |     S |
            |--------------|------:|
            | reward=label | 0.500 |
            | –            | <.001 |
        "#]]
        .assert_eq(&table.render());
    }
}
