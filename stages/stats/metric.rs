//! What a named metric takes from an item row: every metric is a ratio of two sums, so that S-Corr, whose denominator
//! depends on the model, needs no rule of its own.

use super::items::ItemRow;

/// A metric by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// The name written in the pipeline, as `s_corr` or `exact_match`.
    pub name: String,
    field: String,
    spurious: bool,
}

impl Metric {
    /// `l_acc`, `s_corr` and `f_score` as `bench.s-corr` writes them; any other name is that value's mean.
    pub fn named(name: &str) -> Self {
        let field = match name {
            "l_acc" => "label_correct",
            "s_corr" => "spurious",
            "f_score" => "faithful",
            other => other,
        };
        Self { name: name.into(), field: field.into(), spurious: name == "s_corr" }
    }

    /// Whether it is S-Corr: Σ spurious / Σ label_correct.
    pub fn is_spurious_correctness(&self) -> bool {
        self.spurious
    }

    /// Whether the row has the value at all, known or not.
    pub fn in_row(&self, row: &ItemRow) -> bool {
        row.values.contains_key(&self.field)
    }

    /// What the item adds to (numerator, denominator); `None` where it is not known.
    pub fn parts(&self, row: &ItemRow) -> Option<(f64, f64)> {
        let value = known(row, &self.field)?;
        Some((value, if self.spurious { known(row, "label_correct")? } else { 1.0 }))
    }
}

fn known(row: &ItemRow, field: &str) -> Option<f64> {
    row.values.get(field).copied().flatten()
}
