//! A GGUF file of the llama architecture as a Hugging Face model folder: tensors dequantised and under HF's names,
//! `config.json`, and the tokenizer rebuilt from the file's vocabulary and merges.

mod contents;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::weights::{self, Written};
use contents::Contents;

/// Reads the file and writes the folder.
pub fn import(path: &Path, folder: &Path) -> Result<(), StageError> {
    let told = |problem: &dyn std::fmt::Display| StageError::file("read", path, problem);
    let file = File::open(path).map_err(|error| told(&error))?;
    // SAFETY: the cache's blobs are read-only and never rewritten in place, and a step's inputs are sealed.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| StageError::file("map", path, &error))?;
    let contents = Contents::read(&map).map_err(|problem| told(&problem))?;
    let header = Header(&contents.metadata);
    let config = header.config(!contents.has("output.weight")).map_err(|problem| told(&problem))?;
    let tokenizer = header.tokenizer().map_err(|problem| told(&problem))?;
    let tensors = tensors(path, &contents, &config)?;
    weights::write(&folder.join("model.safetensors"), &tensors)?;
    config.write(folder)?;
    jsonl::write_json(&folder.join("tokenizer.json"), &tokenizer)?;
    jsonl::write_json(&folder.join("tokenizer_config.json"), &header.tokenizer_config())?;
    jsonl::write_json(&folder.join("generation_config.json"), &header.generation_config())
}

fn tensors(path: &Path, contents: &Contents, config: &Config) -> Result<BTreeMap<String, Written>, StageError> {
    let mut named = BTreeMap::new();
    for part in weights::parts(config) {
        for (name, shape) in part.sources(config) {
            let told = |problem: String| StageError::file("read", path, &format!("tensor `{name}`: {problem}"));
            let short = short_name(&name).ok_or_else(|| told("has no GGUF name".into()))?;
            let mut values = contents.tensor(&short, &shape).map_err(told)?;
            if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") {
                values = pairs_apart(&values, config.head_dim as usize, config.hidden_size as usize);
            }
            named.insert(name, Written::from_values(&shape, &values));
        }
    }
    Ok(named)
}

fn short_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.into());
    }
    let (layer, member) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let member = match member.strip_suffix(".weight")? {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{member}.weight"))
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

// The file's metadata.
struct Header<'a>(&'a BTreeMap<String, Value>);

