//! One question to a judge behind an OpenAI-compatible endpoint: the text that names its answer in the cache, and the
//! body that goes over the wire. Where it is asked is in neither: the same model elsewhere gives the same answer.

use std::collections::BTreeMap;

use plumb_engine::stage::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::rows::Message;

/// The judge and how it draws. Embedded in the parameters of every stage that asks one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The model's name at the endpoint.
    pub model: String,
    /// Which version of it: what the name does not say, as a date or a commit. Another one asks again.
    #[serde(default)]
    pub revision: String,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// Nucleus; 1 is off.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Best tokens to draw from; 0 is off.
    #[serde(default)]
    pub top_k: u32,
    /// Tokens less likely than this share of the likeliest one are not drawn; 0 is off.
    #[serde(default)]
    pub min_p: f64,
    /// Texts that end an answer.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Tokens of an answer at most.
    #[serde(default = "thousand")]
    pub max_completion_length: u32,
    /// Seed of the first draw; each further one of the same question takes the next.
    #[serde(default)]
    pub seed: u64,
    /// Further fields of the request, as they are: `grammar`, `response_format`, `reasoning_effort`.
    #[serde(default)]
    pub extra_body: BTreeMap<String, Value>,
}

fn one() -> f64 {
    1.0
}

fn thousand() -> u32 {
    1024
}

/// Fields that are the judge's own.
const OURS: [&str; 9] = ["model", "messages", "temperature", "top_p", "top_k", "min_p", "stop", "max_tokens", "seed"];

impl Judge {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, field: &str, message: String| {
            if !holds {
                problems.push(Problem::new(format!("judge.{field}"), message));
            }
        };
        demand(!self.model.trim().is_empty(), "model", "it is empty".into());
        demand(self.temperature >= 0.0, "temperature", format!("{} is less than 0", self.temperature));
        demand(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", format!("{} is not in (0, 1]", self.top_p));
        demand((0.0..=1.0).contains(&self.min_p), "min_p", format!("{} is not between 0 and 1", self.min_p));
        demand(self.max_completion_length > 0, "max_completion_length", "it is 0".into());
        for name in OURS.iter().filter(|name| self.extra_body.contains_key(**name)) {
            demand(false, "extra_body", format!("`{name}` has a parameter of its own"));
        }
        demand(!self.extra_body.contains_key("stream"), "extra_body", "answers are not streamed".into());
        problems
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What the judge reads.
    pub messages: Vec<Message>,
    /// Which draw of this question: 0 is the first.
    pub sample: u32,
}

/// What decides an answer, in this order.
#[derive(Serialize)]
struct Document<'a> {
    request: u32,
    judge: &'a Judge,
    messages: &'a [Message],
    sample: u32,
}

impl Question {
    /// What names its answer: the judge and its revision, all that decides how it draws, the rendered messages (and so
    /// the template), and which draw it is.
    pub fn document(&self, judge: &Judge) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Document { request: 1, judge, messages: &self.messages, sample: self.sample })
    }

    /// The request's body.
    pub fn body(&self, judge: &Judge) -> Value {
        let mut body = Map::new();
        body.insert("model".into(), json!(judge.model));
        body.insert("messages".into(), json!(self.messages));
        body.insert("temperature".into(), json!(judge.temperature));
        body.insert("top_p".into(), json!(judge.top_p));
        body.insert("max_tokens".into(), json!(judge.max_completion_length));
        body.insert("seed".into(), json!(judge.seed.wrapping_add(u64::from(self.sample))));
        // Not in OpenAI's own interface, which refuses what it does not know.
        if judge.top_k > 0 {
            body.insert("top_k".into(), json!(judge.top_k));
        }
        if judge.min_p > 0.0 {
            body.insert("min_p".into(), json!(judge.min_p));
        }
        if !judge.stop.is_empty() {
            body.insert("stop".into(), json!(judge.stop));
        }
        body.extend(judge.extra_body.iter().map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(body)
    }

    /// About how many tokens its prompt has: a token is some four letters of English.
    pub fn about_tokens(&self) -> u64 {
        self.messages.iter().map(|message| 4 + message.content.len() as u64 / 4).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(more: &str) -> Judge {
        toml::from_str(&format!("model = \"m\"\n{more}")).expect("a judge")
    }

    fn question(text: &str, sample: u32) -> Question {
        Question { messages: vec![Message { role: "user".into(), content: text.into() }], sample }
    }

    #[test]
    fn all_that_decides_an_answer_names_it() {
        let plain = question("q", 0).document(&judge("")).expect("a document");
        assert_eq!(plain, question("q", 0).document(&judge("temperature = 0.0")).expect("a document"));
        for other in
            ["revision = \"2\"", "temperature = 0.1", "seed = 1", "stop = [\".\"]", "extra_body.grammar = \"g\""]
        {
            assert_ne!(plain, question("q", 0).document(&judge(other)).expect("a document"), "{other}");
        }
        assert_ne!(plain, question("r", 0).document(&judge("")).expect("a document"));
        assert_ne!(plain, question("q", 1).document(&judge("")).expect("a document"));
    }

    #[test]
    fn a_body_says_what_is_set_and_draws_have_seeds_of_their_own() {
        let body = question("q", 2).body(&judge("seed = 5\ntop_k = 3\nextra_body.grammar = \"g\""));
        assert_eq!((&body["seed"], &body["top_k"], &body["grammar"]), (&json!(7), &json!(3), &json!("g")));
        assert_eq!(body.get("min_p"), None);
    }

    #[test]
    fn bad_judges_are_told_by_their_fields() {
        let judge = judge("temperature = -1.0\ntop_p = 0.0\nextra_body.seed = 1");
        let fields: Vec<String> = judge.problems().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["judge.temperature", "judge.top_p", "judge.extra_body"]);
    }
}
