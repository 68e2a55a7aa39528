//! The product through its binaries, and the house itself.

mod faults;
mod harness;
mod house;
mod scenarios;
mod servers;
mod setup;
