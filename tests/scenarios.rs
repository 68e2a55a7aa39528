//! The product through its binary: write a pipeline, run `plumb`, assert what ran and what was said.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and says why")]

mod ablations;
mod artifacts;
mod borrowing;
mod branches;
mod buckets;
mod bundles;
mod cache_gc;
mod cache_results;
mod cache_verify;
mod causes;
mod checkpoints;
mod command_stages;
mod comparing;
mod detaching;
mod diagnostics;
mod diffing;
mod disowning;
mod distrusting;
mod editing;
mod estimates;
mod explaining;
mod exporting;
mod failures;
mod growing;
mod hub;
mod keys;
mod large;
mod layer_addresses;
mod locks;
mod people;
mod reading;
mod reruns;
mod resources;
mod runners;
mod sandbox;
mod secrets;
mod sharing;
mod sick_layers;
mod sources;
mod threats;
mod verifying;
mod watching;
mod web;
mod witnesses;
