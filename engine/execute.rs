//! Running: from a plan to published results.

pub mod child;
pub mod executor;
pub mod local;
pub mod slots;
pub mod stop;
