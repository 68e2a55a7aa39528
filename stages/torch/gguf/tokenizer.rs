//! The `tokenizer.json` of a GGUF file, rebuilt from its vocabulary: byte-level BPE from the merges that the file has,
//! SentencePiece's BPE from its scores.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::header::Header;

/// llama.cpp's kinds of tokens.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Words of a text, as Llama 3 and Qwen split it; they differ in how many digits go together.
const WORDS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

impl Header<'_> {
    /// The document for `tokenizer.json`.
    pub fn tokenizer(&self) -> Result<Value, String> {
        let tokens = self.list("tokenizer.ggml.tokens")?;
        let tokens: Option<Vec<&str>> = tokens.iter().map(Value::as_str).collect();
        let tokens = tokens.ok_or("`tokenizer.ggml.tokens` are not all texts")?;
        let kinds = self.kinds(tokens.len())?;
        let mut document = match self.text("tokenizer.ggml.model")? {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece(&tokens, &kinds)?,
            kind => {
                return Err(format!(
                    "`tokenizer.ggml.model` is \"{kind}\": only \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece) \
                     are supported"
                ));
            }
        };
        let vocabulary: Map<String, Value> = (0u64..).zip(&tokens).map(|(id, t)| ((*t).into(), json!(id))).collect();
        if vocabulary.len() != tokens.len() {
            return Err("`tokenizer.ggml.tokens` has a token twice".into());
        }
        document["model"]["vocab"] = Value::Object(vocabulary);
        document["version"] = json!("1.0");
        document["truncation"] = Value::Null;
        document["padding"] = Value::Null;
        document["added_tokens"] = added(&tokens, &kinds);
        document["post_processor"] = self.beginning(&tokens)?;
        Ok(document)
    }

    // Each token's kind; a file without them has normal tokens only.
    fn kinds(&self, tokens: usize) -> Result<Vec<i64>, String> {
        let list = self.list("tokenizer.ggml.token_type")?;
        if list.len() != tokens {
            return Err(format!("`tokenizer.ggml.token_type` has {} entries for {tokens} tokens", list.len()));
        }
        Ok(list.iter().map(|kind| kind.as_i64().unwrap_or(1)).collect())
    }

    // llama.cpp names the rule that splits text into words; each has its own spelling here.
    fn byte_level(&self) -> Result<Value, String> {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |digits: &str| {
            let pattern = [WORDS[0], digits, WORDS[1]].concat();
            let words =
                json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
            json!({"type": "Sequence", "pretokenizers": [words, bytes(false)]})
        };
        let digits = json!({"type": "Digits", "individual_digits": true});
        let (words, normalizer, whole) = match self.text("tokenizer.ggml.pre")? {
            "smollm" => (json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]}), Value::Null, false),
            "gpt-2" | "default" => (bytes(true), Value::Null, false),
            "llama-bpe" => (split("{1,3}"), Value::Null, true),
            "qwen2" => (split(""), json!({"type": "NFC"}), false),
            other => {
                return Err(format!(
                    "`tokenizer.ggml.pre` is \"{other}\": only \"smollm\", \"gpt-2\", \"llama-bpe\" and \"qwen2\" are \
                     supported"
                ));
            }
        };
        Ok(json!({
            "normalizer": normalizer,
            "pre_tokenizer": words,
            "decoder": bytes(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
                "vocab": {}, "merges": self.list("tokenizer.ggml.merges")?,
            },
        }))
    }

    fn sentence_piece(&self, tokens: &[&str], kinds: &[i64]) -> Result<Value, String> {
        let scores = self.list("tokenizer.ggml.scores")?;
        if scores.len() != tokens.len() {
            let (scores, tokens) = (scores.len(), tokens.len());
            return Err(format!("`tokenizer.ggml.scores` has {scores} entries for {tokens} tokens"));
        }
        let scores: Vec<f64> = scores.iter().map(|score| score.as_f64().unwrap_or(f64::MIN)).collect();
        let blanks = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        let prefix = self.flag("tokenizer.ggml.add_space_prefix", true);
        let normalizer = if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, blanks]})
        } else {
            blanks
        };
        let unknown = self.integer("tokenizer.ggml.unknown_token_id").ok();
        let unknown = unknown.and_then(|id| tokens.get(usize::try_from(id).ok()?));
        Ok(json!({
            "normalizer": normalizer,
            "pre_tokenizer": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": {}, "merges": merges(tokens, kinds, &scores),
            },
        }))
    }

    // As the model's own tokenizer does where special tokens are asked for; plumb's texts carry theirs.
    fn beginning(&self, tokens: &[&str]) -> Result<Value, String> {
        if !self.adds_bos() {
            return Ok(Value::Null);
        }
        let id = self.integer("tokenizer.ggml.bos_token_id")?;
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let token = token.ok_or_else(|| format!("`tokenizer.ggml.bos_token_id` is {id}, beyond the vocabulary"))?;
        let first = json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = |id: &str, kind: u64| json!({"Sequence": {"id": id, "type_id": kind}});
        Ok(json!({
            "type": "TemplateProcessing",
            "single": [first, text("A", 0)],
            "pair": [first, text("A", 0), json!({"SpecialToken": {"id": token, "type_id": 1}}), text("B", 1)],
            "special_tokens": {*token: {"id": token, "ids": [id], "tokens": [token]}},
        }))
    }
}

