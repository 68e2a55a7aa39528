//! Judgments of whole groups over the model that is a table of words.

use super::table::Bench;
use crate::benchmarks::{Group, GroupJudgment, Task};
use crate::jsonl;
use crate::rows::{Message, Origin};
use crate::train::choose;

#[test]
fn a_model_judges_whole_groups_and_a_killed_step_asks_for_the_rest_only() {
    let bench = Bench::new();
    let group = |number: usize| {
        let prompt = vec![Message { role: "user".into(), content: "red".into() }];
        let wrong = ["blue", "red", "blue"].map(String::from).into();
        let origin =
            Origin { dataset: "reward-bench2".into(), subset: if number == 0 { "Ties" } else { "Math" }.into() };
        Group::of_lists(format!("g{number}"), prompt, vec!["red".into()], wrong, origin)
    };
    jsonl::write(&bench.path("groups"), (0..3).map(group)).expect("writes");
    let params = choose::Params { max_completion_length: 2, ..choose::Params::default() };
    bench.backend.faults.answers.set(2);
    choose::run(&bench.backend, &params, &bench.io(&["model", "groups"])).expect_err("the power fails");
    bench.backend.faults.answers.set(u64::MAX);
    choose::run(&bench.backend, &params, &bench.io(&["model", "groups"])).expect("runs");
    let rows: Vec<GroupJudgment> = jsonl::read(&bench.path("out-choices")).expect("choices");
    let tasks: Vec<(&str, Task)> = rows.iter().map(|row| (row.id.as_str(), row.task)).collect();
    let rated = [("g0", Task::Rate); 4];
    assert_eq!(tasks, [&rated[..], &[("g1", Task::Choose), ("g2", Task::Choose)]].concat());
    assert!(rows.iter().all(|row| row.model_judgment.is_some()));
    assert_eq!(bench.backend.faults.asked.get(), 2 + 4);
}
