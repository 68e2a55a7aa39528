//! Asking servers: one client, redirects that keep secrets to their host, retries with backoff, and errors that say
//! what to do. Knows no kind of source, and never shows a credential.

use std::future::Future;
use std::time::Duration;

use plumb_cache::CacheError;
use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};

use super::place::without_secrets;

/// Attempts in a row that bring nothing new before plumb gives up.
const ATTEMPTS: u32 = 5;
/// The first pause; each following one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 10;
const USER_AGENT: &str = concat!("plumb/", env!("CARGO_PKG_VERSION"));

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// What was asked for, and what came of it.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// What kind of failure it is.
    pub kind: Failure,
    /// The cache's error, where that is what failed.
    pub cache: Option<Box<CacheError>>,
}

/// What may help against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The server was not reached, or the line broke: trying again may help.
    Line,
    /// The server asks for patience, perhaps for so long.
    Busy(Option<Duration>),
    /// The server says no, with this status.
    Refused(u16),
    /// What came is not what was promised.
    Wrong,
}

impl FetchError {
    /// Something came, and is wrong.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::new(message, Failure::Wrong)
    }

    /// Of a kind.
    pub fn new(message: impl Into<String>, kind: Failure) -> Self {
        Self { message: message.into(), hint: None, kind, cache: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The line failed on the way to or from this address.
    pub fn line(url: &Url, error: &reqwest::Error) -> Self {
        let mut why = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        let message = format!("`{}` cannot be reached: {why}", without_secrets(url));
        let hint = "check the address and the network; behind a proxy, set `HTTPS_PROXY`, and `NO_PROXY` for hosts of your own";
        Self::new(message, Failure::Line).hint(hint)
    }

    /// The server answered with a status that is no success.
    pub fn status(url: &Url, status: StatusCode, headers: &HeaderMap) -> Self {
        let message = format!("`{}` answers {status}", without_secrets(url));
        let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let busy = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        let hint = match status.as_u16() {
            401 | 403 => Some("it asks for a credential: name the variable that holds one, as `secret = \"VARIABLE\"`"),
            404 | 410 => Some("nothing is there: check the address"),
            429 => Some("the server limits how often it is asked: try again later, or with a credential of your own"),
            _ if busy => Some("the server is in trouble: try again later"),
            _ => None,
        };
        let kind = if busy { Failure::Busy(wait.map(Duration::from_secs)) } else { Failure::Refused(status.as_u16()) };
        Self { hint: hint.map(Into::into), ..Self::new(message, kind) }
    }
}

/// Waits for network work from anywhere: on a thread and a runtime of its own, since planning may happen inside a
/// runtime, which must not be blocked in.
pub fn wait<T: Send>(work: impl Future<Output = T> + Send) -> Result<T, FetchError> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| FetchError::wrong(format!("no runtime: {error}")))?;
        Ok(runtime.block_on(work))
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Chooses who does the cryptography of TLS, for every client of this process.
pub fn install_tls() {
    // The second time it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client. It belongs to the runtime that it is first used in.
pub fn client() -> Result<Client, FetchError> {
    install_tls();
    let built = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .build();
    built.map_err(|error| FetchError::wrong(format!("no network client: {error}")))
}

/// One question to a server.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where.
    pub url: Url,
    /// With which headers.
    pub headers: HeaderMap,
    /// What says who asks: never sent to another host than `url`'s.
    pub authorization: Option<HeaderValue>,
}

impl Request {
    /// A request without headers.
    pub fn new(url: Url) -> Self {
        Self { url, headers: HeaderMap::new(), authorization: None }
    }

    /// With a bearer token, which is marked so that nothing prints it.
    pub fn bearer(mut self, token: Option<&str>) -> Self {
        let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok());
        self.authorization = value.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        self
    }

    /// The answer, redirects followed, and the headers of the first one, in which a hub tells what it redirects to.
    /// Any status may come.
    pub async fn send(&self, client: &Client) -> Result<(Response, HeaderMap), FetchError> {
        let mut url = self.url.clone();
        let mut first = None;
        for _ in 0..REDIRECTS {
            let mut request = client.get(url.clone()).headers(self.headers.clone());
            if let Some(authorization) = self.authorization.as_ref().filter(|_| same_host(&url, &self.url)) {
                request = request.header("authorization", authorization);
            }
            let response = request.send().await.map_err(|error| FetchError::line(&url, &error))?;
            let headers = first.get_or_insert_with(|| response.headers().clone()).clone();
            let onward = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(onward) = onward.and_then(|location| url.join(location.to_str().ok()?).ok()) else {
                return Ok((response, headers));
            };
            url = onward;
        }
        Err(FetchError::wrong(format!("`{}` redirects more than {REDIRECTS} times", without_secrets(&self.url))))
    }
}

/// Of an `http` address a credential may go on to the same host's `https`, and to no other host or port.
pub fn same_host(one: &Url, other: &Url) -> bool {
    one.host() == other.host() && one.port_or_known_default() == other.port_or_known_default()
}

/// Counts attempts, and pauses between them.
#[derive(Debug)]
pub struct Patience {
    failed: u32,
    most: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { failed: 0, most: ATTEMPTS }
    }
}

impl Patience {
    /// One attempt: there is another way.
    pub fn short() -> Self {
        Self { failed: 0, most: 1 }
    }

    /// Something new has come: the count starts again.
    pub fn renew(&mut self) {
        self.failed = 0;
    }

    /// After a failure: waits for the next attempt, or gives the error back where another would be in vain.
    pub async fn after(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.failed += 1;
        let asked = match error.kind {
            Failure::Line => None,
            Failure::Busy(asked) => asked,
            Failure::Refused(_) | Failure::Wrong => return Err(error),
        };
        if self.failed >= self.most {
            let told = if self.most > 1 { format!(" (after {} attempts)", self.most) } else { String::new() };
            return Err(FetchError { message: format!("{}{told}", error.message), ..error });
        }
        tracing::debug!("{error}; attempt {} follows", self.failed + 1);
        let pause = asked.unwrap_or(PAUSE * 2u32.pow(self.failed - 1));
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        Ok(())
    }
}
