//! The headline table as LaTeX (booktabs), Markdown or CSV, with a footnote of the digests that it was computed from.

use std::fmt::Write as _;

use super::headline::{Cell, Headline, SCORES};
use crate::stats::markdown::Table;

/// What marks the best of a column and what does not differ from it significantly, in Markdown.
const NOTE: &str = "the best of a column; † not significantly different from it (paired, Holm-adjusted within the \
                    column, level 0.05). Brackets: 95 % intervals";

impl Headline {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut table = Table::new(self.head().iter().map(|name| name.replace('|', "\\|")));
        for line in &self.branches {
            let cells = line.cells.iter().flatten().map(|cell| match text(cell) {
                None => "–".into(),
                Some(text) if cell.best => format!("**{text}**"),
                Some(text) => format!("{text}{}", if cell.close { "†" } else { "" }),
            });
            table.row(std::iter::once(line.branch.replace('|', "\\|")).chain(cells));
        }
        let digests = self.footnote(|name, digest| format!("`{name}` {digest}"));
        format!("{}\n**Bold** {NOTE}{}.\n\nComputed from {}.\n", table.render(), self.over(), digests)
    }

    /// As LaTeX, for `\usepackage{booktabs}`.
    pub fn latex(&self) -> String {
        let columns = "r".repeat(self.benchmarks.len() * SCORES.len());
        let mut text = String::from("% \\usepackage{booktabs}\n");
        let _ = writeln!(text, "\\begin{{tabular}}{{l{columns}}}\n\\toprule");
        let group = |name: &String| format!("\\multicolumn{{{}}}{{c}}{{{}}}", SCORES.len(), latex(name));
        let groups: Vec<String> = self.benchmarks.iter().map(group).collect();
        let _ = writeln!(text, "& {} \\\\", groups.join(" & "));
        for place in 0..self.benchmarks.len() {
            let first = 2 + place * SCORES.len();
            let _ = write!(text, "\\cmidrule(lr){{{first}-{}}}", first + SCORES.len() - 1);
        }
        let scores: Vec<&str> = self.benchmarks.iter().flat_map(|_| SCORES.map(|(_, name, _)| name)).collect();
        let _ = writeln!(text, "\nBranch & {} \\\\\n\\midrule", scores.join(" & "));
        for line in &self.branches {
            let cells: Vec<String> = line.cells.iter().flatten().map(latex_cell).collect();
            let _ = writeln!(text, "{} & {} \\\\", latex(&line.branch), cells.join(" & "));
        }
        let digests =
            self.footnote(|name, digest| format!("\\texttt{{{}}} \\texttt{{{}}}", latex(name), short(digest)));
        let width = 1 + self.benchmarks.len() * SCORES.len();
        let _ = write!(
            text,
            "\\bottomrule\n\\multicolumn{{{width}}}{{p{{\\linewidth}}}}{{\\footnotesize Bold: {}{}. Computed from {}.}}\n\
             \\end{{tabular}}\n",
            NOTE.replace('†', "$^{\\dagger}$").replace('%', "\\%"),
            self.over(),
            digests
        );
        for (name, digest) in &self.digests {
            let _ = writeln!(text, "% {} {digest}", name.replace(['\n', '\r'], " "));
        }
        text
    }

    /// As CSV, a row for each branch, benchmark and score; the digests stand in lines of their own that begin with `#`.
    pub fn csv(&self) -> String {
        let mut text =
            String::from("branch,benchmark,metric,value,low,high,best,not_significantly_different,p_holm,coverage\n");
        for line in &self.branches {
            for (benchmark, cells) in self.benchmarks.iter().zip(&line.cells) {
                for (cell, (metric, _, _)) in cells.iter().zip(SCORES) {
                    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
                    let fields = [
                        quoted(&line.branch),
                        quoted(benchmark),
                        metric.into(),
                        number(cell.value),
                        number(cell.low),
                        number(cell.high),
                        cell.best.to_string(),
                        cell.close.to_string(),
                        number(cell.p),
                        number(cell.coverage),
                    ];
                    text += &fields.join(",");
                    text.push('\n');
                }
            }
        }
        for (name, digest) in &self.digests {
            let _ = writeln!(text, "# {} {digest}", name.replace(['\n', '\r'], " "));
        }
        text
    }

    fn head(&self) -> Vec<String> {
        let of = |benchmark: &String| SCORES.map(|(_, name, _)| format!("{benchmark} {name}"));
        std::iter::once("branch".to_owned()).chain(self.benchmarks.iter().flat_map(of)).collect()
    }

    /// What the intervals are about.
    pub fn over(&self) -> &'static str {
        if self.replicated { ", over seeds" } else { " of the items of one seed, which say nothing of other seeds" }
    }

    fn footnote(&self, one: impl Fn(&str, &str) -> String) -> String {
        let all: Vec<String> = self.digests.iter().map(|(name, digest)| one(name, digest)).collect();
        if all.is_empty() { "results without digests".into() } else { all.join(", ") }
    }
}

fn text(cell: &Cell) -> Option<String> {
    let value = cell.value?;
    Some(match (cell.low, cell.high) {
        (Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        _ => format!("{value:.3}"),
    })
}

fn latex_cell(cell: &Cell) -> String {
    match text(cell) {
        None => "--".into(),
        Some(text) if cell.best => format!("\\textbf{{{text}}}"),
        Some(text) => format!("{text}{}", if cell.close { "$^{\\dagger}$" } else { "" }),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn quoted(text: &str) -> String {
    // A spreadsheet takes a cell that begins so for a formula.
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn latex(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' => "\\textbackslash{}".into(),
        '~' => "\\textasciitilde{}".into(),
        '^' => "\\textasciicircum{}".into(),
        '·' => "$\\cdot$".into(),
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{letter}"),
        letter if letter.is_control() => " ".into(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests;
