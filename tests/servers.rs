//! Servers on loopback that the scenarios ask: a web server with faults, a hub as its HTTP API documents it, S3,
//! and a bad line to it.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

pub mod gate;
pub mod hub;
pub mod line;
pub mod python;
pub mod s3;
pub mod web;
