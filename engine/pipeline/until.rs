//! `until = "width(score.f_score) < 0.02"`: when an axis of replicates stops growing. Reads the rule; what it says of
//! results is decided in `growth.rs`.

use std::ops::Range;

use super::table::{Complaints, Text};
use crate::diagnostic::Diagnostic;
use crate::nearest;

/// The one function there is.
const FUNCTION: &str = "width";

/// What a rule says: the interval of a metric is narrower than a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Until {
    /// `None` where any stage may measure it.
    pub stage: Option<String>,
    /// The metric, as written.
    pub metric: String,
    /// What its width must be below.
    pub below: f64,
    /// Where the stage, or else the whole rule, stands.
    pub span: Range<usize>,
}

/// Reads `width([STAGE.]METRIC) < NUMBER`; `METRIC of STAGE` says the same.
pub fn read(text: &Text<'_>, complaints: &mut Complaints) -> Option<Until> {
    let reader = Reader { text: text.get_ref(), span: text.span() };
    reader.rule().map_err(|wrong| complaints.add(*wrong)).ok()
}

struct Reader<'a> {
    text: &'a str,
    span: Range<usize>,
}

type Wrong = Box<Diagnostic>;

impl Reader<'_> {
    fn rule(&self) -> Result<Until, Wrong> {
        let Some((call, number)) = self.text.split_once('<') else {
            return Err(self.wrong(self.text, "this rule compares nothing"));
        };
        let Some((function, argument)) = call.split_once('(') else {
            return Err(self.wrong(call, "expected `width(METRIC)` before `<`"));
        };
        if function.trim() != FUNCTION {
            let hint = nearest::did_you_mean(function.trim(), [FUNCTION]);
            let wrong = self.wrong(function, format!("there is no function `{}`", function.trim()));
            return Err(if hint.is_some() { Box::new(wrong.hint(hint)) } else { wrong });
        }
        let Some((argument, after)) = argument.rsplit_once(')') else {
            return Err(self.wrong(call, "`(` is never closed"));
        };
        if !after.trim().is_empty() {
            return Err(self.wrong(after, format!("expected `<` after `)`, not `{}`", after.trim())));
        }
        let (stage, metric) = measured(argument);
        if metric.is_empty() || stage.is_some_and(str::is_empty) {
            return Err(self.wrong(call, "`width` of what?"));
        }
        let below = number.trim().parse::<f64>().ok().filter(|below| below.is_finite() && *below > 0.0);
        let below = below.ok_or_else(|| self.wrong(number, format!("`{}` is no width above 0", number.trim())))?;
        let span = stage.map_or(self.span.clone(), |stage| self.place(stage));
        Ok(Until { stage: stage.map(String::from), metric: metric.into(), below, span })
    }

    fn wrong(&self, part: &str, message: impl Into<String>) -> Wrong {
        let hint = "write `width(METRIC) < 0.02` or `width(STAGE.METRIC) < 0.02`".to_string();
        Box::new(Diagnostic::at(self.place(part), message).hint(hint))
    }

    /// Where a part of the text stands; the whole text where escapes make that unknown, or nothing is left to show.
    fn place(&self, part: &str) -> Range<usize> {
        let plain = self.span.len() == self.text.len() + 2;
        let shown = part.trim();
        if !plain || shown.is_empty() {
            return self.span.clone();
        }
        let start = self.span.start + 1 + (shown.as_ptr() as usize - self.text.as_ptr() as usize);
        start..start + shown.len()
    }
}

/// `score.f_score` and `f_score of score` as stage and metric.
fn measured(argument: &str) -> (Option<&str>, &str) {
    if let Some((metric, stage)) = argument.split_once(" of ") {
        return (Some(stage.trim()), metric.trim());
    }
    match argument.split_once('.') {
        Some((stage, metric)) => (Some(stage.trim()), metric.trim()),
        None => (None, argument.trim()),
    }
}
