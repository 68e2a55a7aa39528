//! The product through its binaries, and the house itself.

mod house;
mod setup;
