//! What is asked of a hub, as its HTTP API documents it: the files of a revision, and one file. Touches no disk but the
//! token's.

use std::path::PathBuf;

use reqwest::header::{ETAG, HeaderMap, LINK};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::address::Address;
use super::local;
use crate::source::network::{self, Failure, FetchError, Patience, Request};
use crate::source::place::without_secrets;

/// The hub that is asked when nothing else is said.
const HUB: &str = "https://huggingface.co";

/// Pages of a list before plumb takes a hub for one that never ends; the hub's hold a thousand files.
const PAGES: usize = 10_000;

/// Asks one hub about one repository.
pub struct Api {
    client: Client,
    address: Address,
    token: Option<String>,
    base: Url,
}

/// A file of a revision.
#[derive(Debug, Clone)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// Its length, where the hub tells it in the list.
    pub size: Option<u64>,
    /// What the hub calls its bytes: SHA-256 of a large file, git's name of a small one.
    pub etag: Option<String>,
}

#[derive(Deserialize)]
struct RevisionInfo {
    sha: String,
}

/// One line of the list of a commit's files.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: Option<String>,
    size: Option<u64>,
}

/// `HF_ENDPOINT`, or the hub.
pub fn endpoint() -> String {
    let set = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    set.unwrap_or_else(|| HUB.into()).trim_end_matches('/').to_owned()
}

/// `HF_HUB_OFFLINE`, as `huggingface_hub` reads it.
pub fn is_offline() -> bool {
    let yes = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().any(|name| std::env::var(name).is_ok_and(yes))
}

impl Api {
    /// For one repository.
    pub fn new(address: &Address) -> Result<Api, FetchError> {
        let endpoint = endpoint();
        let base = Url::parse(&endpoint).ok().filter(|url| !url.cannot_be_a_base());
        let base = base.ok_or_else(|| FetchError::wrong(format!("`HF_ENDPOINT={endpoint}` is no address")))?;
        Ok(Api { client: network::client()?, address: address.clone(), token: token(), base })
    }

    /// The client that asks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The commit of a revision. Where the revision is on this machine, one attempt is enough.
    pub async fn commit(&self, revision: &str) -> Result<String, FetchError> {
        let here = local::Snapshot::of_revision(&self.address, revision)?.is_some();
        let patience = if here { Patience::short() } else { Patience::default() };
        let (info, _): (RevisionInfo, _) = self.json(self.api_url("revision", revision)?, patience).await?;
        match super::address::is_commit(&info.sha) {
            true => Ok(info.sha),
            false => Err(FetchError::wrong(format!("`{}` is no hub: it tells no commit", endpoint()))),
        }
    }

    /// The files of a commit, page by page.
    pub async fn files(&self, commit: &str) -> Result<Vec<RemoteFile>, FetchError> {
        let mut url = self.api_url("tree", commit)?;
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        for _ in 0..PAGES {
            let (page, headers): (Vec<Listed>, _) = self.json(url.clone(), Patience::default()).await?;
            files.extend(page.into_iter().filter(|listed| listed.kind == "file").map(RemoteFile::from));
            match self.next_page(&headers, &url)? {
                Some(next) => url = next,
                None => return all_inside(files),
            }
        }
        Err(FetchError::wrong(format!("the hub's list of `{}` does not end after {PAGES} pages", self.address)))
    }

