//! Asking a layer's store: again where that may help, never for long, and what its failures mean to people. A store that
//! says nothing is dead after `SILENCE`; a reader gives up soon, since it can do without, and a writer is more patient.

use std::error::Error as _;
use std::fmt::Display;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use object_store::{Error, Result};
use tokio::time::{sleep, timeout};

/// A store that does not answer for so long is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// One that sends less than this in that time is as good as dead.
pub(super) const LEAST: usize = 4 << 10;

/// For what watches its own silences, and may take as long as something comes.
pub(super) const NEVER: Duration = Duration::from_secs(1 << 40);

/// A part that is sent may take so long: 8 MiB beside others, on a line of two Mbit/s.
pub(super) const SENDING: Duration = Duration::from_secs(300);

/// The first pause; each following one is twice as long, and all are shortened by chance, so that many do not come back
/// at once.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Parts of texts by which failures of credentials are known: the addresses that the clouds' libraries ask last, where
/// nothing else gave them any.
const METADATA: [&str; 4] = ["169.254.169.254", "metadata.google.internal", "computeMetadata", "metadata/identity"];

/// Who asks, and so for how long attempts begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For a run that can do without: five seconds.
    Reader,
    /// For a push, which is nothing without: a minute.
    Writer,
}

impl Patience {
    fn lasts(self) -> Duration {
        match self {
            Patience::Reader => Duration::from_secs(5),
            Patience::Writer => Duration::from_secs(60),
        }
    }
}

/// The attempts at one thing.
pub(super) struct Attempts {
    patience: Patience,
    since: Instant,
    pause: Duration,
}

impl Attempts {
    pub(super) fn new(patience: Patience) -> Attempts {
        Attempts { patience, since: Instant::now(), pause: PAUSE }
    }

    /// Something came: the line is not dead.
    pub(super) fn renew(&mut self) {
        *self = Attempts::new(self.patience);
    }

    /// Waits before the next attempt; the error where there should be none.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        let pause = self.next_pause(self.since.elapsed()).filter(|_| may_pass(&error));
        let Some(pause) = pause else { return Err(error) };
        tracing::debug!("again in {pause:?}: {error}");
        sleep(pause.mul_f64(chance())).await;
        Ok(())
    }

    /// After so long; `None` where it was long enough.
    fn next_pause(&mut self, elapsed: Duration) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (elapsed + pause <= self.patience.lasts()).then_some(pause)
    }
}

/// Does it until it is done, within the patience; each attempt within `longest`.
pub(super) async fn persist<T, F>(patience: Patience, longest: Duration, mut work: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempts = Attempts::new(patience);
    loop {
        match within(longest, work()).await {
            Err(error) => attempts.after(error).await?,
            done => return done,
        }
    }
}

/// An answer, or that there is none.
pub(super) async fn within<T>(longest: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(longest, work).await.unwrap_or_else(|_| Err(silent(longest)))
}

/// Whether enough comes.
pub(super) struct Pulse {
    since: Instant,
    bytes: usize,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { since: Instant::now(), bytes: 0 }
    }
}

impl Pulse {
    /// Some bytes came.
    pub(super) fn beat(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        if self.since.elapsed() < SILENCE {
            return Ok(());
        }
        let enough = self.bytes >= LEAST;
        *self = Pulse::default();
        if enough { Ok(()) } else { Err(silent(SILENCE)) }
    }
}

fn silent(longest: Duration) -> Error {
    Error::Generic { store: "layer", source: format!("no answer within {} s", longest.as_secs()).into() }
}

/// From a half to one.
fn chance() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    0.5 + (number % 1024) as f64 / 2048.0
}

/// Whether the same may go well a moment later.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Generic { .. } => {
            !matches!(status(&text(error)), Some(code) if code < 500 && code != 408 && code != 429)
        }
        Error::JoinError { .. } => true,
        _ => false,
    }
}

/// Whether the store answered at all, if only that it will not.
pub(super) fn is_answer(error: &Error) -> bool {
    match error {
        Error::Generic { .. } => status(&text(error)).is_some(),
        _ => true,
    }
}

