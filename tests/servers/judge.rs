//! A judge behind the chat-completions interface that a scenario lets go wrong: it refuses, stumbles, dawdles, breaks off
//! and talks nonsense on demand, and counts what it is asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::web::{Answer, Request, Server};

/// How one request goes wrong.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Too many, with the seconds to wait.
    TooMany(&'static str),
    /// A status of the server's own trouble.
    Status(u16),
    /// The line is cut in the middle of the answer.
    Cut,
    /// Half of the JSON, told as all of it.
    HalfJson,
    /// An answer without text.
    Empty,
    /// A refusal in the field for it.
    Refusal,
    /// Cut at the token limit.
    Truncated,
    /// Another configuration answers.
    Changed,
    /// No answer, ever.
    Hold,
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    asked: Vec<Value>,
    /// The header that every request needs.
    key: Option<String>,
}

/// A running judge.
pub struct Judge {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Judge {
    /// A judge that prefers the first answer.
    pub fn start() -> Judge {
        let state: Arc<Mutex<State>> = Arc::default();
        let held = state.clone();
        Judge { server: Server::start(move |request| answer(&held, request)), state }
    }

    /// Its address, as `run.endpoint.url` has it.
    pub fn url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// The next requests go wrong like this.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults = faults.into_iter().collect();
    }

    /// Demands this key.
    pub fn demand(&self, key: &str) {
        self.state.lock().unwrap().key = Some(format!("Bearer {key}"));
    }

    /// The bodies of what was asked since the last call.
    pub fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// How often it was asked since the last `asked`.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Answer {
    let (fault, denied) = {
        let mut state = state.lock().unwrap();
        state.asked.push(serde_json::from_slice(&request.body).unwrap_or(Value::Null));
        let denied = state.key.is_some() && state.key.as_ref() != request.headers.get("authorization");
        (state.faults.pop_front(), denied)
    };
    if request.path != "/v1/chat/completions" || request.method != "POST" {
        return Answer::status(404);
    }
    if denied {
        return Answer::status(401);
    }
    let said = |content: Value, refusal: Value, finish: &str, fingerprint: &str| {
        let choice = json!({ "index": 0, "finish_reason": finish,
            "message": { "role": "assistant", "content": content, "refusal": refusal } });
        let body = json!({ "id": "1", "object": "chat.completion", "model": "judge-1", "choices": [choice],
            "system_fingerprint": fingerprint, "usage": { "prompt_tokens": 100, "completion_tokens": 20 } });
        Answer { status: 200, headers: Vec::new(), body: body.to_string().into_bytes(), cut: None }
    };
    let verdict = json!("<think>It is shorter.</think>The first one does what was asked. \\boxed{A}");
    let plain = said(verdict.clone(), Value::Null, "stop", "fp-1");
    match fault {
        None => plain,
        Some(Fault::TooMany(wait)) => Answer::status(429).with("Retry-After", wait),
        Some(Fault::Status(status)) => Answer::status(status),
        Some(Fault::Cut) => plain.cut(40),
        Some(Fault::HalfJson) => Answer { body: plain.body[..40].to_vec(), ..plain },
        Some(Fault::Empty) => said(json!(""), Value::Null, "stop", "fp-1"),
        Some(Fault::Refusal) => said(Value::Null, json!("I do not compare people."), "stop", "fp-1"),
        Some(Fault::Truncated) => said(json!("The first one does"), Value::Null, "length", "fp-1"),
        Some(Fault::Changed) => said(verdict, Value::Null, "stop", "fp-2"),
        Some(Fault::Hold) => loop {
            // The line ends with whoever holds it.
            std::thread::park();
        },
    }
}
