//! One response under its task's checker: the numbers that its kind of task has. Never averages.

use plumb_engine::stage::StageError;

use super::gsm8k;
use super::ifeval::Instructions;
use crate::data::miniature::answer::{count_fluff, is_right};
use crate::data::miniature::task::Task as Question;
use crate::rows::{Checker, Response, Task};

/// A number with the names lm-eval gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// As `exact_match`.
    pub metric: &'static str,
    /// As `strict-match`; `none` where the text is scored as it stands.
    pub filter: &'static str,
    /// What the filter made of the response.
    pub filtered: String,
    /// One value, or one for each instruction of the task.
    pub values: Vec<f64>,
}

impl Measure {
    /// The mean over what it has values of.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }
}

/// What one response is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The number that enters the task's accuracy.
    pub headline: f64,
    /// Everything measured.
    pub measures: Vec<Measure>,
    /// Decoration tokens, where the world has them.
    pub fluff: Option<usize>,
}

/// Scores a response; an error names the task whose target cannot be read.
pub fn check(response: &Response) -> Result<Checked, StageError> {
    check_text(&response.task, &response.text)
}

/// Scores an answer's text, as [`check`] does.
pub fn check_text(task: &Task, text: &str) -> Result<Checked, StageError> {
    let bad = |problem: &str| {
        StageError::new(format!("task `{}`: {problem}", task.id))
            .hint("make tasks with `data.tasks` or `data.miniature`")
    };
    match task.checker {
        Some(Checker::Miniature) => {
            miniature(task, text).ok_or_else(|| bad("its target states no task of the miniature"))
        }
        Some(Checker::Gsm8k) => {
            let target = task.target.as_str().ok_or_else(|| bad("expected the reference solution as its target"))?;
            Ok(gsm8k(text, target))
        }
        Some(Checker::Ifeval) => {
            let instructions = Instructions::read(&task.target).map_err(|problem| bad(&problem))?;
            Ok(ifeval(&instructions, text))
        }
        None => Err(bad("it has no checker, so its responses cannot be scored")),
    }
}

fn miniature(task: &Task, text: &str) -> Option<Checked> {
    let question = Question::parse(task.target.get("task")?.as_str()?)?;
    let value = f64::from(is_right(&question, text));
    let measure = Measure { metric: "exact_match", filter: "none", filtered: text.to_string(), values: vec![value] };
    Some(Checked { headline: value, measures: vec![measure], fluff: Some(count_fluff(text)) })
}

// The headline is the flexible filter: instruct models seldom write GSM8K's own `####`.
fn gsm8k(text: &str, target: &str) -> Checked {
    let measure = |filter, filtered: String| {
        let value = f64::from(gsm8k::exact_match(&filtered, target));
        Measure { metric: "exact_match", filter, filtered, values: vec![value] }
    };
    let strict = measure("strict-match", gsm8k::strict_match(text));
    let flexible = measure("flexible-extract", gsm8k::flexible_extract(text));
    Checked { headline: flexible.values[0], measures: vec![strict, flexible], fluff: None }
}

fn ifeval(instructions: &Instructions, text: &str) -> Checked {
    let (strict, loose) = (instructions.strict(text), instructions.loose(text));
    let prompt = |obeyed: &[bool]| f64::from(obeyed.iter().all(|obeyed| *obeyed));
    let each = |obeyed: &[bool]| obeyed.iter().map(|obeyed| f64::from(*obeyed)).collect::<Vec<_>>();
    let measure = |metric, values| Measure { metric, filter: "none", filtered: text.to_string(), values };
    let measures = vec![
        measure("prompt_level_strict_acc", vec![prompt(&strict)]),
        measure("inst_level_strict_acc", each(&strict)),
        measure("prompt_level_loose_acc", vec![prompt(&loose)]),
        measure("inst_level_loose_acc", each(&loose)),
    ];
    Checked { headline: prompt(&strict), measures, fluff: None }
}