/// What an error means, in a line. `advice` says how this kind of store is given credentials.
pub(super) fn told(error: &Error, advice: Option<&str>) -> String {
    let whole = text(error);
    let code = tag(&whole, "Code").or_else(|| tag(&whole, "code"));
    let with = |what: &str| match advice {
        Some(advice) => format!("{what}; {advice}"),
        None => what.to_owned(),
    };
    if METADATA.iter().any(|name| whole.contains(name)) {
        return with("no credentials were found");
    }
    let coded = |what: &str| match &code {
        Some(code) => format!("{what} ({code})"),
        None => what.to_owned(),
    };
    match error {
        _ if code.as_deref() == Some("RequestTimeTooSkewed") => {
            "this machine's clock and the server's are too far apart (RequestTimeTooSkewed); set the clock".into()
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => with(&coded("permission denied")),
        Error::NotFound { .. } => coded("there is no such place"),
        // Of a list these come without a name of their own.
        _ if matches!(status(&whole), Some(401 | 403)) => with(&coded("permission denied")),
        _ if status(&whole) == Some(404) => coded("there is no such place"),
        _ => match answered(&whole) {
            Some(answer) => coded(&format!("it answered {answer}")),
            None => first_line(&deepest(error)),
        },
    }
}

/// An error and what caused it.
fn text(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn deepest(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// The status of an answer that an error tells of, as in `503 Service Unavailable`.
fn answered(text: &str) -> Option<&str> {
    let rest = text.split("status code: ").nth(1)?;
    Some(rest.split([':', '\n']).next()?.trim())
}

fn status(text: &str) -> Option<u16> {
    answered(text)?.get(..3)?.parse().ok()
}

/// The text of an element of an XML answer.
fn tag(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once("</")?;
    let plain = inner.len() <= 60 && inner.chars().all(|letter| letter.is_ascii_alphanumeric());
    plain.then(|| inner.to_owned())
}

/// What a server says goes over many lines.
fn first_line(text: &dyn Display) -> String {
    text.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.into() }
    }

    fn denied(text: &str) -> Error {
        Error::PermissionDenied { path: "x".into(), source: text.into() }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        for (text, again) in [
            ("Server returned non-2xx status code: 503 Service Unavailable: busy", true),
            ("Server returned non-2xx status code: 500 Internal Server Error", true),
            ("Server returned non-2xx status code: 429 Too Many Requests", true),
            ("Server returned non-2xx status code: 400 Bad Request: <Code>InvalidPart</Code>", false),
            ("connection refused", true),
        ] {
            assert_eq!(may_pass(&generic(text)), again, "{text}");
        }
        assert!(!may_pass(&denied("403")));
    }

    #[test]
    fn failures_are_told_in_a_line() {
        let advice = Some("set `KEY`");
        for (error, expect) in [
            (
                generic("Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>\nmore"),
                "it answered 503 Service Unavailable (SlowDown)",
            ),
            (denied("403: <Code>AccessDenied</Code>"), "permission denied (AccessDenied); set `KEY`"),
            (
                denied("403: <Code>RequestTimeTooSkewed</Code>"),
                "this machine's clock and the server's are too far apart (RequestTimeTooSkewed); set the clock",
            ),
            (
                generic("Error performing PUT http://169.254.169.254/latest/api/token"),
                "no credentials were found; set `KEY`",
            ),
            (
                generic("status code: 403 Forbidden: <Code>AccessDenied</Code>"),
                "permission denied (AccessDenied); set `KEY`",
            ),
            (generic("Connection refused (os error 111)\n  at"), "Connection refused (os error 111)"),
            (denied("403: <Code>an answer\nthat <b>lies</b></Code>"), "permission denied; set `KEY`"),
        ] {
            assert_eq!(told(&error, advice), expect);
        }
    }

    #[test]
    fn a_reader_gives_up_soon_and_a_writer_later() {
        for (patience, expect) in [(Patience::Reader, (4, 3_750)), (Patience::Writer, (11, 55_750))] {
            let (mut attempts, mut elapsed, mut pauses) = (Attempts::new(patience), Duration::ZERO, 0);
            while let Some(pause) = attempts.next_pause(elapsed) {
                (elapsed, pauses) = (elapsed + pause, pauses + 1);
            }
            assert_eq!((pauses, elapsed.as_millis()), expect, "{patience:?}");
        }
    }

    #[test]
    fn a_line_that_trickles_is_as_good_as_dead() {
        let long_ago = Instant::now().checked_sub(SILENCE).unwrap();
        assert!(Pulse { since: long_ago, bytes: 0 }.beat(LEAST - 1).is_err());
        assert!(Pulse { since: long_ago, bytes: LEAST }.beat(1).is_ok());
        assert!(Pulse::default().beat(1).is_ok());
    }
}
