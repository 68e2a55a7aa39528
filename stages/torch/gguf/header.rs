//! What a GGUF header says of a model: the `config.json` that HF would have, and the settings beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contents::Contents;
use crate::config::{Config, Family};

/// Divisors of the rotary frequencies, a tensor in files of Llama 3.1 and later.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Blocks of the two Gemmas whose query scale is not that of their heads' width; the header does not tell it.
const SCALED_BY_HIDDEN: [(&str, i64); 2] = [("gemma2", 46), ("gemma3", 62)];

/// The file's metadata.
pub struct Header<'a>(pub &'a BTreeMap<String, Value>);

impl Header<'_> {
    pub fn text(&self, key: &str) -> Result<&str, String> {
        self.0.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` is missing"))
    }

    pub fn integer(&self, key: &str) -> Result<i64, String> {
        self.0.get(key).and_then(Value::as_i64).ok_or_else(|| format!("`{key}` is missing"))
    }

    pub fn list(&self, key: &str) -> Result<&Vec<Value>, String> {
        self.0.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{key}` is missing"))
    }

    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    // Stored as f32: the shortest decimal that reads back as it, so that 1e-5 is written so.
    fn number(&self, key: &str) -> Option<f64> {
        let stored = self.0.get(key).and_then(Value::as_f64)?;
        Some((stored as f32).to_string().parse().unwrap_or(stored))
    }

    /// The configuration; the tensors tell what the metadata does not.
    pub fn config(&self, contents: &Contents) -> Result<Config, String> {
        let architecture = self.text("general.architecture")?;
        let family = Family::of_gguf(architecture)?;
        let key = |name: &str| format!("{architecture}.{name}");
        let hidden = self.integer(&key("embedding_length"))?;
        let heads = self.integer(&key("attention.head_count"))?;
        let layers = self.integer(&key("block_count"))?;
        let head_dim = self.integer(&key("attention.key_length")).unwrap_or(hidden / heads.max(1));
        let mut document = Map::new();
        let mut set = |name: &str, value: Value| drop(document.insert(name.into(), value));
        set("architectures", json!([family.architecture]));
        set("model_type", json!(family.model_type));
        set("vocab_size", json!(self.list("tokenizer.ggml.tokens")?.len()));
        set("hidden_size", json!(hidden));
        set("intermediate_size", json!(self.integer(&key("feed_forward_length"))?));
        set("num_hidden_layers", json!(layers));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(self.integer(&key("attention.head_count_kv")).unwrap_or(heads)));
        set("head_dim", json!(head_dim));
        set("rms_norm_eps", json!(self.number(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5)));
        set("max_position_embeddings", json!(self.integer(&key("context_length")).unwrap_or(2048)));
        set("tie_word_embeddings", json!(!contents.has("output.weight")));
        set("attention_bias", json!(contents.has("blk.0.attn_q.bias")));
        for (name, id) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            set(name, json!(self.0.get(&format!("tokenizer.ggml.{id}_token_id"))));
        }
        let theta = self.number(&key("rope.freq_base")).unwrap_or(10_000.0);
        let mut rope = self.rope(&key("rope.scaling"), contents, head_dim, theta)?;
        rope["rope_theta"] = json!(theta);
        if family.gemma {
            let special = SCALED_BY_HIDDEN.contains(&(architecture, layers));
            set("hidden_activation", json!("gelu_pytorch_tanh"));
            set("query_pre_attn_scalar", json!(if special { hidden / heads.max(1) } else { head_dim }));
            set("sliding_window", json!(self.integer(&key("attention.sliding_window"))?));
            set("attn_logit_softcapping", json!(self.number(&key("attn_logit_softcapping"))));
            set("final_logit_softcapping", json!(self.number(&key("final_logit_softcapping"))));
        } else {
            set("hidden_act", json!("silu"));
            set("mlp_bias", json!(contents.has("blk.0.ffn_gate.bias")));
            self.no_window(&key("attention.sliding_window"))?;
        }
        // transformers 4 looks for it here, transformers 5 in `rope_parameters`.
        set("rope_theta", json!(theta));
        if family.two_ropes {
            // llama.cpp has the local base in its code, not in the file.
            let local = self.number(&key("rope.freq_base_swa")).unwrap_or(10_000.0);
            set("rope_local_base_freq", json!(local));
            rope = json!({"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": local}});
            let kind = |layer: i64| if (layer + 1) % 6 == 0 { "full_attention" } else { "sliding_attention" };
            set("layer_types", (0..layers.clamp(0, 10_000)).map(kind).collect());
        }
        set("rope_parameters", rope);
        Config::from_json(Value::Object(document))
    }

    fn no_window(&self, key: &str) -> Result<(), String> {
        match self.integer(key) {
            Ok(window) if window > 0 => {
                Err(format!("`{key}` is {window}: a sliding window is supported in Gemma's files"))
            }
            _ => Ok(()),
        }
    }

    fn rope(&self, key: &str, contents: &Contents, head: i64, theta: f64) -> Result<Value, String> {
        if contents.has(ROPE_FACTORS) {
            return llama3(&contents.tensor(ROPE_FACTORS, &[head / 2])?, theta);
        }
        let factor = self.number(&format!("{key}.factor"));
        match self.0.get(&format!("{key}.type")).and_then(Value::as_str) {
            None | Some("none") => Ok(json!({"rope_type": "default"})),
            Some("linear") => Ok(json!({"rope_type": "linear", "factor": factor})),
            Some(kind) => Err(format!("`{key}.type` is \"{kind}\": only \"none\" and \"linear\" are supported")),
        }
    }

    fn named_token(&self, key: &str) -> Option<&Value> {
        let id = usize::try_from(self.integer(key).ok()?).ok()?;
        self.list("tokenizer.ggml.tokens").ok()?.get(id)
    }

    /// Not GPT2TokenizerFast or its like: transformers 5 would rebuild the pre-tokenizer by the class's own rules.
    pub fn tokenizer_config(&self) -> Value {
        let architecture = self.text("general.architecture").unwrap_or_default();
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": self.adds_bos(),
            "bos_token": self.named_token("tokenizer.ggml.bos_token_id"),
            "eos_token": self.named_token("tokenizer.ggml.eos_token_id"),
            "unk_token": self.named_token("tokenizer.ggml.unknown_token_id"),
            "pad_token": self.named_token("tokenizer.ggml.padding_token_id"),
            "chat_template": self.0.get("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.0.get(&format!("{architecture}.context_length")),
        })
    }

    /// Whether a text begins with a token of its own, as llama.cpp decides it.
    pub fn adds_bos(&self) -> bool {
        let default = self.text("tokenizer.ggml.model").is_ok_and(|model| model == "llama")
            || self.text("tokenizer.ggml.pre").is_ok_and(|pre| pre == "llama-bpe");
        self.flag("tokenizer.ggml.add_bos_token", default)
    }

    pub fn generation_config(&self) -> Value {
        json!({
            "bos_token_id": self.0.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.0.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.0.get("tokenizer.ggml.padding_token_id"),
        })
    }
}

