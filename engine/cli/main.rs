//! The `plumb` program: the command line with the kinds of plumb-stages.

use std::process::ExitCode;

fn main() -> ExitCode {
    plumb::main(&plumb_stages::registry())
}
