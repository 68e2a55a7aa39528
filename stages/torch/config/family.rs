//! The architectures that the transformer computes, and how they differ: which switches each sets, and what a missing
//! field of its `config.json` means. One row a family; nothing else asks which family a model is of.

/// What `model_type` names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    /// In `config.json`.
    pub model_type: &'static str,
    /// Of transformers.
    pub architecture: &'static str,
    /// `general.architecture` of a GGUF file.
    pub gguf: &'static str,
    /// Who decides on the biases of attention.
    pub bias: AttentionBias,
    /// Queries and keys are normalised head by head.
    pub head_norms: bool,
    /// Gemma's block: norms after attention and feed-forward too, gains counted from 1, a scaled embedding, soft caps,
    /// a query scale of its own.
    pub gemma: bool,
    /// Layers of local attention turn by a base of their own.
    pub two_ropes: bool,
    /// Which layers have a sliding window where `layer_types` does not say.
    pub windows: Windows,
    /// Meaning of a missing `head_dim`; `None` divides the hidden size by the heads.
    pub head_dim: Option<i64>,
    /// Meaning of a missing `num_key_value_heads`; `None` is as many as query heads.
    pub key_heads: Option<i64>,
    /// Meaning of a missing `rope_theta`.
    pub rope_theta: f64,
    /// Meaning of a missing `max_position_embeddings`.
    pub positions: i64,
    /// Meaning of missing `attn_logit_softcapping` and `final_logit_softcapping`.
    pub caps: (Cap, Cap),
}

/// A soft cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cap {
    /// Not applied, whatever is asked.
    Never,
    /// That of the field, or this where it is missing.
    Field(Option<f64>),
}

/// Biases of the query, key, value and output projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    /// None, whatever is asked.
    Never,
    /// On query, key and value, always; never on the output.
    Inputs,
    /// All four, where `attention_bias` is true.
    Field,
}

/// Which layers see a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None.
    None,
    /// All, where `sliding_window` is set.
    All,
    /// Those from `max_window_layers` on, where `use_sliding_window` is true.
    Upper,
    /// All but each `sliding_window_pattern`-th; this many where the field is missing.
    Pattern(i64),
}

const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    gguf: "llama",
    bias: AttentionBias::Field,
    head_norms: false,
    gemma: false,
    two_ropes: false,
    windows: Windows::None,
    head_dim: None,
    key_heads: None,
    rope_theta: 10_000.0,
    positions: 2048,
    caps: (Cap::Never, Cap::Never),
};

const MISTRAL: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    bias: AttentionBias::Never,
    windows: Windows::All,
    key_heads: Some(8),
    positions: 131_072,
    ..LLAMA
};

const QWEN2: Family = Family {
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    gguf: "qwen2",
    bias: AttentionBias::Inputs,
    windows: Windows::Upper,
    key_heads: Some(32),
    positions: 32_768,
    ..LLAMA
};

const QWEN3: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    gguf: "qwen3",
    bias: AttentionBias::Field,
    head_norms: true,
    head_dim: Some(128),
    ..QWEN2
};

const GEMMA2: Family = Family {
    model_type: "gemma2",
    architecture: "Gemma2ForCausalLM",
    gguf: "gemma2",
    gemma: true,
    windows: Windows::Pattern(2),
    head_dim: Some(256),
    key_heads: Some(4),
    positions: 8192,
    caps: (Cap::Field(Some(50.0)), Cap::Field(Some(30.0))),
    ..LLAMA
};

const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    gguf: "gemma3",
    head_norms: true,
    two_ropes: true,
    windows: Windows::Pattern(6),
    rope_theta: 1_000_000.0,
    positions: 131_072,
    // transformers keeps `attn_logit_softcapping` and does not hand it to attention.
    caps: (Cap::Never, Cap::Field(None)),
    ..GEMMA2
};

const FAMILIES: [Family; 6] = [LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3];

impl Family {
    /// By `model_type`; `found` is what the document has there.
    pub fn named(found: Option<&serde_json::Value>) -> Result<Self, String> {
        let family = FAMILIES.into_iter().find(|family| found.is_some_and(|found| found == family.model_type));
        family.ok_or_else(|| {
            let found = found.map_or("missing".to_string(), serde_json::Value::to_string);
            let known = FAMILIES.map(|family| format!("\"{}\"", family.model_type)).join(", ");
            format!("`model_type` is {found}: supported are {known}")
        })
    }

    /// By a GGUF file's `general.architecture`. Mistral's files call themselves `llama`, for they have no sliding
    /// window.
    pub fn of_gguf(name: &str) -> Result<Self, String> {
        FAMILIES.into_iter().find(|family| family.gguf == name).ok_or_else(|| {
            let mut known = FAMILIES.map(|family| format!("\"{}\"", family.gguf)).to_vec();
            known.dedup();
            format!("`general.architecture` is \"{name}\": supported are {}", known.join(", "))
        })
    }
}