impl Header<'_> {
    fn text(&self, key: &str) -> Result<&str, String> {
        self.0.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` is missing"))
    }

    fn integer(&self, key: &str) -> Result<i64, String> {
        self.0.get(key).and_then(Value::as_i64).ok_or_else(|| format!("`{key}` is missing"))
    }

    fn list(&self, key: &str) -> Result<&Vec<Value>, String> {
        self.0.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{key}` is missing"))
    }

    // Stored as f32: the shortest decimal that reads back as it, so that 1e-5 is written so.
    fn number(&self, key: &str, default: f64) -> f64 {
        let stored = self.0.get(key).and_then(Value::as_f64);
        stored.map_or(default, |stored| (stored as f32).to_string().parse().unwrap_or(stored))
    }

    fn config(&self, tied: bool) -> Result<Config, String> {
        let architecture = self.text("general.architecture")?;
        if architecture != "llama" {
            return Err(format!("`general.architecture` is \"{architecture}\": only \"llama\" is supported"));
        }
        if let Some(kind) = self.0.get("llama.rope.scaling.type").and_then(Value::as_str).filter(|kind| *kind != "none")
        {
            return Err(format!("`llama.rope.scaling.type` is \"{kind}\": only \"none\" is supported"));
        }
        let (hidden, heads) = (self.integer("llama.embedding_length")?, self.integer("llama.attention.head_count")?);
        let rope_theta = self.number("llama.rope.freq_base", 10_000.0);
        Config::from_json(json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.list("tokenizer.ggml.tokens")?.len(),
            "hidden_size": hidden,
            "intermediate_size": self.integer("llama.feed_forward_length")?,
            "num_hidden_layers": self.integer("llama.block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer("llama.attention.head_count_kv").unwrap_or(heads),
            "head_dim": self.integer("llama.attention.key_length").unwrap_or(hidden / heads.max(1)),
            "hidden_act": "silu",
            "rms_norm_eps": self.number("llama.attention.layer_norm_rms_epsilon", 1e-5),
            "rope_theta": rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
            "max_position_embeddings": self.integer("llama.context_length").unwrap_or(2048),
            "tie_word_embeddings": tied,
            "attention_bias": false,
            "mlp_bias": false,
            "bos_token_id": self.0.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.0.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.0.get("tokenizer.ggml.padding_token_id"),
        }))
    }

    // Byte-level BPE. llama.cpp names the rule that splits text into words; each has its own spelling here.
    fn tokenizer(&self) -> Result<Value, String> {
        let kind = self.text("tokenizer.ggml.model")?;
        if kind != "gpt2" {
            return Err(format!("`tokenizer.ggml.model` is \"{kind}\": only \"gpt2\" (byte-level BPE) is supported"));
        }
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let split = match self.text("tokenizer.ggml.pre")? {
            "smollm" => {
                json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes]})
            }
            "gpt-2" | "default" => bytes.clone(),
            other => {
                return Err(format!(
                    "`tokenizer.ggml.pre` is \"{other}\": only \"smollm\" and \"gpt-2\" are supported"
                ));
            }
        };
        let tokens = self.list("tokenizer.ggml.tokens")?;
        let vocabulary: Map<String, Value> =
            tokens.iter().zip(0..).filter_map(|(token, id)| Some((token.as_str()?.to_string(), json!(id)))).collect();
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.special_tokens(tokens)?,
            "normalizer": null,
            "pre_tokenizer": split,
            "post_processor": null,
            "decoder": bytes,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": self.list("tokenizer.ggml.merges")?,
            },
        }))
    }

    // Type 3 is llama.cpp's "control", 4 "user defined".
    fn special_tokens(&self, tokens: &[Value]) -> Result<Vec<Value>, String> {
        let kinds = self.list("tokenizer.ggml.token_type")?;
        let added = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| matches!(kind.as_i64(), Some(3 | 4)));
        Ok(added
            .map(|(id, (token, kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": kind.as_i64() == Some(3)})
            })
            .collect())
    }

    fn named_token(&self, key: &str) -> Option<&Value> {
        let id = usize::try_from(self.integer(key).ok()?).ok()?;
        self.list("tokenizer.ggml.tokens").ok()?.get(id)
    }

    // Not GPT2TokenizerFast: transformers 5 would rebuild its pre-tokenizer without the digits' rule.
    fn tokenizer_config(&self) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": false,
            "bos_token": self.named_token("tokenizer.ggml.bos_token_id"),
            "eos_token": self.named_token("tokenizer.ggml.eos_token_id"),
            "unk_token": self.named_token("tokenizer.ggml.unknown_token_id"),
            "pad_token": self.named_token("tokenizer.ggml.padding_token_id"),
            "chat_template": self.0.get("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.0.get("llama.context_length"),
        })
    }

    fn generation_config(&self) -> Value {
        json!({
            "bos_token_id": self.0.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.0.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.0.get("tokenizer.ggml.padding_token_id"),
        })
    }
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

    #[test]
    fn what_cannot_be_imported_is_named() {
        let header = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text).expect("valid JSON");
        let gemma = header(r#"{"general.architecture": "gemma3"}"#);
        assert!(Header(&gemma).config(true).is_err_and(|problem| problem.contains("\"gemma3\"")));
        let spm = header(r#"{"tokenizer.ggml.model": "llama"}"#);
        assert!(Header(&spm).tokenizer().is_err_and(|problem| problem.contains("byte-level BPE")));
    }
}
