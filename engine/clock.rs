//! The only place where time enters the engine, so that keys and result outputs never see it. What is read here
//! goes to the history, to events and to the side of a record that no key covers.

use std::time::{Duration, Instant, SystemTime};

/// The present moment as RFC 3339 in UTC, to the millisecond: always as long, so that it sorts as text.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A moment as RFC 3339 in UTC, to the second: for people.
pub fn at(moment: SystemTime) -> String {
    let moment = jiff::Timestamp::try_from(moment).ok();
    moment.and_then(|moment| moment.round(jiff::Unit::Second).ok()).map(|moment| moment.to_string()).unwrap_or_default()
}

/// The moment so long ago; the epoch where the clock does not reach back that far.
pub fn ago(long: Duration) -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "time enters here")]
    SystemTime::now().checked_sub(long).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// So many seconds before a moment that `now` wrote.
pub fn before(moment: &str, seconds: f64) -> Option<String> {
    let moment: jiff::Timestamp = moment.parse().ok()?;
    let earlier = moment - Duration::try_from_secs_f64(seconds).ok()?;
    Some(earlier.round(jiff::Unit::Millisecond).unwrap_or(earlier).to_string())
}

/// The present moment as a name that sorts by time: `20261123T131500.123Z`.
pub fn stamp() -> String {
    now().replace(['-', ':'], "")
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
