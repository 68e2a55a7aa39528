//! plumb: the command line, a thin thing over the engine.

pub mod args;
pub mod drawing;
pub mod exit;
pub mod meter;
pub mod paint;
pub mod printer;
pub mod table;
pub mod units;