// The file has only what the rule gave; the rule's numbers are Meta's, with one of two factors.
fn llama3(factors: &[f32], theta: f64) -> Result<Value, String> {
    const TURNS: f64 = 8192.0 / std::f64::consts::TAU;
    let given = |factor: f64, pair: usize| {
        let kept = ((TURNS * theta.powf(-(pair as f64) / factors.len() as f64) - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / (kept + (1.0 - kept) / factor)
    };
    let fits = |factor: &f64| {
        (0..factors.len()).all(|pair| (f64::from(factors[pair]) / given(*factor, pair) - 1.0).abs() < 1e-3)
    };
    let found = [8.0, 32.0].into_iter().find(fits);
    let factor = found.ok_or_else(|| format!("`{ROPE_FACTORS}` are not those of Llama 3.1 or 3.2: not supported"))?;
    Ok(json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_a_tensor_are_told_by_their_rule() {
        // As llama.cpp's converter writes them for Llama 3.2: the slow pairs by 32, the fast ones by 1.
        let of = |pair: i32| {
            let wavelength = std::f64::consts::TAU * 500_000f64.powf(f64::from(pair) / 32.0);
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            let between = 1.0 / ((1.0 - smooth) / 32.0 + smooth);
            if wavelength < 2048.0 {
                1.0
            } else if wavelength > 8192.0 {
                32.0
            } else {
                between as f32
            }
        };
        let factors: Vec<f32> = (0..32).map(of).collect();
        assert_eq!(llama3(&factors, 500_000.0).expect("is known")["factor"], 32.0);
        assert!(llama3(&[3.0; 32], 500_000.0).is_err_and(|problem| problem.contains("rope_freqs.weight")));
    }

    #[test]
    fn an_unknown_architecture_is_named() {
        let header = BTreeMap::from([("general.architecture".to_string(), json!("mamba"))]);
        let empty = Contents::read(b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").expect("an empty file");
        assert!(Header(&header).config(&empty).is_err_and(|problem| problem.contains("\"mamba\": supported are")));
    }
}
