//! Pure mathematics on slices: advantages, losses, rewards, returns, pass@k. No tensors, no files. Each is checked
//! against the vectors of its source; the tensor code of plumb-torch is tested against these.

pub mod grpo;
