//! Bytes of one remote file into one file on disk: goes on where an earlier attempt was cut, this process's or another
//! one's, and tells how far it is. Never says a file is complete that is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};

use super::network::{Failure, FetchError, Patience, Request};
use super::place::without_secrets;
use crate::clock::Stopwatch;
use crate::event::Event;

/// At most so often is progress told.
const OFTEN: Duration = Duration::from_millis(200);

/// Who listens to what is fetched.
pub type Tell<'a> = &'a (dyn Fn(&Event) + Sync);

/// How far the fetching of one source is.
pub struct Progress<'a> {
    tell: Tell<'a>,
    source: &'a str,
    from: String,
    watch: Stopwatch,
    told: Duration,
    /// Bytes of earlier files and of this one.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

impl<'a> Progress<'a> {
    /// Of a source, from an address as it may be shown.
    pub fn new(tell: Tell<'a>, source: &'a str, from: String) -> Self {
        Self { tell, source, from, watch: Stopwatch::start(), told: Duration::ZERO, done: 0, total: None }
    }

    /// So many more bytes are there.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = self.watch.elapsed();
        if now.saturating_sub(self.told) >= OFTEN {
            self.told = now;
            let (source, from) = (self.source.to_owned(), self.from.clone());
            (self.tell)(&Event::Fetching { source, from, done: self.done, total: self.total });
        }
    }

    /// Something that people should know.
    pub fn warn(&self, message: String) {
        (self.tell)(&Event::Warning { message });
    }

    /// All is there.
    pub fn finish(self) {
        let Self { source, from, done, .. } = self;
        (self.tell)(&Event::Fetched { source: source.to_owned(), from, bytes: done, took: self.watch.elapsed() });
    }
}

/// One file on its way.
pub struct Download<'a> {
    /// What is asked.
    pub request: Request,
    /// Where the bytes go.
    pub partial: &'a Path,
    /// Whether the address names these very bytes for ever, so that a part of them stays a part of them.
    pub immutable: bool,
}

/// What a download brought.
pub enum Came {
    /// The whole file is at `partial`; the headers of the first answer, and of the last.
    Whole(HeaderMap, HeaderMap),
    /// The server says that nothing changed since the state that `If-None-Match` named.
    Unchanged,
}

impl Download<'_> {
    /// Downloads until the file is whole.
    pub async fn run(&self, client: &Client, progress: &mut Progress<'_>) -> Result<Came, FetchError> {
        let mut patience = Patience::default();
        let earlier = progress.done;
        loop {
            let before = length(self.partial);
            match self.attempt(client, progress).await {
                Ok(came) => return Ok(came),
                Err(error) => {
                    if length(self.partial) > before {
                        patience.renew();
                    }
                    progress.done = earlier;
                    patience.after(error).await?;
                }
            }
        }
    }

    async fn attempt(&self, client: &Client, progress: &mut Progress<'_>) -> Result<Came, FetchError> {
        let mut request = self.request.clone();
        let have = self.resume(&mut request.headers);
        let (response, first) = request.send(client).await?;
        let status = response.status();
        match status {
            StatusCode::NOT_MODIFIED => return Ok(Came::Unchanged),
            // What we have is not a part of what is there: from the start.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                self.forget()?;
                return Err(FetchError::new("the part that was there does not fit", Failure::Line));
            }
            _ if !status.is_success() => {
                return Err(FetchError::status(&self.request.url, status, response.headers()));
            }
            _ => {}
        }
        let goes_on = status == StatusCode::PARTIAL_CONTENT && starts_at(response.headers(), have);
        if !goes_on && status == StatusCode::PARTIAL_CONTENT {
            self.forget()?;
            return Err(FetchError::wrong(format!("`{}` sends another part than was asked for", self.shown())));
        }
        let last = response.headers().clone();
        self.keep_validator(&last)?;
        self.save(response, goes_on, progress).await?;
        Ok(Came::Whole(first, last))
    }

    /// Asks for the rest of what is there, if that can be told to be a part of the same file; says how much is there.
    fn resume(&self, headers: &mut HeaderMap) -> u64 {
        let have = length(self.partial);
        let validator = fs::read(self.validator()).ok().and_then(|text| HeaderValue::from_bytes(&text).ok());
        if have == 0 || !(self.immutable || validator.is_some()) {
            return 0;
        }
        if let (Some(validator), false) = (validator, self.immutable) {
            headers.insert(IF_RANGE, validator);
        }
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-")) {
            headers.insert(RANGE, range);
            headers.remove(reqwest::header::IF_NONE_MATCH);
            headers.remove(reqwest::header::IF_MODIFIED_SINCE);
        }
        have
    }

    /// Beside the part: what the server calls the file that it is a part of. A weak ETag promises too little.
    fn keep_validator(&self, headers: &HeaderMap) -> Result<(), FetchError> {
        let strong = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
        match strong.or_else(|| headers.get(LAST_MODIFIED)) {
            Some(validator) if !self.immutable => self.disk(fs::write(self.validator(), validator.as_bytes())),
            _ => remove(&self.validator()),
        }
    }

    async fn save(&self, mut response: Response, goes_on: bool, progress: &mut Progress<'_>) -> Result<(), FetchError> {
        let opened = match goes_on {
            true => OpenOptions::new().append(true).open(self.partial),
            false => File::create(self.partial),
        };
        let mut file = self.disk(opened)?;
        let have = if goes_on { length(self.partial) } else { 0 };
        if progress.total.is_none() {
            progress.total = response.content_length().map(|length| progress.done + have + length);
        }
        progress.add(have);
        loop {
            let chunk = response.chunk().await.map_err(|error| FetchError::line(&self.request.url, &error))?;
            let Some(chunk) = chunk else { return self.disk(file.flush()) };
            self.disk(file.write_all(&chunk))?;
            progress.add(chunk.len() as u64);
        }
    }

    /// Takes away what has come so far.
    pub fn forget(&self) -> Result<(), FetchError> {
        remove(self.partial)?;
        remove(&self.validator())
    }

    fn validator(&self) -> PathBuf {
        beside(self.partial, ".etag")
    }

    fn disk<T>(&self, done: io::Result<T>) -> Result<T, FetchError> {
        done.map_err(|error| on_disk("write", self.partial, &error))
    }

    fn shown(&self) -> String {
        without_secrets(&self.request.url)
    }
}

/// What has come of a file so far.
pub fn length(partial: &Path) -> u64 {
    fs::metadata(partial).map_or(0, |metadata| metadata.len())
}

/// Takes a file away that may not be there.
pub fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on_disk("remove", path, &error)),
        _ => Ok(()),
    }
}

/// The path with a suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file of the download's own failed.
pub fn on_disk(doing: &str, path: &Path, error: &io::Error) -> FetchError {
    FetchError::wrong(format!("{doing} `{}`: {error}", path.display()))
}

fn starts_at(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(have)
}

/// Holds a name while its download goes on: another process waits here, and then finds it done.
pub fn hold(path: &Path) -> Result<File, FetchError> {
    let failed = |error: io::Error| on_disk("lock", path, &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}
