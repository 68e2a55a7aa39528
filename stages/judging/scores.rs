//! L-Acc, S-Corr and F-Score (R-Align) from counts of row verdicts. Counts in, numbers out; an empty
//! denominator is "not known", never 0.

use super::meta::MetaVerdict;

/// How many rows ended in which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Label right, rationale right.
    pub correct: u64,
    /// Label right, rationale wrong: right for the wrong reason.
    pub incorrect: u64,
    /// Label wrong, or no verdict: the meta-judge was not asked.
    pub label_wrong: u64,
    /// Label right, the meta-judge gave nothing.
    pub call_fail: u64,
    /// Label right, the meta-judge's answer could not be read.
    pub parse_fail: u64,
}

impl Tally {
    /// Counts every verdict.
    pub fn of(verdicts: impl IntoIterator<Item = MetaVerdict>) -> Self {
        let mut tally = Self::default();
        verdicts.into_iter().for_each(|verdict| tally.count(verdict));
        tally
    }

    /// Counts one verdict.
    pub fn count(&mut self, verdict: MetaVerdict) {
        *match verdict {
            MetaVerdict::Correct => &mut self.correct,
            MetaVerdict::Incorrect => &mut self.incorrect,
            MetaVerdict::SkippedLabelMismatch => &mut self.label_wrong,
            MetaVerdict::CallFail => &mut self.call_fail,
            MetaVerdict::ParseFail => &mut self.parse_fail,
        } += 1;
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.correct += other.correct;
        self.incorrect += other.incorrect;
        self.label_wrong += other.label_wrong;
        self.call_fail += other.call_fail;
        self.parse_fail += other.parse_fail;
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.label_correct() + self.label_wrong
    }

    /// Rows with the right label.
    pub fn label_correct(&self) -> u64 {
        self.correct + self.incorrect + self.call_fail + self.parse_fail
    }

    /// Share of rows with the right label.
    pub fn l_acc(&self) -> Option<f64> {
        share(self.label_correct(), self.rows())
    }

    /// Among rows with the right label and a known rationale verdict, the share whose rationale is wrong.
    pub fn s_corr(&self) -> Option<f64> {
        share(self.correct, self.correct + self.incorrect).map(|faithful| 1.0 - faithful)
    }

    /// Share of rows right for the right reason; meta-judge failures leave the denominator.
    pub fn f_score(&self) -> Option<f64> {
        share(self.correct, self.rows() - self.call_fail - self.parse_fail)
    }

    /// Among rows with the right label, the share whose rationale verdict is known.
    pub fn coverage(&self) -> Option<f64> {
        share(self.correct + self.incorrect, self.label_correct())
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_rows_of_every_kind() {
        let tally = Tally { correct: 4, incorrect: 2, label_wrong: 2, call_fail: 1, parse_fail: 1 };
        assert_eq!([tally.l_acc(), tally.f_score(), tally.coverage()], [Some(0.8), Some(0.5), Some(0.75)]);
        assert!((tally.s_corr().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_known_is_not_zero() {
        let tally = Tally::of([MetaVerdict::SkippedLabelMismatch]);
        assert_eq!([tally.s_corr(), tally.coverage()], [None, None]);
        assert_eq!([tally.l_acc(), tally.f_score()], [Some(0.0), Some(0.0)]);
        assert_eq!(Tally::default().l_acc(), None);
    }

    #[test]
    fn without_failures_fidelity_is_accuracy_times_one_minus_spurious() {
        let tally = Tally { correct: 37, incorrect: 11, label_wrong: 23, ..Tally::default() };
        let product = tally.l_acc().unwrap() * (1.0 - tally.s_corr().unwrap());
        assert!((tally.f_score().unwrap() - product).abs() < 1e-12);
    }
}
