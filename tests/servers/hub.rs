//! A hub on loopback: the part of the Hugging Face hub's HTTP API that fetching files needs, as its documentation and
//! the client `huggingface_hub` (which downloads from this one in a scenario) have it. Large files are redirected to
//! another host, where no token must arrive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::Digest as _;

use super::web::{Answer, Request, Server};

/// Files on one page of a list.
const PAGE: usize = 2;

/// What the hub holds and how it misbehaves.
#[derive(Default)]
struct State {
    /// By `models/owner/name`: the commits in order, each with its files.
    repositories: BTreeMap<String, Vec<Commit>>,
    /// The token that every request needs.
    token: Option<String>,
    /// Statuses to answer with first, then as usual.
    troubles: Vec<u16>,
    /// The next large file is cut after so many bytes.
    cut: Option<usize>,
    /// Large files come with a flipped bit.
    damaged: bool,
    /// The host that a list goes on at; else this one.
    next_host: Option<String>,
}

/// A running hub.
pub struct Hub {
    /// Answers for the hub itself.
    pub server: Server,
    /// Answers for its large files.
    pub store: Server,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// An empty hub.
    pub fn start() -> Hub {
        let state: Arc<Mutex<State>> = Arc::default();
        let held = state.clone();
        let store = Server::start(move |request| large(&mut held.lock().unwrap(), request));
        let (held, url) = (state.clone(), store.url());
        let server = Server::start(move |request| answer(&mut held.lock().unwrap(), request, &url));
        Hub { server, store, state }
    }

    /// Adds a commit to the `main` of `models/owner/name` (or `datasets/…`) and returns its id.
    pub fn commit(&self, repository: &str, files: &[(&str, &[u8])]) -> String {
        let mut state = self.state.lock().unwrap();
        let commits = state.repositories.entry(repository.into()).or_default();
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let id = hex(&sha1::Sha1::digest(format!("{repository} {} {files:?}", commits.len())));
        commits.push((id.clone(), files));
        id
    }

    /// From now on every request needs this token.
    pub fn ask_for(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.into());
    }

    /// The next answers.
    pub fn trouble(&self, statuses: &[u16]) {
        self.state.lock().unwrap().troubles = statuses.to_vec();
    }

    /// The next large file is cut.
    pub fn cut(&self, after: usize) {
        self.state.lock().unwrap().cut = Some(after);
    }

    /// Large files are wrong, or right again.
    pub fn damage(&self, damaged: bool) {
        self.state.lock().unwrap().damaged = damaged;
    }

    /// From now on its lists go on at another host.
    pub fn send_lists_to(&self, host: &str) {
        self.state.lock().unwrap().next_host = Some(host.into());
    }

    /// What was asked of the hub and of its store since the last call.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.server.asked();
        asked.extend(self.store.asked());
        asked
    }
}

fn answer(state: &mut State, request: &Request, store: &str) -> Answer {
    if !state.troubles.is_empty() {
        return Answer::status(state.troubles.remove(0)).with("Retry-After", "0");
    }
    let allowed = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if allowed.is_some() && request.headers.get("authorization") != allowed.as_ref() {
        return refusal(401, "RepoNotFound", "Invalid username or password.");
    }
    let path = request.path.split('?').next().unwrap().trim_start_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["api", kind @ ("models" | "datasets"), owner, name, "revision", revision] => {
            info(state, &format!("{kind}/{owner}/{name}"), revision)
        }
        ["api", kind @ ("models" | "datasets"), owner, name, "tree", revision] => {
            tree(state, request, &format!("{kind}/{owner}/{name}"), revision)
        }
        ["api", kind @ ("models" | "datasets"), owner, name] => info(state, &format!("{kind}/{owner}/{name}"), "main"),
        ["datasets", owner, name, "resolve", revision, file @ ..] => {
            resolve(state, request, store, &format!("datasets/{owner}/{name}"), revision, &file.join("/"))
        }
        [owner, name, "resolve", revision, file @ ..] => {
            resolve(state, request, store, &format!("models/{owner}/{name}"), revision, &file.join("/"))
        }
        _ => Answer::status(404),
    }
}

