//! Runs of whole pipelines through the engine: what ran, and why; what did not; what a failure leaves behind.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod depth;
mod failures;
mod house;
mod lineage;
mod plans;
mod programs;
mod together;
mod versions;
#[path = "../../examples/worker.rs"]
#[allow(dead_code, reason = "only its registry is used here")]
mod worker;
