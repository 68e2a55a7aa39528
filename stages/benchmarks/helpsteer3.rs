//! HelpSteer3-Preference: the sign of `overall_preference` decides, 0 is a tie and left out; the annotators' reasons are
//! the gold judgment.

use std::collections::BTreeMap;

use super::row::Adapter;
use crate::data::pairs::format::{Columns, Format};

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::of_pairs("helpsteer3", Format::Helpsteer3, &Columns::default(), &BTreeMap::new())
}
