//! Judges behind a remote service: questions with everything that decides the answer, the client that asks them, and
//! the kinds that do. Local judges are `train/judge.rs`; rules are `judging/meta.rs`.

pub mod client;
mod pace;
mod pairs;
pub mod question;
pub mod reply;

use plumb_engine::stage::Registry;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<pairs::JudgePairs>()
}
