//! Pure mathematics on slices: advantages, losses, rewards, returns, pass@k. No tensors, no files. Each is checked
//! against the vectors of its source; the tensor code of plumb-torch is tested against these.

pub mod aggregate;
pub mod ap;
pub mod clipping;
pub mod divergence;
pub mod gae;
pub mod grpo;
pub mod length;
pub mod pass_at_k;
pub mod ppo;
pub mod preference;
pub mod reward;
pub mod supervised;