type Commit = (String, BTreeMap<String, Vec<u8>>);

fn find<'s>(state: &'s State, repository: &str, revision: &str) -> Result<&'s Commit, Answer> {
    let commits = state.repositories.get(repository);
    let commits = commits.ok_or_else(|| refusal(404, "RepoNotFound", "Repository not found"))?;
    let found = match revision {
        "main" => commits.last(),
        _ => commits.iter().find(|(id, _)| id == revision),
    };
    found.ok_or_else(|| refusal(404, "RevisionNotFound", "Invalid rev id"))
}

fn info(state: &State, repository: &str, revision: &str) -> Answer {
    let (id, files) = match find(state, repository, revision) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
    let name = repository.split_once('/').unwrap().1;
    let body = json!({ "id": name, "_id": "0", "sha": id, "private": false, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings });
    Answer { status: 200, headers: Vec::new(), body: body.to_string().into_bytes(), cut: None }
        .with("Content-Type", "application/json")
}

/// The list of a revision's files, page by page: the cursor is the number of the first one.
fn tree(state: &State, request: &Request, repository: &str, revision: &str) -> Answer {
    let files = match find(state, repository, revision) {
        Ok((_, files)) => files,
        Err(answer) => return answer,
    };
    let entry = |(name, bytes): (&String, &Vec<u8>)| {
        let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git_name(bytes) });
        if is_large(name) {
            entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
        }
        entry
    };
    let (list, cursor) = request.path.split_once("&cursor=").unwrap_or((&request.path, "0"));
    let from: usize = cursor.parse().unwrap();
    let page = files.iter().skip(from).take(PAGE).map(entry).collect();
    let body = Value::Array(page).to_string().into_bytes();
    let answer = Answer { status: 200, headers: Vec::new(), body, cut: None }.with("Content-Type", "application/json");
    if from + PAGE >= files.len() {
        return answer;
    }
    let host = state.next_host.as_ref().unwrap_or(&request.headers["host"]);
    answer.with("Link", format!("<http://{host}{list}&cursor={}>; rel=\"next\"", from + PAGE))
}

fn resolve(state: &State, request: &Request, store: &str, repository: &str, revision: &str, file: &str) -> Answer {
    let (id, files) = match find(state, repository, revision) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let Some(bytes) = files.get(file) else {
        return refusal(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", id);
    };
    if !is_large(file) {
        return Answer::file(request, bytes, &format!("\"{}\"", git_name(bytes))).with("X-Repo-Commit", id);
    }
    Answer::status(302)
        .with("Location", format!("{store}/{}", sha256(bytes)))
        .with("X-Repo-Commit", id)
        .with("X-Linked-Etag", format!("\"{}\"", sha256(bytes)))
        .with("X-Linked-Size", bytes.len().to_string())
}

fn large(state: &mut State, request: &Request) -> Answer {
    if request.headers.contains_key("authorization") {
        return Answer::status(400);
    }
    let wanted = request.path.trim_start_matches('/');
    let mut files = state.repositories.values().flatten().flat_map(|(_, files)| files.values());
    let Some(mut bytes) = files.rfind(|bytes| sha256(bytes) == wanted).cloned() else {
        return Answer::status(404);
    };
    if state.damaged {
        bytes[0] ^= 1;
    }
    let answer = Answer::file(request, &bytes, "\"the-store-has-its-own\"");
    match state.cut.take() {
        Some(after) => answer.cut(after),
        None => answer,
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::status(status).with("X-Error-Code", code).with("X-Error-Message", message)
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn git_name(bytes: &[u8]) -> String {
    let hasher = sha1::Sha1::new().chain_update(format!("blob {}\0", bytes.len()));
    hex(&hasher.chain_update(bytes).finalize())
}

/// SHA-256 as lowercase hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
