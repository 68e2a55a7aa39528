//! A file behind an `http` or `https` address. What is there may change at any time, so it is asked for with one
//! conditional request; only what is new is downloaded. Knows no hub and no bucket.

use plumb_cache::{Fetched, Store};
use reqwest::Url;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use sha2::{Digest as _, Sha256};

use super::Known;
use super::checksum;
use super::download::{Came, Download, Progress, hold};
use super::network::{self, FetchError, Request};
use super::place::without_secrets;

/// A web address as a source.
pub struct Web<'a> {
    /// Where.
    pub url: &'a Url,
    /// What the pipeline file says its SHA-256 is.
    pub sha256: Option<&'a str>,
    /// The variable that holds a token for it.
    pub secret: Option<&'a str>,
}

impl Web<'_> {
    /// What is there now; its bytes are in the cache afterwards.
    pub fn look(&self, store: &Store, progress: Progress<'_>) -> Result<Known, FetchError> {
        let name = match self.sha256 {
            Some(sha256) => format!("sha256 {sha256}"),
            None => format!("http {}", self.url),
        };
        let recall = || store.recall(&name).filter(|last| store.present(&last.artifact));
        if let Some(last) = recall().filter(|_| self.sha256.is_some()) {
            return Ok(Known::fetched(last));
        }
        let partial = store.partial(&name).map_err(super::in_cache)?;
        let _held = hold(&partial.with_extension("lock"))?;
        // Whoever held it before may have brought it.
        network::wait(self.fetch(store, &name, &partial, recall(), progress))?
    }

    async fn fetch(
        &self,
        store: &Store,
        name: &str,
        partial: &std::path::Path,
        last: Option<Fetched>,
        mut progress: Progress<'_>,
    ) -> Result<Known, FetchError> {
        let mut request = Request::new(self.url.clone()).bearer(self.token()?.as_deref());
        if let Some((header, value)) = last.as_ref().and_then(|last| condition(&last.version)) {
            request.headers.insert(header, value);
        }
        let download = Download { request, partial, immutable: false };
        let headers = match (download.run(&network::client()?, &mut progress).await?, last) {
            (Came::Unchanged, Some(last)) => return Ok(Known::fetched(last)),
            (Came::Unchanged, None) => {
                return Err(FetchError::wrong(format!("`{}` answers 304 to no condition", without_secrets(self.url))));
            }
            (Came::Whole(_, headers), _) => headers,
        };
        if let Some(expected) = self.sha256 {
            let found = checksum::of_file(partial, Sha256::new())?;
            if found != expected {
                download.forget()?;
                let shown = without_secrets(self.url);
                return Err(FetchError::wrong(format!("`{shown}` has the SHA-256 {found}, not {expected}"))
                    .hint("correct `sha256`, or find out who changed the file"));
            }
        }
        let version = version(&headers).unwrap_or_else(|| {
            progress.warn(format!(
                "`{}` tells neither an ETag nor a date, so it is downloaded for every plan until `plumb lock` pins it",
                without_secrets(self.url)
            ));
            String::new()
        });
        let artifact = store.take_in(partial).map_err(super::in_cache)?;
        download.forget()?;
        let fetched = Fetched { about: without_secrets(self.url), version, artifact };
        store.remember(name, &fetched).map_err(super::in_cache)?;
        progress.finish();
        let changed_at = headers.get(LAST_MODIFIED).and_then(|date| date.to_str().ok().map(str::to_owned));
        Ok(Known { changed_at, ..Known::fetched(fetched) })
    }

    fn token(&self) -> Result<Option<String>, FetchError> {
        let Some(name) = self.secret else { return Ok(None) };
        let missing = || FetchError::wrong(format!("the variable `{name}` that `secret` names is not set"));
        std::env::var(name).map(Some).map_err(|_| missing().hint(format!("export {name}=…")))
    }
}

/// `etag:…` or `date:…`.
fn version(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
    text(ETAG).map(|etag| format!("etag:{etag}")).or_else(|| text(LAST_MODIFIED).map(|date| format!("date:{date}")))
}

fn condition(version: &str) -> Option<(HeaderName, HeaderValue)> {
    let (header, value) = match version.split_once(':')? {
        ("etag", etag) => (IF_NONE_MATCH, etag),
        ("date", date) => (IF_MODIFIED_SINCE, date),
        _ => return None,
    };
    Some((header, HeaderValue::from_str(value).ok()?))
}
