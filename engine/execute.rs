//! Running: from a plan to published results.

pub mod child;
