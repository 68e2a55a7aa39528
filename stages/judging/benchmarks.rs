//! Scores of other people's benchmarks, by their own rules: RM-Bench's three difficulties and RewardBench
//! 2's Ties. Scores in, numbers out; never reads a file.

/// RM-Bench's accuracies, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmBench {
    /// The chosen answer is plainer than the rejected one.
    pub hard: f64,
    /// Both are in one style.
    pub normal: f64,
    /// The chosen answer is richer.
    pub easy: f64,
}

impl RmBench {
    /// From the 3×3 matrix of accuracies: row = style of the chosen, column = style of the rejected answer, both in
    /// the order concise, detailed plain, detailed Markdown.
    pub fn of(accuracy: &[[f64; 3]; 3]) -> Self {
        let mean =
            |cells: [(usize, usize); 3]| cells.iter().map(|(row, column)| accuracy[*row][*column]).sum::<f64>() / 3.0;
        Self {
            hard: mean([(0, 1), (0, 2), (1, 2)]),
            normal: mean([(0, 0), (1, 1), (2, 2)]),
            easy: mean([(1, 0), (2, 0), (2, 1)]),
        }
    }

    /// The mean of the three.
    pub fn overall(&self) -> f64 {
        (self.hard + self.normal + self.easy) / 3.0
    }
}

/// Scores of the right and of the wrong answers to one prompt. Neither list may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Of the right answers.
    pub right: Vec<f64>,
    /// Of the wrong answers.
    pub wrong: Vec<f64>,
}

impl Scores {
    // How far the worst right answer stands above the best wrong one.
    fn gap(&self) -> f64 {
        lowest(&self.right) - highest(&self.wrong)
    }

    // How far the right answers, all equally right, stand apart.
    fn spread(&self) -> f64 {
        highest(&self.right) - lowest(&self.right)
    }
}

/// RewardBench 2's Ties subset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ties {
    /// Share of tied prompts whose right answers all beat the wrong ones.
    pub tied_accuracy: f64,
    /// The same for the reference prompts, with one right answer.
    pub reference_accuracy: f64,
    /// Share of prompts whose gap exceeds the spread among right answers.
    pub preferred: f64,
    /// The same with the smaller of the tied and the reference gap.
    pub preferred_hard: f64,
    /// Mean tanh of the margin over the spread.
    pub margin: f64,
}

impl Ties {
    /// `prompts` holds (tied, reference) of each prompt that has both.
    pub fn of(prompts: &[(Scores, Scores)]) -> Self {
        let share = |holds: &dyn Fn(&Scores, &Scores) -> bool| {
            mean(prompts.iter().map(|(tied, reference)| f64::from(u8::from(holds(tied, reference)))))
        };
        let smaller = |tied: &Scores, reference: &Scores| tied.gap().min(reference.gap());
        let margin = |tied: &Scores, reference: &Scores| match (smaller(tied, reference) / tied.spread() - 1.0).tanh() {
            margin if margin.is_nan() => 0.0,
            margin => margin,
        };
        Self {
            tied_accuracy: share(&|tied, _| tied.gap() > 0.0),
            reference_accuracy: share(&|_, reference| reference.gap() > 0.0),
            preferred: share(&|tied, _| tied.gap() > tied.spread()),
            preferred_hard: share(&|tied, reference| smaller(tied, reference) > tied.spread()),
            margin: mean(prompts.iter().map(|(tied, reference)| margin(tied, reference))),
        }
    }

    /// The subset's score.
    pub fn score(&self) -> f64 {
        0.3 * (self.tied_accuracy + self.reference_accuracy)
            + 0.2 * (self.preferred + self.preferred_hard)
            + 0.01 * self.margin
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn lowest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(f64::INFINITY, f64::min)
}

fn highest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn rm_bench_reads_difficulty_off_the_triangles() {
        let found = RmBench::of(&[[0.9, 0.6, 0.5], [0.95, 0.85, 0.7], [0.97, 0.9, 0.8]]);
        close(found.hard, 0.6);
        close(found.normal, 0.85);
        close(found.easy, 0.94);
        close(found.overall(), (0.6 + 0.85 + 0.94) / 3.0);
    }

    #[test]
    fn ties_weigh_gaps_against_the_spread_of_right_answers() {
        let scores = |right: &[f64], wrong: &[f64]| Scores { right: right.into(), wrong: wrong.into() };
        let found = Ties::of(&[
            (scores(&[8.0, 7.0], &[3.0, 2.0]), scores(&[9.0], &[4.0])),
            (scores(&[5.0, 9.0], &[6.0]), scores(&[7.0], &[8.0])),
        ]);
        for half in [found.tied_accuracy, found.reference_accuracy, found.preferred, found.preferred_hard] {
            close(half, 0.5);
        }
        close(found.margin, 0.0733856);
        close(found.score(), 0.5007339);
    }

    #[test]
    fn equal_right_answers_do_not_divide_by_zero() {
        let scores = |right: &[f64], wrong: &[f64]| Scores { right: right.into(), wrong: wrong.into() };
        let found = Ties::of(&[(scores(&[1.0, 1.0], &[1.0]), scores(&[1.0], &[1.0]))]);
        close(found.margin, 0.0);
    }
}
