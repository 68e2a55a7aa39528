//! What came back for one question: the answer, or the named state that stands in its place. Never a guess: a reply that
//! cannot be read is a failure of the call, and no verdict.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is an answer, and the judge ended it by itself.
    Answered,
    /// There is an answer, cut at the token limit.
    Truncated,
    /// The judge, or a filter before it, refused.
    Refused,
    /// The answer has no text.
    Empty,
    /// No answer came: the cause is beside it.
    Failed,
}

/// Tokens that were paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the completion, reasoning included.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What became of the question.
    pub state: State,
    /// The answer, without reasoning.
    pub text: Option<String>,
    /// What the judge thought before it answered, where the service tells.
    pub reasoning: Option<String>,
    /// Why it refused, or why no answer came.
    pub cause: Option<String>,
    /// The model that the service says it is.
    pub model: Option<String>,
    /// The service's mark of its configuration.
    pub system_fingerprint: Option<String>,
    /// Tokens.
    pub usage: Usage,
}

impl Reply {
    /// No answer came.
    pub fn failed(cause: impl Into<String>) -> Self {
        let (text, reasoning, model, system_fingerprint) = (None, None, None, None);
        let cause = Some(cause.into());
        Self { state: State::Failed, text, reasoning, cause, model, system_fingerprint, usage: Usage::default() }
    }

    /// The reply in a chat completion; an error says what is not one in it.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let choice = body["choices"].get(0).ok_or("the answer has no `choices`")?;
        let message = choice.get("message").ok_or("the answer's choice has no `message`")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (finish, refusal) = (choice["finish_reason"].as_str(), text(&message["refusal"]));
        let (thought, answer) = apart(message["content"].as_str().unwrap_or_default());
        let reasoning = text(&message["reasoning_content"]).or_else(|| text(&message["reasoning"])).or(thought);
        let state = match finish {
            _ if refusal.is_some() => State::Refused,
            Some("content_filter") => State::Refused,
            Some("length") => State::Truncated,
            _ if answer.is_empty() => State::Empty,
            _ => State::Answered,
        };
        let usage = serde_json::from_value(body["usage"].clone()).unwrap_or_default();
        Ok(Self {
            state,
            text: Some(answer).filter(|text| !text.is_empty()),
            reasoning: reasoning.filter(|text| !text.is_empty()),
            cause: refusal,
            model: text(&body["model"]),
            system_fingerprint: text(&body["system_fingerprint"]),
            usage,
        })
    }

    /// Who answered, as the service tells it.
    pub fn identity(&self) -> Option<(Option<&str>, Option<&str>)> {
        let identity = (self.model.as_deref(), self.system_fingerprint.as_deref());
        (identity != (None, None)).then_some(identity)
    }
}

/// Thoughts that stand in the answer itself, between `<think>` and its end.
fn apart(content: &str) -> (Option<String>, String) {
    let inside = content.trim_start().strip_prefix("<think>");
    match inside.and_then(|inside| inside.split_once("</think>")) {
        Some((thought, answer)) => (Some(thought.trim().to_owned()), answer.trim().to_owned()),
        None => (None, content.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(message: &str, finish: &str) -> Reply {
        let body = format!(r#"{{"choices":[{{"message":{message},"finish_reason":"{finish}"}}],"model":"m"}}"#);
        Reply::read(body.as_bytes()).expect("a reply")
    }

    #[test]
    fn every_way_to_end_is_a_state_of_its_own() {
        assert_eq!(reply(r#"{"content":"yes"}"#, "stop").state, State::Answered);
        assert_eq!(reply(r#"{"content":"ye"}"#, "length").state, State::Truncated);
        assert_eq!(reply(r#"{"content":" "}"#, "stop").state, State::Empty);
        assert_eq!(reply(r#"{"content":null}"#, "content_filter").state, State::Refused);
        let refused = reply(r#"{"content":null,"refusal":"no"}"#, "stop");
        assert_eq!((refused.state, refused.cause.as_deref()), (State::Refused, Some("no")));
    }

    #[test]
    fn reasoning_is_kept_apart_from_the_answer() {
        for message in [
            r#"{"content":"A","reasoning_content":"b"}"#,
            r#"{"content":"A","reasoning":"b"}"#,
            r#"{"content":"<think>b</think>A"}"#,
        ] {
            let reply = reply(message, "stop");
            assert_eq!((reply.text.as_deref(), reply.reasoning.as_deref()), (Some("A"), Some("b")), "{message}");
        }
    }

    #[test]
    fn what_is_no_completion_is_told() {
        assert_eq!(Reply::read(b"{}").expect_err("no reply"), "the answer has no `choices`");
        assert!(Reply::read(b"{\"cho").expect_err("no reply").starts_with("the answer is no JSON"));
    }
}
