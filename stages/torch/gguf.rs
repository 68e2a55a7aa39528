//! A GGUF file as a Hugging Face model folder: tensors dequantised and under HF's names, `config.json`, and the
//! tokenizer rebuilt from the file's vocabulary. What the header says is `gguf/header.rs`'s matter, the tokenizer
//! `gguf/tokenizer.rs`'s.

mod contents;
mod header;
mod tokenizer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use plumb_engine::stage::StageError;
use plumb_stages::jsonl;

use crate::config::Config;
use crate::weights::{self, Part, Written};
use contents::Contents;
use header::Header;

/// Reads the file and writes the folder.
pub fn import(path: &Path, folder: &Path) -> Result<(), StageError> {
    let told = |problem: &dyn std::fmt::Display| StageError::file("read", path, problem);
    let file = File::open(path).map_err(|error| told(&error))?;
    // SAFETY: the cache's blobs are read-only and never rewritten in place, and a step's inputs are sealed.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| StageError::file("map", path, &error))?;
    let contents = Contents::read(&map).map_err(|problem| told(&problem))?;
    let header = Header(&contents.metadata);
    let config = header.config(&contents).map_err(|problem| told(&problem))?;
    let tokenizer = header.tokenizer().map_err(|problem| told(&problem))?;
    let tensors = tensors(path, &contents, &config)?;
    weights::write(&folder.join("model.safetensors"), &tensors)?;
    config.write(folder)?;
    jsonl::write_json(&folder.join("tokenizer.json"), &tokenizer)?;
    jsonl::write_json(&folder.join("tokenizer_config.json"), &header.tokenizer_config())?;
    jsonl::write_json(&folder.join("generation_config.json"), &header.generation_config())
}

fn tensors(path: &Path, contents: &Contents, config: &Config) -> Result<BTreeMap<String, Written>, StageError> {
    let (mut named, mut read) = (BTreeMap::new(), BTreeSet::from([header::ROPE_FACTORS.to_string()]));
    // llama.cpp turns neighbouring rows in this architecture alone: its converter interleaved them.
    let interleaved = config.family.gguf == "llama";
    for part in weights::parts(config) {
        for (index, (name, shape)) in part.sources(config).into_iter().enumerate() {
            let told = |problem: String| StageError::file("read", path, &format!("tensor `{name}`: {problem}"));
            let short = short_name(part, index, &name);
            let mut values = contents.tensor(&short, &shape).map_err(told)?;
            if interleaved && matches!(part, Part::Qkv(_) | Part::QkvBias(_)) && index < 2 {
                let columns = shape.get(1).map_or(1, |columns| *columns as usize);
                values = pairs_apart(&values, config.head_dim as usize, columns);
            }
            if part.is_norm() && config.norm_offset != 0.0 {
                // llama.cpp's files hold what the stream is multiplied by.
                values.iter_mut().for_each(|value| *value -= config.norm_offset as f32);
            }
            named.insert(name, Written::from_values(&shape, &values));
            read.insert(short);
        }
    }
    match contents.names().find(|name| !read.contains(*name)) {
        None => Ok(named),
        Some(left) => {
            let problem = format!("tensor `{left}` has no place in a {} model", config.family.model_type);
            Err(StageError::file("read", path, &problem))
        }
    }
}

fn short_name(part: Part, index: usize, name: &str) -> String {
    let member = match part {
        Part::Embedding => return "token_embd.weight".into(),
        Part::FinalNorm => return "output_norm.weight".into(),
        Part::Head => return "output.weight".into(),
        // In no GGUF file: training makes it.
        Part::Score | Part::LoraA(..) | Part::LoraB(..) => return name.to_string(),
        Part::AttentionNorm(_) => "attn_norm",
        Part::Qkv(_) | Part::QkvBias(_) => ["attn_q", "attn_k", "attn_v"][index],
        Part::HeadNorms(_) => ["attn_q_norm", "attn_k_norm"][index],
        Part::AttentionOut(_) | Part::AttentionOutBias(_) => "attn_output",
        Part::AfterAttention(_) => "post_attention_norm",
        Part::FeedNorm(_) => "ffn_norm",
        Part::GateUp(_) | Part::GateUpBias(_) => ["ffn_gate", "ffn_up"][index],
        Part::Down(_) | Part::DownBias(_) => "ffn_down",
        Part::AfterFeed(_) => "post_ffw_norm",
    };
    let (layer, kind) = (part.layer().unwrap_or_default(), name.rsplit('.').next().unwrap_or_default());
    format!("blk.{layer}.{member}.{kind}")
}

// GGUF keeps the members of a rotary pair in neighbouring rows, HF in the two halves of a head.
fn pairs_apart(values: &[f32], head: usize, columns: usize) -> Vec<f32> {
    let row = |index: usize| {
        let (first, within) = (index / head * head, index % head);
        let source = first + 2 * (within % (head / 2)) + within / (head / 2);
        &values[source * columns..(source + 1) * columns]
    };
    (0..values.len() / columns).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_taken_apart_within_each_head() {
        // Two heads of four rows, one column: pair i of a head is (i, i + 2) in HF's order.
        let stored = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        assert_eq!(pairs_apart(&stored, 4, 1), [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    }
}
