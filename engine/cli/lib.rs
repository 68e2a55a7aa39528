//! plumb: the command line, a thin thing over the engine.

pub mod args;
pub mod demo;
pub mod drawing;
pub mod exit;
pub mod meter;
pub mod paint;
pub mod printer;
pub mod setup;
pub mod table;
pub mod units;
