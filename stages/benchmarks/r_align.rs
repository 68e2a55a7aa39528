//! R-Align-BMK: pairs with gold judgments, under the published columns. Its scores are `bench.s-corr`'s own.

use std::collections::BTreeMap;

use super::row::Adapter;
use crate::data::pairs::format::{Columns, Format};

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::of_pairs("r-align", Format::RAlign, &Columns::default(), &BTreeMap::new())
}
