//! plumb-torch: the only crate that names `tch`. Transformer, generation, optimiser, weights, and the model stages
//! that plumb-stages declares. Knows no pipeline and no cache.

pub mod adamw;
pub mod batch;
pub mod cache;
pub mod config;
pub mod device;
pub mod fused;
pub mod generate;
pub mod gguf;
pub mod head;
pub mod import;
pub mod init;
pub mod language_model;
pub mod learner;
pub mod lora;
pub mod losses;
pub mod memory;
pub mod pass;
pub mod preference;
pub mod rotary;
pub mod sampling;
pub mod stages;
pub mod step;
pub mod transformer;
pub mod value;
pub mod vocabulary;
pub mod weights;
