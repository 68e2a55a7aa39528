//! The `plumb` program: the command line with the kinds of plumb-stages.

use std::process::ExitCode;

/// A pipeline is millions of small pieces, made once and dropped once: with the system's allocator a
/// run that does nothing took a third longer (10,000 stages: 270 ms of CPU against 200, mimalloc preloaded).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    plumb::main(&plumb_stages::registry())
}
