//! The worker program that runs model stages.

use plumb_engine::stage::Worker;

/// plumb-torch: found by `PLUMB_TORCH`, then beside `plumb`, then on PATH.
pub const TORCH: Worker = Worker::Program { name: "plumb-torch", variable: "PLUMB_TORCH", remedy: "plumb setup" };
