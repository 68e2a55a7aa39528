//! The promises of the store, each tested through its public functions and on real files.

#![allow(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "helper processes talk to their tests, skips to people")]

mod bundles;
mod bytes;
mod collecting;
mod collecting_layers;
mod crashes;
mod damage;
mod disks;
mod disown;
mod fetched;
mod hostile;
mod layers;
mod marks;
mod mutations;
mod packs;
mod pushes;
mod records;
mod segments;
mod signed;
mod support;
mod trees;
mod trust;
mod verifying;
