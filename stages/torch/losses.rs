//! Losses over a row of completion tokens, each as an objective of the head's pass ([`crate::head`]), under TRL's
//! definitions.

pub mod bradley_terry;
pub mod cross_entropy;
pub mod dpo;
pub mod grpo;
pub mod ppo;
