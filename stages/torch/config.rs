//! `config.json` of a model, read and written in HF's spelling: the shape of the transformer and its switches. A field
//! that would change the computation and that the transformer does not follow is an error that names it.

mod family;
mod fields;
mod layers;
mod reward;
mod rope;

use std::path::Path;

use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use serde_json::{Value, json};

use crate::lora::Lora;

pub use family::Family;
use family::{AttentionBias, Cap};
use fields::{Fields, flag_or, integer, integer_or, number_or, only, positive, present};
pub use layers::Layer;
pub use rope::{Rope, Scaling};

/// Shape and switches of the transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whose rules the document follows.
    pub family: Family,
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
    /// Added to the gains of all normalisations.
    pub norm_offset: f64,
    /// The embedding is multiplied by this.
    pub embedding_scale: Option<f64>,
    /// Whether there is a score head, one number a token, in place of the vocabulary's: a reward model.
    pub scores: bool,
    /// Adapters beside the blocks' projections; never in the file, for they are saved merged or by themselves.
    pub lora: Option<Lora>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: i64,
    /// Biases of query, key and value.
    pub qkv_bias: bool,
    /// Bias of attention's output.
    pub out_bias: bool,
    /// Biases of the feed-forward layer.
    pub mlp_bias: bool,
    /// Queries and keys are normalised head by head.
    pub head_norms: bool,
    /// What attention and feed-forward give is normalised before it joins the stream.
    pub post_norms: bool,
    /// Scores are multiplied by this; `None` is one over the root of the head's width.
    pub attention_scale: Option<f64>,
    /// Scores are held within ± this by a tanh.
    pub attention_cap: Option<f64>,
    /// Logits are held within ± this by a tanh.
    pub logits_cap: Option<f64>,
    /// Of the gate.
    pub activation: Activation,
    /// Distinct rotations.
    pub ropes: Vec<Rope>,
    /// What differs from block to block.
    pub layers: Vec<Layer>,
    /// The file as it was read, so that writing loses nothing.
    rest: Fields,
}

