//! How many requests may be under way: one more after as many went well as there may be, half when the service says that
//! it is too many (as TCP does it).

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

/// The longest pause, whatever a service asks for.
const LONGEST: Duration = Duration::from_secs(120);
const FIRST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Pace {
    most: usize,
    allowed: usize,
    well: usize,
    rest: Option<Instant>,
}

impl Pace {
    /// Begins at the most.
    pub fn new(most: usize) -> Self {
        Self { most, allowed: most.max(1), well: 0, rest: None }
    }

    /// Requests that may be under way.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// Until when nobody is to be asked.
    pub fn rest(&self) -> Option<Instant> {
        self.rest.filter(|until| *until > Instant::now())
    }

    pub fn went_well(&mut self) {
        self.well += 1;
        if self.well >= self.allowed && self.allowed < self.most {
            self.allowed += 1;
            self.well = 0;
        }
    }

    /// The service says that it is too many, and perhaps how long to wait.
    pub fn too_many(&mut self, wait: Option<Duration>) {
        // Of many refusals at once one is meant.
        if self.rest().is_none() {
            self.allowed = (self.allowed / 2).max(1);
        }
        self.well = 0;
        let until = Instant::now() + wait.unwrap_or(FIRST).min(LONGEST);
        self.rest = Some(self.rest.map_or(until, |rest| rest.max(until)));
    }
}

/// The pause before a repetition (the first is 1): twice as long each time, and by chance a half to the whole of it, so
/// that those who failed together do not come back together.
pub fn pause(repetition: u32) -> Duration {
    let whole = FIRST.saturating_mul(2_u32.saturating_pow(repetition.saturating_sub(1))).min(LONGEST);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_halve_the_pace_once_and_what_goes_well_raises_it() {
        let mut pace = Pace::new(8);
        pace.too_many(Some(Duration::from_secs(3)));
        pace.too_many(Some(Duration::from_secs(1)));
        assert_eq!(pace.allowed(), 4);
        assert_eq!(pace.rest().map(|until| until - Instant::now()), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(pace.rest(), None);
        (0..4).for_each(|_| pace.went_well());
        assert_eq!(pace.allowed(), 5);
        (0..100).for_each(|_| pace.went_well());
        assert_eq!(pace.allowed(), 8);
    }
}
