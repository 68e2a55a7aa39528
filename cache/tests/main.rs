//! The promises of the store, each tested through its public functions and on real files.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test's helper is the report")]

mod bytes;
mod records;
mod support;
mod trees;
