//! Declarations of `model.init` and `model.import`: where a model comes from. Both are carried out by the worker.

use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::at_least_one;
use crate::worker::TORCH;

const MODEL: &[OutputSpec] = &[OutputSpec::result("model", "model", "a Hugging Face model folder")];

/// Parameters of `model.init`, under the names of HF's LlamaConfig.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InitParams {
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Blocks.
    pub num_hidden_layers: u64,
    /// Query heads.
    pub num_attention_heads: u64,
    /// Key and value heads; a divisor of the query heads.
    pub num_key_value_heads: u64,
    /// Width of the feed-forward layer.
    pub intermediate_size: u64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence.
    pub max_position_embeddings: u64,
    /// Standard deviation of the matrices; one over the root of their input width when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// Standard deviation of the embedding.
    pub embedding_range: f64,
    /// Words to know besides those of the corpus.
    pub words: Vec<String>,
    /// Names every draw.
    pub seed: u64,
}

impl Default for InitParams {
    fn default() -> Self {
        Self {
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            intermediate_size: 192,
            rope_theta: 100.0,
            tie_word_embeddings: false,
            max_position_embeddings: 512,
            initializer_range: None,
            embedding_range: 0.5,
            words: Vec::new(),
            seed: 0,
        }
    }
}

/// `model.init`.
pub struct ModelInit;

impl Declare for ModelInit {
    const KIND: &'static str = "model.init";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "make a small random Llama whose words are those of a corpus";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("corpus", "JSONL rows whose `prompt` and `completion` give the vocabulary"),
        InputSpec::optional("more", "more such rows"),
    ];
    const OUTPUTS: &'static [OutputSpec] = MODEL;
    const WORKER: Worker = TORCH;
    type Params = InitParams;

    fn check(params: &InitParams) -> Vec<Problem> {
        let counts = [
            ("hidden_size", params.hidden_size),
            ("num_hidden_layers", params.num_hidden_layers),
            ("num_attention_heads", params.num_attention_heads),
            ("num_key_value_heads", params.num_key_value_heads),
            ("intermediate_size", params.intermediate_size),
        ];
        let mut problems: Vec<Problem> = at_least_one(&counts).collect();
        if !problems.is_empty() {
            return problems;
        }
        if !params.hidden_size.is_multiple_of(2 * params.num_attention_heads) {
            problems.push(Problem::new("hidden_size", "expected an even width for every attention head"));
        }
        if !params.num_attention_heads.is_multiple_of(params.num_key_value_heads) {
            problems.push(Problem::new("num_key_value_heads", "expected a divisor of `num_attention_heads`"));
        }
        problems
    }
}

/// Parameters of `model.import`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImportParams {}

/// `model.import`.
pub struct ModelImport;

impl Declare for ModelImport {
    const KIND: &'static str = "model.import";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "bring a Llama-family checkpoint into the cache: a Hugging Face folder or a GGUF file";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("checkpoint", "a Hugging Face model folder or a .gguf file"),
        InputSpec::optional("adapter", "a PEFT folder with a LoRA adapter, which is merged into the weights"),
    ];
    const OUTPUTS: &'static [OutputSpec] = MODEL;
    const WORKER: Worker = TORCH;
    type Params = ImportParams;
}
