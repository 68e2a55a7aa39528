//! Servers on loopback that the scenarios ask: a web server with faults, a hub as its HTTP API documents it, S3,
//! a judge with faults, a real language model, and a bad line.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

pub mod gate;
pub mod hub;
pub mod judge;
pub mod line;
pub mod llama;
pub mod python;
pub mod s3;
pub mod web;