/// The feed-forward layer's nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x)
    Silu,
    /// The tanh form of gelu.
    GeluTanh,
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
        let family = Family::named(rest.get("model_type"))?;
        fields::refuse_unknown(&rest)?;
        for (name, expected) in [
            ("partial_rotary_factor", json!(1.0)),
            ("rope_interleaved", json!(false)),
            ("use_bidirectional_attention", json!(false)),
        ] {
            only(&rest, name, &expected)?;
        }
        let num_hidden_layers = integer(&rest, "num_hidden_layers")?;
        let num_hidden_layers = usize::try_from(num_hidden_layers)
            .ok()
            .filter(|layers| (1..=MOST_LAYERS).contains(layers))
            .ok_or_else(|| format!("`num_hidden_layers` is {num_hidden_layers}, expected 1 to {MOST_LAYERS}"))?;
        let (hidden_size, heads) = (integer(&rest, "hidden_size")?, integer(&rest, "num_attention_heads")?);
        let positions = integer_or(&rest, "max_position_embeddings", family.positions)?;
        let ropes = rope::ropes(&rest, family, positions)?;
        let biased = attention_bias(&rest, family)?;
        let scores = reward::scores(&rest)?;
        let head_dim = family.head_dim.unwrap_or(hidden_size / heads.max(1));
        let config = Self {
            family,
            vocab_size: integer(&rest, "vocab_size")?,
            hidden_size,
            intermediate_size: integer(&rest, "intermediate_size")?,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: integer_or(&rest, "num_key_value_heads", key_heads(&rest, family, heads))?,
            head_dim: integer_or(&rest, "head_dim", head_dim)?,
            rms_norm_eps: number_or(&rest, "rms_norm_eps", 1e-6)?,
            norm_offset: if family.gemma { 1.0 } else { 0.0 },
            embedding_scale: family.gemma.then(|| (hidden_size as f64).sqrt()),
            scores,
            lora: None,
            tie_word_embeddings: !scores && flag_or(&rest, "tie_word_embeddings", family.gemma)?,
            max_position_embeddings: positions,
            qkv_bias: biased || family.bias == AttentionBias::Inputs,
            out_bias: biased,
            mlp_bias: mlp_bias(&rest, family)?,
            head_norms: family.head_norms,
            post_norms: family.gemma,
            attention_scale: attention_scale(&rest, family)?,
            attention_cap: cap(&rest, "attn_logit_softcapping", family, family.caps.0)?,
            logits_cap: cap(&rest, "final_logit_softcapping", family, family.caps.1)?,
            activation: activation(&rest, family)?,
            layers: layers::layers(&rest, family, num_hidden_layers, ropes.len())?,
            ropes,
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

    /// Of a reward model over the same blocks, which ends its texts with `end`.
    pub fn with_scores(&self, end: Option<u32>) -> Result<Self, String> {
        let mut document = self.rest.clone();
        reward::describe(&mut document, self.family, end);
        Self::from_json(Value::Object(document))
    }

    /// The same model with adapters beside it.
    #[must_use]
    pub fn with_lora(&self, lora: Lora) -> Self {
        Self { lora: Some(lora), ..self.clone() }
    }

    /// The same model without its adapters.
    #[must_use]
    pub fn without_lora(&self) -> Self {
        Self { lora: None, ..self.clone() }
    }

    /// Writes `config.json` into a model folder.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        jsonl::write_json(&folder.join("config.json"), &self.to_json())
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
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        // Larger ones would not fit into a product of two of them.
        let size = |value: &i64| (1..=i64::from(i32::MAX)).contains(value);
        if let Some((name, value)) = positive.iter().find(|(_, value)| !size(value)) {
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

/// More blocks than any model has; a larger number is a damaged file.
const MOST_LAYERS: usize = 10_000;

/// One id or a list of them, as `eos_token_id` may be.
pub fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

// Null means one a query head, in every family.
fn key_heads(document: &Fields, family: Family, heads: i64) -> i64 {
    if document.contains_key("num_key_value_heads") { heads } else { family.key_heads.unwrap_or(heads) }
}

fn attention_bias(document: &Fields, family: Family) -> Result<bool, String> {
    match family.bias {
        AttentionBias::Field => flag_or(document, "attention_bias", false),
        AttentionBias::Never => only(document, "attention_bias", &json!(false)).map(|()| false),
        // transformers does not look at the field; files carry either value.
        AttentionBias::Inputs => Ok(false),
    }
}

fn mlp_bias(document: &Fields, family: Family) -> Result<bool, String> {
    if family.model_type == "llama" {
        return flag_or(document, "mlp_bias", false);
    }
    only(document, "mlp_bias", &json!(false)).map(|()| false)
}

fn attention_scale(document: &Fields, family: Family) -> Result<Option<f64>, String> {
    let scalar = positive(document, "query_pre_attn_scalar")?;
    if !family.gemma && scalar.is_some() {
        return Err(format!("`query_pre_attn_scalar` is not a field of {}", family.model_type));
    }
    Ok(family.gemma.then(|| scalar.unwrap_or(256.0).sqrt().recip()))
}

// Null is no cap; a missing field is the family's own.
fn cap(document: &Fields, name: &str, family: Family, own: Cap) -> Result<Option<f64>, String> {
    match (positive(document, name)?, own) {
        (Some(found), Cap::Never) => {
            Err(format!("`{name}` is {found}: transformers does not apply it in {}, so only null", family.model_type))
        }
        (found, Cap::Field(missing)) => Ok(if document.contains_key(name) { found } else { missing }),
        (None, Cap::Never) => Ok(None),
    }
}

fn activation(document: &Fields, family: Family) -> Result<Activation, String> {
    let (name, missing) =
        if family.gemma { ("hidden_activation", "gelu_pytorch_tanh") } else { ("hidden_act", "silu") };
    match present(document, name).map_or(Some(missing), Value::as_str) {
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        _ => Err(format!("`{name}` is {}: only \"silu\" and \"gelu_pytorch_tanh\" are supported", document[name])),
    }
}

#[cfg(test)]
mod tests;
