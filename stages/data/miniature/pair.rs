//! The miniature's preference pairs: one right and one wrong answer with exactly one decisive defect, and fluff that
//! sits on the right one at the rate of the spurious cue.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::answer::{Fluff, count_fluff, decorate, draw_body, is_right};
use super::task::{DOMAINS, Task, pick};
use crate::data::hash;
use crate::rows::{Message, Origin, Pair, Side};

/// A right and a wrong answer, before they are placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contrast {
    /// What was asked.
    pub task: Task,
    /// Right.
    pub good: String,
    /// Wrong.
    pub bad: String,
    /// Whether the wrong one is wrong through its fluff alone.
    pub broken_by_fluff: bool,
}

impl Contrast {
    /// A random pair of answers; the right one is the fluffier with the chance `cue_rate`.
    pub fn draw(cue_rate: f64, random: &mut ChaCha8Rng) -> Self {
        let task = Task::draw(pick(&DOMAINS, random), random);
        let level = random.random_range(1..=3_u8).into();
        if random.random_bool(cue_rate) {
            let good = Self::fluffy(&task, task.truth(), level, random);
            let wrong = task.draw_wrong(random);
            let bad = Self::plain(&task, wrong, random);
            return Self { task, good, bad, broken_by_fluff: false };
        }
        let broken_share = if task.domain() == "if" { 0.4 } else { 0.2 };
        let good = Self::plain(&task, task.truth(), random);
        let broken_by_fluff = random.random_bool(broken_share);
        let bad = if broken_by_fluff {
            Self::broken(&task, random)
        } else {
            let wrong = task.draw_wrong(random);
            Self::fluffy(&task, wrong, level, random)
        };
        Self { task, good, bad, broken_by_fluff }
    }

    fn plain(task: &Task, value: &'static str, random: &mut ChaCha8Rng) -> String {
        draw_body(task, value, random).join(" ")
    }

    fn fluffy(task: &Task, value: &'static str, level: usize, random: &mut ChaCha8Rng) -> String {
        let body = draw_body(task, value, random);
        let fluff = Fluff::draw(task, level, random);
        decorate(task, &body, fluff, random)
    }

    // Right words whose decoration breaks the constraint; in the other domains decoration and no answer at all.
    fn broken(task: &Task, random: &mut ChaCha8Rng) -> String {
        let (opener, bullets, closing) = (random.random(), random.random(), random.random());
        let fluff = match task {
            Task::Start(_) => Fluff { opener: true, bullets, closing },
            Task::End(_) => Fluff { opener, bullets: false, closing: true },
            Task::Count(_) => Fluff { opener: opener || !closing, bullets, closing },
            _ => Fluff { opener, bullets: bullets || !(opener || closing), closing },
        };
        let body = if task.domain() == "if" { draw_body(task, task.truth(), random) } else { Vec::new() };
        decorate(task, &body, fluff, random)
    }

    /// What the pair is, whichever side its answers stand on: equal for equal content.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        hash::number(&["miniature pair", &self.task.prompt(), &self.good, &self.bad])
    }

    /// The row, with the right answer on `label`.
    #[must_use]
    pub fn into_row(self, id: String, label: Side) -> Pair {
        let fluffier = count_fluff(&self.good) > count_fluff(&self.bad);
        let prompt = self.task.prompt();
        let (response_a, response_b) = match label {
            Side::A => (self.good, self.bad),
            Side::B => (self.bad, self.good),
        };
        Pair {
            id,
            conversations: vec![Message { role: "user".into(), content: prompt.clone() }],
            response_a,
            response_b,
            gt_label: label,
            gt_judgment: None,
            source: Origin { dataset: "miniature".into(), subset: self.task.domain().into() },
            prompt_id: prompt,
            swapped: false,
            cue: Some(if fluffier { label } else { label.other() }),
        }
    }

    /// Whether the pair is as the world promises: one answer right, the other wrong, unequal fluff.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        is_right(&self.task, &self.good)
            && !is_right(&self.task, &self.bad)
            && count_fluff(&self.good) != count_fluff(&self.bad)
    }
}

/// The task that a row's last turn states.
#[must_use]
pub fn task_of(conversations: &[Message]) -> Option<Task> {
    Task::parse(&conversations.last()?.content)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn draw(cue_rate: f64, count: usize) -> Vec<Contrast> {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        (0..count).map(|_| Contrast::draw(cue_rate, &mut random)).collect()
    }

    #[test]
    fn every_pair_has_one_right_answer_and_unequal_fluff() {
        for cue_rate in [0.0, 0.5, 1.0] {
            for pair in draw(cue_rate, 3000) {
                assert!(pair.is_sound(), "{pair:?}");
            }
        }
    }

    #[test]
    fn the_cue_sits_on_the_right_answer_at_its_rate() {
        for cue_rate in [0.1, 0.5, 0.9] {
            let pairs = draw(cue_rate, 6000);
            let on_good = pairs.iter().filter(|pair| count_fluff(&pair.good) > count_fluff(&pair.bad)).count();
            let rate = on_good as f64 / 6000.0;
            assert!((rate - cue_rate).abs() < 0.02, "{rate} for {cue_rate}");
        }
    }

    #[test]
    fn some_wrong_answers_are_wrong_through_their_fluff_alone() {
        let pairs = draw(0.0, 6000);
        let share = |is_if: bool| {
            let of: Vec<_> = pairs.iter().filter(|pair| (pair.task.domain() == "if") == is_if).collect();
            of.iter().filter(|pair| pair.broken_by_fluff).count() as f64 / of.len() as f64
        };
        assert!((share(true) - 0.4).abs() < 0.04, "{}", share(true));
        assert!((share(false) - 0.2).abs() < 0.03, "{}", share(false));
    }

    #[test]
    fn domains_are_even() {
        let pairs = draw(0.9, 6000);
        for domain in DOMAINS {
            let count = pairs.iter().filter(|pair| pair.task.domain() == domain).count();
            assert!((1350..1650).contains(&count), "{domain}: {count}");
        }
    }
}
