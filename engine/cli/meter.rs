//! How far one running step is, as text: `120/400 steps  12.3/s  ETA 23 s  reward 0.83`. Knows no clock: times come
//! in as durations since the step started.

use std::time::Duration;

use plumb_engine::protocol::StepEvent;

use crate::units;

/// The latest that a step said of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meter {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    unit: String,
    metric: Option<(String, f64)>,
    /// The first progress and when it came: a step that resumed did not do what came before.
    first: Option<(u64, Duration)>,
    latest: Duration,
}

impl Meter {
    /// Takes in what the step said, `at` after its start.
    pub fn take(&mut self, event: &StepEvent, at: Duration) {
        match event {
            StepEvent::Progress { done, total, unit } => {
                self.first.get_or_insert((*done, at));
                (self.done, self.total, self.latest) = (*done, *total, at);
                self.unit.clone_from(unit);
            }
            StepEvent::Metric { name, value, .. } => {
                if self.metric.as_ref().is_none_or(|(shown, _)| weight(name) >= weight(shown)) {
                    self.metric = Some((name.clone(), *value));
                }
            }
            StepEvent::Log { .. } | StepEvent::Checkpoint { .. } | StepEvent::Attached { .. } => {}
        }
    }

    /// Everything known, in one line.
    pub fn text(&self) -> String {
        let metric = self.metric.as_ref().map(|(name, value)| format!("{name} {}", units::metric(*value)));
        let rate = self.rate().map(units::rate);
        let remaining = self.remaining().map(|time| format!("ETA {}", units::duration(time)));
        [self.position(), rate, remaining, metric].into_iter().flatten().collect::<Vec<_>>().join("  ")
    }

    fn position(&self) -> Option<String> {
        self.first?;
        let done = units::count(self.done);
        let position = self.total.map_or(done.clone(), |total| format!("{done}/{}", units::count(total)));
        Some(format!("{position} {}", self.unit))
    }

    fn rate(&self) -> Option<f64> {
        let (done, at) = self.first?;
        let seconds = self.latest.checked_sub(at)?.as_secs_f64();
        let more = self.done.checked_sub(done)?;
        (more > 0 && seconds > 0.0).then(|| more as f64 / seconds)
    }

    fn remaining(&self) -> Option<Duration> {
        let left = self.total?.checked_sub(self.done).filter(|left| *left > 0)?;
        Duration::try_from_secs_f64(left as f64 / self.rate()?).ok()
    }
}

// A training step tells a dozen metrics: the line has room for the one that people follow.
fn weight(metric: &str) -> u8 {
    match metric {
        "reward" => 2,
        "loss" => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn of_a_steps_metrics_the_reward_is_shown_else_the_loss() {
        let mut meter = Meter::default();
        for (name, value) in [("entropy", 3.0), ("loss", 0.5), ("num_tokens", 9.0), ("reward", 0.25), ("loss", 0.4)] {
            meter.take(&StepEvent::Metric { step: 1, name: name.into(), value }, Duration::ZERO);
        }
        assert_eq!(meter.text(), "reward 0.2500");
    }

    #[test]
    fn a_resumed_step_is_rated_by_what_it_did_itself() {
        let mut meter = Meter::default();
        let at = Duration::from_secs;
        let progress = |done| StepEvent::Progress { done, total: Some(400), unit: "steps".into() };
        let mut told = vec![meter.text()];
        for (event, seconds) in [
            (progress(200), 5),
            (StepEvent::Metric { step: 200, name: "reward".into(), value: 0.8312 }, 5),
            (progress(300), 15),
            (progress(400), 25),
        ] {
            meter.take(&event, at(seconds));
            told.push(meter.text());
        }
        expect![[r"

            200/400 steps
            200/400 steps  reward 0.8312
            300/400 steps  10.0/s  ETA 10.0 s  reward 0.8312
            400/400 steps  10.0/s  reward 0.8312"]]
        .assert_eq(&told.join("\n"));
    }
}
