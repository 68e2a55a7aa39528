//! `config.json` of a Llama-family model, read and written in HF's spelling. A field that would change the
//! computation and that the transformer does not follow is an error that names it, never passed over.

use std::path::Path;

use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use serde_json::{Map, Value, json};

/// Shape and switches of the transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; a divisor of the query heads.
    pub num_key_value_heads: i64,
    /// Width of one head.
    pub head_dim: i64,
    /// Floor of the normalisation.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: i64,
    /// The file as it was read, so that writing loses nothing.
    rest: Map<String, Value>,
}

// Values of fields that change the computation; any other value is refused.
fn fixed() -> [(&'static str, Value); 5] {
    [
        ("model_type", json!("llama")),
        ("hidden_act", json!("silu")),
        ("attention_bias", json!(false)),
        ("mlp_bias", json!(false)),
        ("rope_scaling", Value::Null),
    ]
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|error| StageError::file("read", &path, &error))?;
        let value = serde_json::from_str(&text).map_err(|error| StageError::file("parse", &path, &error))?;
        Self::from_json(value).map_err(|problem| StageError::file("read", &path, &problem))
    }

    /// Checks and types the document.
    pub fn from_json(value: Value) -> Result<Self, String> {
        let Value::Object(rest) = value else { return Err("expected a JSON object".into()) };
        refuse_what_is_not_followed(&rest)?;
        let hidden_size = integer(&rest, "hidden_size")?;
        let num_attention_heads = integer(&rest, "num_attention_heads")?;
        let config = Self {
            vocab_size: integer(&rest, "vocab_size")?,
            hidden_size,
            intermediate_size: integer(&rest, "intermediate_size")?,
            num_hidden_layers: usize::try_from(integer(&rest, "num_hidden_layers")?).map_err(|e| e.to_string())?,
            num_attention_heads,
            num_key_value_heads: integer_or(&rest, "num_key_value_heads", num_attention_heads)?,
            head_dim: integer_or(&rest, "head_dim", hidden_size / num_attention_heads.max(1))?,
            rms_norm_eps: number_or(&rest, "rms_norm_eps", 1e-6)?,
            rope_theta: rope_theta(&rest)?,
            tie_word_embeddings: rest.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            max_position_embeddings: integer_or(&rest, "max_position_embeddings", 2048)?,
            rest,
        };
        config.check()?;
        Ok(config)
    }

    /// The document for `config.json`.
    pub fn to_json(&self) -> Value {
        let mut document = self.rest.clone();
        document.insert("torch_dtype".into(), json!("float32"));
        document.insert("dtype".into(), json!("float32"));
        Value::Object(document)
    }

    /// Writes `config.json` into a model folder.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        jsonl::write_json(&folder.join("config.json"), &self.to_json())
    }

    /// Width of the fused query, key and value projection.
    pub fn qkv_size(&self) -> i64 {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
    }

    /// Token ids that end a completion, as `config.json` has them.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        token_ids(self.rest.get("eos_token_id"))
    }

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, value)| *value < 1) {
            return Err(format!("`{name}` is {value}, expected a positive number"));
        }
        if self.num_attention_heads % self.num_key_value_heads != 0 {
            return Err("`num_key_value_heads` must divide `num_attention_heads`".into());
        }
        if self.head_dim % 2 != 0 {
            return Err(format!("a head is {} wide: rotary positions need an even width", self.head_dim));
        }
        Ok(())
    }
}

/// One id or a list of them, as `eos_token_id` may be.
pub fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn refuse_what_is_not_followed(document: &Map<String, Value>) -> Result<(), String> {
    for (name, expected) in fixed() {
        match document.get(name) {
            None | Some(Value::Null) if name != "model_type" => {}
            Some(value) if *value == expected => {}
            found => {
                let found = found.map_or("missing".to_string(), Value::to_string);
                return Err(format!("`{name}` is {found}: only {expected} is supported"));
            }
        }
    }
    match document.get("rope_parameters").and_then(|rope| rope.get("rope_type")).and_then(Value::as_str) {
        None | Some("default") => Ok(()),
        Some(other) => Err(format!("`rope_parameters.rope_type` is \"{other}\": only \"default\" is supported")),
    }
}

// transformers 5 nests the base under `rope_parameters`; older files have it at the top.
fn rope_theta(document: &Map<String, Value>) -> Result<f64, String> {
    match document.get("rope_parameters").and_then(Value::as_object) {
        Some(rope) if rope.contains_key("rope_theta") => number_or(rope, "rope_theta", 10_000.0),
        _ => number_or(document, "rope_theta", 10_000.0),
    }
}

fn integer(document: &Map<String, Value>, name: &str) -> Result<i64, String> {
    let value = document.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
    value.as_i64().ok_or_else(|| format!("`{name}` is {value}, expected an integer"))
}

fn integer_or(document: &Map<String, Value>, name: &str, default: i64) -> Result<i64, String> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => integer(document, name),
    }
}

fn number_or(document: &Map<String, Value>, name: &str, default: f64) -> Result<f64, String> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| format!("`{name}` is {value}, expected a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Value {
        json!({"model_type": "llama", "vocab_size": 8, "hidden_size": 16, "intermediate_size": 24,
               "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2})
    }

    fn refused(change: Value) -> String {
        let mut document = tiny();
        for (name, value) in change.as_object().expect("an object") {
            document[name] = value.clone();
        }
        Config::from_json(document).expect_err("should be refused")
    }

    #[test]
    fn what_the_transformer_does_not_follow_is_named() {
        assert_eq!(refused(json!({"model_type": "gemma"})), "`model_type` is \"gemma\": only \"llama\" is supported");
        assert_eq!(refused(json!({"attention_bias": true})), "`attention_bias` is true: only false is supported");
        assert!(refused(json!({"rope_scaling": {"factor": 2}})).starts_with("`rope_scaling` is "));
        assert!(refused(json!({"rope_parameters": {"rope_type": "llama3"}})).contains("\"llama3\""));
        assert!(refused(json!({"num_key_value_heads": 3})).contains("must divide"));
    }

    #[test]
    fn both_places_of_the_rope_base_are_read() {
        let mut document = tiny();
        document["rope_theta"] = json!(100.0);
        assert_eq!(Config::from_json(document.clone()).expect("valid").rope_theta, 100.0);
        document["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5.0});
        assert_eq!(Config::from_json(document).expect("valid").rope_theta, 5.0);
    }
}
