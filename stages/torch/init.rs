//! `model.init`: a small random Llama and a word tokenizer made of its corpus. No tensor library takes part: the
//! draws are `sampling.rs`'s named numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use plumb_stages::train::source::InitParams;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Tensor;

use crate::config::Config;
use crate::sampling::uniform;
use crate::weights::{self, Part, Written};

/// Special tokens, in the order of their ids.
const SPECIAL: [&str; 4] = ["<pad>", "<bos>", "<eos>", "<unk>"];

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    completion: String,
}

/// Runs `model.init`.
pub fn run(params: &InitParams, io: &Io) -> Result<(), StageError> {
    let mut words: BTreeSet<String> = params.words.iter().cloned().collect();
    collect_words(io.input("corpus")?, &mut words)?;
    if let Some(path) = io.optional_input("more") {
        collect_words(path, &mut words)?;
    }
    let vocabulary = vocabulary(words);
    let config = config(params, vocabulary.len())?;
    let folder = io.output("model")?;
    std::fs::create_dir_all(folder).map_err(|error| StageError::file("create", folder, &error))?;
    config.write(folder)?;
    jsonl::write_json(&folder.join("tokenizer.json"), &tokenizer(&vocabulary))?;
    jsonl::write_json(&folder.join("tokenizer_config.json"), &tokenizer_config())?;
    jsonl::write_json(
        &folder.join("generation_config.json"),
        &json!({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
    )?;
    weights::write(&folder.join("model.safetensors"), &random_weights(params, &config))?;
    io.log(format!("{} words", vocabulary.len()));
    Ok(())
}

fn collect_words(path: &Path, words: &mut BTreeSet<String>) -> Result<(), StageError> {
    for row in jsonl::read::<Row>(path)? {
        let split = row.prompt.split_whitespace().chain(row.completion.split_whitespace());
        words.extend(split.map(str::to_string));
    }
    Ok(())
}

fn vocabulary(words: BTreeSet<String>) -> Vec<String> {
    let special = SPECIAL.map(str::to_string);
    let rest = words.into_iter().filter(|word| !SPECIAL.contains(&word.as_str()));
    special.into_iter().chain(rest).collect()
}

fn config(params: &InitParams, vocabulary: usize) -> Result<Config, StageError> {
    let document = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": params.hidden_size,
        "intermediate_size": params.intermediate_size,
        "num_hidden_layers": params.num_hidden_layers,
        "num_attention_heads": params.num_attention_heads,
        "num_key_value_heads": params.num_key_value_heads,
        "head_dim": params.hidden_size / params.num_attention_heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": params.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": params.rope_theta},
        "max_position_embeddings": params.max_position_embeddings,
        "tie_word_embeddings": params.tie_word_embeddings,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    });
    Config::from_json(document).map_err(StageError::new)
}

// Words apart by blanks; texts carry their special tokens, so nothing is added.
fn tokenizer(vocabulary: &[String]) -> Value {
    let ids: BTreeMap<&str, usize> = vocabulary.iter().map(String::as_str).zip(0..).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
    })
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    })
}

fn random_weights(params: &InitParams, config: &Config) -> BTreeMap<String, Written> {
    let sources = weights::parts(config)
        .into_iter()
        .flat_map(|part| part.sources(config).into_iter().map(move |(name, shape)| (part, name, shape)));
    let draw = |(tensor, (part, name, shape)): (u64, (Part, String, Vec<i64>))| {
        let size = shape.iter().product::<i64>() as u64;
        let spread = match part {
            _ if part.is_norm() => return (name, Written::from_values(&shape, &vec![1.0; size as usize])),
            Part::Embedding => params.embedding_range,
            _ => params.initializer_range.unwrap_or_else(|| (shape[1] as f64).sqrt().recip()),
        };
        let values: Vec<f32> = (0..size).map(|index| (spread * normal(params.seed, tensor, index)) as f32).collect();
        (name, Written::from_values(&shape, &values))
    };
    (0u64..).zip(sources).map(draw).collect()
}

/// A score head for a reward model: (1, hidden), standard normal over the root of the width.
pub fn score_head(seed: u64, hidden: i64) -> Tensor {
    let spread = (hidden as f64).sqrt().recip();
    let values: Vec<f32> = (0..hidden as u64).map(|index| (spread * normal(seed, 0, index)) as f32).collect();
    Tensor::from_slice(&values).view([1, hidden])
}

/// What PEFT and torch draw a new projection from: uniform within one over the root of its input's width.
pub fn kaiming(seed: u64, tensor: u64, shape: &[i64]) -> Tensor {
    let bound = (shape.last().copied().unwrap_or(1) as f64).sqrt().recip();
    let size = shape.iter().product::<i64>() as u64;
    let value = |index: u64| ((2.0 * uniform(seed, tensor, index, 2) - 1.0) * bound) as f32;
    Tensor::from_slice(&(0..size).map(value).collect::<Vec<f32>>()).view(shape)
}

// Box and Muller's cosine half.
fn normal(seed: u64, tensor: u64, index: u64) -> f64 {
    let (radius, angle) = (uniform(seed, tensor, index, 0), uniform(seed, tensor, index, 1));
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_standard_normal() {
        let values: Vec<f64> = (0..20_000).map(|index| normal(1, 2, index)).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn words_of_the_corpus_follow_the_special_tokens() {
        let words = ["<judge>", "red", "<eos>", "A"].map(str::to_string).into();
        assert_eq!(vocabulary(words), ["<pad>", "<bos>", "<eos>", "<unk>", "<judge>", "A", "red"]);
    }
}
