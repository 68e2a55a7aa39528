//! The product through its binaries, and the house itself.

mod harness;
mod house;
mod scenarios;
mod setup;
