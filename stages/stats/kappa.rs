//! How far two raters of yes or no agree: Cohen's kappa, precision, recall. Counts in, numbers out.

/// Counts of (first says yes, second says yes), …: `both`, only one of them, `neither`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Agreement {
    /// Both say yes.
    pub both: f64,
    /// Only the first says yes.
    pub only_first: f64,
    /// Only the second says yes.
    pub only_second: f64,
    /// Neither says yes.
    pub neither: f64,
}

impl Agreement {
    /// Counts one item.
    pub fn count(&mut self, first: bool, second: bool) {
        *match (first, second) {
            (true, true) => &mut self.both,
            (true, false) => &mut self.only_first,
            (false, true) => &mut self.only_second,
            (false, false) => &mut self.neither,
        } += 1.0;
    }

    /// Adds another table.
    pub fn add(&mut self, other: &Self) {
        self.both += other.both;
        self.only_first += other.only_first;
        self.only_second += other.only_second;
        self.neither += other.neither;
    }

    /// Items.
    pub fn items(&self) -> f64 {
        self.both + self.only_first + self.only_second + self.neither
    }

    /// Share of items on which they agree.
    pub fn observed(&self) -> Option<f64> {
        share(self.both + self.neither, self.items())
    }

    /// Of the first's yes the share that the second confirms.
    pub fn precision(&self) -> Option<f64> {
        share(self.both, self.both + self.only_first)
    }

    /// Of the second's yes the share that the first finds.
    pub fn recall(&self) -> Option<f64> {
        share(self.both, self.both + self.only_second)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        share(2.0 * self.both, 2.0 * self.both + self.only_first + self.only_second)
    }

    /// Share of the first's yes.
    pub fn first_rate(&self) -> Option<f64> {
        share(self.both + self.only_first, self.items())
    }

    /// Share of the second's yes.
    pub fn second_rate(&self) -> Option<f64> {
        share(self.both + self.only_second, self.items())
    }

    /// Cohen's kappa: agreement beyond chance; `None` where chance alone would agree on everything.
    pub fn kappa(&self) -> Option<f64> {
        let (first, second) = (self.first_rate()?, self.second_rate()?);
        let chance = first * second + (1.0 - first) * (1.0 - second);
        (chance < 1.0).then(|| Some((self.observed()? - chance) / (1.0 - chance))).flatten()
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_of_the_textbook() {
        // Fleiss' example of two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no give 0.4.
        let table = Agreement { both: 20.0, only_first: 5.0, only_second: 10.0, neither: 15.0 };
        assert!((table.kappa().unwrap() - 0.4).abs() < 1e-12);
        assert_eq!([table.observed(), table.precision()], [Some(0.7), Some(0.8)]);
        assert!((table.recall().unwrap() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn raters_who_always_say_yes_have_no_kappa() {
        assert_eq!(Agreement { both: 9.0, ..Agreement::default() }.kappa(), None);
        assert_eq!(Agreement::default().observed(), None);
    }
}
