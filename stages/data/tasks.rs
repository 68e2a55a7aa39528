//! `data.tasks`: prompts for a policy, with checkable targets (for evaluation) or fixed reference answers (for RLHF).

use std::collections::BTreeSet;
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::hash;
use crate::eval::ifeval::Instructions;
use crate::jsonl;
use crate::rows::{Checker, Message, Pair, Side, Task};

/// Known layouts of task files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// GSM8K: question and answer (with its `#### ` line), or question, solution and answer.
    Gsm8k,
    /// IFEval: key, prompt, instruction_id_list, kwargs.
    Ifeval,
    /// Pairs of `data.pairs` or `gold.augment`: one task a prompt, with one of its answers as the reference.
    Pairs,
}

/// Which answer of a pair is the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The better one.
    #[default]
    Chosen,
    /// The worse one.
    Rejected,
}

/// In which order tasks stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// By a hash of task and seed.
    #[default]
    Hash,
    /// As in the file.
    File,
}

/// Parameters of `data.tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Layout of the file.
    pub format: Format,
    /// Most tasks.
    #[serde(default)]
    pub max_tasks: Option<usize>,
    /// Tasks to pass over first: two stages with one seed take disjoint slices.
    #[serde(default)]
    pub skip: usize,
    /// Names the order, where it is by hash.
    #[serde(default)]
    pub seed: u64,
    /// `hash`, or `file` as the file has them, which is lm-evaluation-harness's.
    #[serde(default)]
    pub order: Order,
    /// Which answer of a pair is the reference: `chosen` or `rejected`.
    #[serde(default)]
    pub reference: Reference,
    /// Domain of the tasks; empty for the format's name, or a pair's subset.
    #[serde(default)]
    pub domain: String,
    /// Text put after the prompt, as `\nEnd with "#### " and the number.`
    #[serde(default)]
    pub suffix: String,
}

/// `data.tasks`.
pub struct Tasks;

impl Declare for Tasks {
    const KIND: &'static str = "data.tasks";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "make tasks for a policy from GSM8K, IFEval or preference pairs";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("raw", "a JSONL file of prompts or pairs")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("tasks", "tasks.jsonl", "tasks in the order of the seed"),
        OutputSpec::result("report", "report.json", "every count"),
    ];
    const NEUTRAL: &'static [(&'static str, &'static str)] = &[("order", "\"hash\"")];
    type Params = Params;
}

/// `rows = repeated + skipped + tasks + beyond`.
#[derive(Debug, Default, Serialize)]
struct Report {
    rows: usize,
    /// Rows whose prompt an earlier row has.
    repeated: usize,
    skipped: usize,
    tasks: usize,
    /// Left out by `max_tasks`.
    beyond: usize,
}

impl Stage for Tasks {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let mut report = Report::default();
        let mut tasks = read(&params, io.input("raw")?, &mut report)?;
        let seed = params.seed.to_string();
        if params.order == Order::Hash {
            tasks.sort_by_cached_key(|task| (hash::number(&["tasks", &seed, &task.id]), task.id.clone()));
        }
        let found = tasks.len();
        let most = params.max_tasks.unwrap_or(found);
        let tasks: Vec<Task> = tasks.into_iter().skip(params.skip).take(most).collect();
        report.skipped = params.skip.min(found);
        report.tasks = tasks.len();
        report.beyond = found - report.skipped - tasks.len();
        jsonl::write(io.output("tasks")?, &tasks)?;
        jsonl::write_json(io.output("report")?, &report)
    }
}

fn read(params: &Params, path: &Path, report: &mut Report) -> Result<Vec<Task>, StageError> {
    let mut tasks = Vec::new();
    let mut prompts = BTreeSet::new();
    let mut ids = BTreeSet::new();
    jsonl::for_each::<Map<String, Value>>(path, |line, row| {
        let bad = |problem: String| jsonl::bad_row(path, line, &problem);
        let task = row.and_then(|row| task(params, row)).map_err(bad)?;
        report.rows += 1;
        let prompt: Vec<&str> = task.conversations.iter().map(|turn| turn.content.as_str()).collect();
        if !prompts.insert(hash::digest(&prompt)) {
            report.repeated += 1;
            return Ok(());
        }
        if !ids.insert(task.id.clone()) {
            return Err(bad(format!("the id `{}` occurs twice", task.id)));
        }
        tasks.push(task);
        Ok(())
    })?;
    if report.rows == 0 { Err(jsonl::no_row(path)) } else { Ok(tasks) }
}

fn task(params: &Params, row: Map<String, Value>) -> Result<Task, String> {
    let mut task = match params.format {
        Format::Gsm8k => gsm8k(&row)?,
        Format::Ifeval => ifeval(&row)?,
        Format::Pairs => from_pair(params.reference, row)?,
    };
    if !params.domain.is_empty() {
        task.domain.clone_from(&params.domain);
    }
    if let Some(last) = task.conversations.last_mut() {
        last.content.push_str(&params.suffix);
    }
    Ok(task)
}

fn text<'a>(row: &'a Map<String, Value>, column: &str) -> Result<&'a str, String> {
    row.get(column).and_then(Value::as_str).ok_or_else(|| format!("expected text in column `{column}`"))
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user".into(), content: content.into() }]
}