fn added(tokens: &[&str], kinds: &[i64]) -> Value {
    let added = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
    let entry = |(id, (token, kind)): (usize, (&&str, &i64))| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": *kind == CONTROL})
    };
    added.map(entry).collect()
}

// SentencePiece joins two neighbours into the best-scored token there is; a merge list says the same: every way to
// cut a token in two, the best tokens first, as transformers' converter orders them.
fn merges(tokens: &[&str], kinds: &[i64], scores: &[f64]) -> Value {
    let ids: BTreeMap<&str, usize> = tokens.iter().copied().zip(0..).collect();
    let mut found: Vec<Merge> = Vec::new();
    for ((token, kind), score) in tokens.iter().zip(kinds).zip(scores) {
        if matches!(*kind, CONTROL | USER_DEFINED) {
            continue;
        }
        let cut = |(place, _): (usize, char)| {
            let (left, right) = token.split_at(place);
            Some((*ids.get(left)?, *ids.get(right)?, left, right))
        };
        let mut cuts: Vec<(usize, usize, &str, &str)> = token.char_indices().skip(1).filter_map(cut).collect();
        cuts.sort_by_key(|(left, right, ..)| (*left, *right));
        let sized = |(_, _, left, right)| Merge { score: *score, left, right };
        found.extend(cuts.into_iter().map(sized));
    }
    // Stable: cuts of one token that are alike in length stay in their order.
    found.sort_by(|one, other| other.order().partial_cmp(&one.order()).unwrap_or(std::cmp::Ordering::Equal));
    found.into_iter().map(|merge| json!([merge.left, merge.right])).collect()
}

struct Merge<'a> {
    score: f64,
    left: &'a str,
    right: &'a str,
}

impl Merge<'_> {
    fn order(&self) -> (f64, usize, usize) {
        (self.score, self.left.chars().count(), self.right.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::Tokenizer;

    use super::*;

    fn tokenizer(metadata: Value) -> Result<Tokenizer, String> {
        let metadata: BTreeMap<String, Value> = serde_json::from_value(metadata).expect("a table");
        let document = Header(&metadata).tokenizer()?.to_string();
        Ok(document.parse().expect("a tokenizer"))
    }

    fn sentence_piece() -> Value {
        json!({"tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.tokens": ["<unk>", "<s>", "<0x0A>", "\u{2581}", "a", "b", "ab", "\u{2581}ab", "aa"],
            "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -4.0, -5.0, -6.0, -1.0, -2.0, -3.0],
            "tokenizer.ggml.token_type": [2, 3, 6, 1, 1, 1, 1, 1, 1]})
    }

    #[test]
    fn sentence_piece_joins_the_best_scored_neighbours() {
        let words = tokenizer(sentence_piece()).expect("is read");
        let ids = |text: &str, special: bool| words.encode(text, special).expect("encodes").get_ids().to_vec();
        // `aab`: `ab` is worth more than `aa`. A blank goes before, a newline is a byte.
        assert_eq!(ids("aab", false), [3, 4, 6]);
        assert_eq!(ids("ab ab\n", true), [1, 7, 7, 2]);
        assert_eq!(words.decode(&[7, 7, 2], true).expect("decodes"), "ab ab\n");
    }

    #[test]
    fn what_cannot_be_rebuilt_is_named() {
        let told = |name: &str, value: Value| {
            let mut metadata = sentence_piece();
            metadata[name] = value;
            tokenizer(metadata).expect_err("is refused")
        };
        assert!(told("tokenizer.ggml.model", json!("t5")).contains("`tokenizer.ggml.model` is \"t5\""));
        assert!(told("tokenizer.ggml.scores", json!([1.0])).contains("1 entries for 9 tokens"));
        assert!(told("tokenizer.ggml.token_type", json!([1])).contains("1 entries for 9 tokens"));
        assert!(told("tokenizer.ggml.bos_token_id", json!(99)).contains("beyond the vocabulary"));
        let twice = json!(["a", "a", "a", "a", "a", "a", "a", "a", "a"]);
        assert!(told("tokenizer.ggml.tokens", twice).contains("a token twice"));
    }
}