    /// Where a page says that the next one is: `Link: <…>; rel="next"`. The token must not follow it elsewhere.
    fn next_page(&self, headers: &HeaderMap, here: &Url) -> Result<Option<Url>, FetchError> {
        let next = |link: &str| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = parameters.split(';').any(|parameter| parameter.trim().replace('"', "") == "rel=next");
            is_next.then(|| here.join(target).ok())?
        };
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        match links.flat_map(|links| links.split(',')).find_map(next) {
            Some(next) if !network::same_host(&next, &self.base) => {
                let shown = without_secrets(&next);
                Err(FetchError::wrong(format!(
                    "the hub's list of `{}` goes on at another host: `{shown}`",
                    self.address
                )))
            }
            next => Ok(next),
        }
    }

    fn api_url(&self, what: &str, revision: &str) -> Result<Url, FetchError> {
        self.url(["api"].into_iter().chain(self.address.repository().split('/')).chain([what, revision]))
    }

    async fn json<T: DeserializeOwned>(&self, url: Url, mut patience: Patience) -> Result<(T, HeaderMap), FetchError> {
        let request = Request::new(url).bearer(self.token.as_deref());
        loop {
            match self.json_once(&request).await {
                Ok(told) => return Ok(told),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    async fn json_once<T: DeserializeOwned>(&self, request: &Request) -> Result<(T, HeaderMap), FetchError> {
        let (response, _) = self.asked(request).await?;
        let headers = response.headers().clone();
        let bytes = response.bytes().await.map_err(|error| FetchError::line(&request.url, &error))?;
        let told = serde_json::from_slice(&bytes)
            .map_err(|error| FetchError::wrong(format!("`{}` does not answer as a hub does: {error}", request.url)))?;
        Ok((told, headers))
    }

    /// What the hub calls a file's bytes, where its list did not say.
    pub async fn etag(&self, commit: &str, name: &str) -> Result<String, FetchError> {
        let request = self.resolve(commit, name)?;
        let mut patience = Patience::default();
        loop {
            match self.asked(&request).await {
                Ok((_, first)) => {
                    let untold = || FetchError::wrong(format!("`{}` comes without an ETag", request.url));
                    return etag_of(&first).ok_or_else(untold);
                }
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// The request for a file.
    pub fn resolve(&self, commit: &str, name: &str) -> Result<Request, FetchError> {
        let repository = self.address.repository();
        // A model's files have no `models/` in front.
        let parts = repository.strip_prefix("models/").unwrap_or(&repository);
        let url = self.url(parts.split('/').chain(["resolve", commit]).chain(name.split('/')))?;
        Ok(Request::new(url).bearer(self.token.as_deref()))
    }

    async fn asked(&self, request: &Request) -> Result<(reqwest::Response, HeaderMap), FetchError> {
        let (response, first) = request.send(&self.client).await?;
        if response.status().is_success() {
            return Ok((response, first));
        }
        let error = FetchError::status(&request.url, response.status(), response.headers());
        let code = first.get("x-error-code").and_then(|code| code.to_str().ok());
        Err(self.explain_as(error, code))
    }

    /// A refusal in the hub's terms.
    pub fn explain(&self, error: FetchError) -> FetchError {
        self.explain_as(error, None)
    }

    fn explain_as(&self, error: FetchError, code: Option<&str>) -> FetchError {
        let Failure::Refused(status) = error.kind else { return error };
        let Address { name, revision, .. } = &self.address;
        let (message, hint) = match (status, code) {
            (_, Some("RevisionNotFound")) => {
                let hint = "see its branches, tags and commits on the hub's page of the repository";
                (format!("`{name}` has no revision `{revision}`"), hint.to_owned())
            }
            (_, Some("EntryNotFound")) => (format!("`{}` is not there", self.address), "check the path".into()),
            (403, Some("GatedRepo")) | (401, Some("GatedRepo")) => {
                (format!("`{name}` is gated"), "ask for access on its page, then set `HF_TOKEN`".into())
            }
            (401 | 403 | 404, _) if self.token.is_none() => (
                format!("the hub shows no `{name}` to somebody unknown ({})", error.message),
                "check the name; if it is private or gated, set `HF_TOKEN` or type `hf auth login`".into(),
            ),
            (401 | 403 | 404, _) => (
                format!("the hub shows no `{name}` to the owner of this token ({})", error.message),
                "check the name, and what the token in `HF_TOKEN` may read".into(),
            ),
            _ => return error,
        };
        FetchError { message, hint: Some(hint), ..error }
    }

    fn url<'p>(&self, parts: impl Iterator<Item = &'p str>) -> Result<Url, FetchError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| FetchError::wrong(format!("`{}` is no address", endpoint())))?
            .pop_if_empty()
            .extend(parts);
        Ok(url)
    }
}

/// The ETag that a hub's first answer tells: that of the file, not of a redirect or of a store behind it. One that
/// could not be a file's name is none.
pub fn etag_of(first: &HeaderMap) -> Option<String> {
    let told = first.get("x-linked-etag").or_else(|| first.get(ETAG))?.to_str().ok()?;
    let etag = told.trim_start_matches("W/").trim_matches('"');
    let plain = etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (plain && !etag.is_empty()).then(|| etag.to_owned())
}

impl From<Listed> for RemoteFile {
    fn from(listed: Listed) -> Self {
        let Listed { path: name, oid, size, lfs, .. } = listed;
        match lfs {
            Some(Lfs { oid: Some(sha256), size: length }) => Self { name, size: length.or(size), etag: Some(sha256) },
            _ => Self { name, size, etag: oid },
        }
    }
}

/// A hub's word must not lead out of the folder.
fn all_inside(files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>, FetchError> {
    match files.iter().find(|file| file.name.split('/').any(|part| matches!(part, "" | "." | ".."))) {
        Some(file) => {
            Err(FetchError::wrong(format!("the hub names a file `{}`, which leads out of its folder", file.name)))
        }
        None => Ok(files),
    }
}

/// `HF_TOKEN`, else what `hf auth login` left.
fn token() -> Option<String> {
    let set = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| {
        let token = std::env::var(name).ok()?;
        (!token.trim().is_empty()).then_some(token)
    });
    let path = std::env::var_os("HF_TOKEN_PATH").map(PathBuf::from);
    let kept = || std::fs::read_to_string(path.or_else(|| Some(local::home()?.join("token")))?).ok();
    set.or_else(kept).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}