// Rows without an id are named by their prompt.
fn id_of(row: &Map<String, Value>, column: &str, dataset: &str, prompt: &str) -> String {
    match row.get(column) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => format!("{dataset}-{id}"),
        _ => format!("{dataset}-{:016x}", hash::number(&[prompt])),
    }
}

fn gsm8k(row: &Map<String, Value>) -> Result<Task, String> {
    let (question, answer) = (text(row, "question")?, text(row, "answer")?);
    let solution = match row.get("solution").and_then(Value::as_str) {
        Some(solution) => format!("{solution}\n#### {answer}"),
        None if answer.contains("#### ") => answer.to_string(),
        None => return Err("expected a `#### ` line in column `answer`, or a column `solution`".into()),
    };
    Ok(Task {
        id: id_of(row, "id", "gsm8k", question),
        domain: "gsm8k".into(),
        conversations: user(question),
        reference: Some(solution.clone()),
        checker: Some(Checker::Gsm8k),
        target: Value::from(solution),
    })
}

fn ifeval(row: &Map<String, Value>) -> Result<Task, String> {
    let prompt = text(row, "prompt")?;
    let column = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
    let target = json!({ "instruction_id_list": column("instruction_id_list"), "kwargs": column("kwargs") });
    Instructions::read(&target)?;
    Ok(Task {
        id: id_of(row, "key", "ifeval", prompt),
        domain: "ifeval".into(),
        conversations: user(prompt),
        reference: None,
        checker: Some(Checker::Ifeval),
        target,
    })
}

fn from_pair(reference: Reference, row: Map<String, Value>) -> Result<Task, String> {
    let pair: Pair = jsonl::typed(row)?;
    let side = match reference {
        Reference::Chosen => pair.gt_label,
        Reference::Rejected => pair.gt_label.other(),
    };
    let answer = if side == Side::A { pair.response_a } else { pair.response_b };
    let domain = if pair.source.subset.is_empty() { pair.source.dataset } else { pair.source.subset };
    Ok(Task {
        id: pair.id,
        domain,
        conversations: pair.conversations,
        reference: Some(answer),
        checker: None,
        target: Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, shared};

    fn tasks(params: Value, text: &str) -> (Vec<Task>, Value) {
        let bench = Bench::new();
        let raw = bench.file("raw.jsonl", text);
        bench.run::<Tasks>(params, &[("raw", &raw)]).expect("a run");
        (bench.rows("tasks.jsonl"), bench.json("report.json"))
    }

    #[test]
    fn both_layouts_of_gsm8k_give_one_target() {
        let text = "{\"question\":\"2+2?\",\"answer\":\"2+2=4\\n#### 4\"}\n{\"id\":\"x\",\"question\":\"3+3?\",\"solution\":\"3+3=6\",\"answer\":\"6\"}\n";
        let (tasks, report) = tasks(json!({"format": "gsm8k", "suffix": " Think."}), text);
        let targets: BTreeSet<_> = tasks.iter().filter_map(|task| task.target.as_str()).collect();
        assert_eq!(targets, ["2+2=4\n#### 4", "3+3=6\n#### 6"].into());
        assert!(tasks.iter().all(|task| task.conversations[0].content.ends_with("? Think.")));
        assert_eq!(report, json!({"rows": 2, "repeated": 0, "skipped": 0, "tasks": 2, "beyond": 0}));
    }

    #[test]
    fn tasks_stand_in_the_order_of_the_file_where_asked_for() {
        let row = |number: usize| format!("{{\"question\":\"{number}?\",\"answer\":\"#### {number}\"}}\n");
        let text: String = (0..20).map(row).collect();
        let order = |params: Value| -> Vec<String> {
            tasks(params, &text).0.into_iter().map(|task| task.conversations[0].content.clone()).collect()
        };
        let file: Vec<String> = (0..20).map(|number| format!("{number}?")).collect();
        assert_eq!(order(json!({"format": "gsm8k", "order": "file"})), file);
        assert_ne!(order(json!({"format": "gsm8k"})), file);
    }

    #[test]
    fn a_pair_gives_its_better_answer_as_the_reference() {
        let pair = |id: &str| json!({"id": id, "conversations": [{"role": "user", "content": "q"}], "response_A": "a", "response_B": "b", "gt_label": "B"});
        let text = format!("{}\n{}\n", pair("1"), pair("2"));
        for (reference, answer) in [("chosen", "b"), ("rejected", "a")] {
            let (tasks, report) = tasks(json!({"format": "pairs", "reference": reference}), &text);
            assert_eq!(tasks[0].reference.as_deref(), Some(answer));
            assert_eq!((tasks.len(), &report["repeated"]), (1, &json!(1)));
        }
    }

    #[test]
    fn real_prompts_are_cut_into_disjoint_slices() {
        let (Some(ifeval), Some(gsm8k)) = (shared("ifeval/prompts.jsonl"), shared("gsm8k/test.jsonl")) else { return };
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        for (format, text, all) in [("ifeval", read(&ifeval), 541), ("gsm8k", read(&gsm8k), 1319)] {
            let slice = |skip: usize| tasks(json!({"format": format, "max_tasks": 24, "skip": skip, "seed": 3}), &text);
            let ((first, report), (second, _)) = (slice(0), slice(24));
            assert_eq!((first.len(), second.len(), &report["rows"]), (24, 24, &json!(all)));
            assert!(first.iter().all(|task| second.iter().all(|other| other.id != task.id)));
        }
    }
}
