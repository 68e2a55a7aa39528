//! What the stage as a whole promises.

use std::collections::BTreeSet;

use expect_test::expect;

use super::*;
use crate::judging::template::judge_prompt;

fn params(partition: Partition) -> Params {
    Params { partition, pairs: 3000, tasks: 40, demonstrations: 40, ..Params::default() }
}

fn contents(partition: Partition, cue_rate: f64) -> BTreeSet<(String, String, String)> {
    let drawn = draw_pairs(&Params { cue_rate, ..params(partition) });
    let content = |row: Pair| {
        let (good, bad) = match row.gt_label {
            Side::A => (row.response_a, row.response_b),
            Side::B => (row.response_b, row.response_a),
        };
        (row.prompt_id, good, bad)
    };
    drawn.rows.into_iter().map(content).collect()
}

#[test]
fn training_and_benchmark_never_share_a_pair() {
    for cue_rate in [0.1, 0.9] {
        let (train, held_out) = (contents(Partition::Train, cue_rate), contents(Partition::HeldOut, 0.9));
        assert!(train.len() > 1500 && held_out.len() > 500, "{} {}", train.len(), held_out.len());
        assert!(train.is_disjoint(&held_out));
    }
}

#[test]
fn labels_are_even_and_seeds_differ() {
    let rows = draw_pairs(&params(Partition::Train)).rows;
    let on_a = rows.iter().filter(|row| row.gt_label == Side::A).count();
    assert!((1380..1620).contains(&on_a), "{on_a}");
    let other = draw_pairs(&Params { seed: 1, ..params(Partition::Train) }).rows;
    assert!(rows.iter().zip(&other).filter(|(one, two)| one.prompt_id == two.prompt_id).count() < 200);
}

#[test]
fn judge_prompts_have_at_most_24_tokens() {
    for row in draw_pairs(&Params { cue_rate: 0.5, ..params(Partition::Train) }).rows {
        let prompt = judge_prompt(Template::Miniature, &row, None).expect("a prompt");
        assert!(prompt.split(' ').count() <= 24, "{prompt}");
    }
}

#[test]
fn tasks_are_even_over_domains_and_carry_their_target() {
    let tasks = draw_tasks(&params(Partition::HeldOut));
    assert!(DOMAINS.iter().all(|domain| tasks.iter().filter(|task| task.domain == *domain).count() == 10));
    expect![[r#"{"id":"held-out-0-task-00000","domain":"stem","conversations":[{"role":"user","content":"sum 0 9"}],"reference":"ans 9 * clear * clear hope this helps","checker":"miniature","target":{"domain":"stem","task":"sum 0 9","truth":"9"}}"#]]
    .assert_eq(&serde_json::to_string(&tasks[0]).expect("a row"));
}

#[test]
fn plain_demonstrations_are_right_and_mediocre_ones_half() {
    let right = |style: Style| {
        let params = Params { style, demonstrations: 2000, ..Params::default() };
        let rows = draw_demonstrations(&params).expect("demonstrations");
        let is_right = |row: &&Demonstration| {
            let task = row.prompt.trim_start_matches("<bos> ").trim_end_matches(" <resp>");
            answer::is_right(&Question::parse(task).expect("a task"), &row.completion)
        };
        (
            rows.iter().filter(is_right).count(),
            rows.iter().filter(|row| answer::count_fluff(&row.completion) > 0).count(),
        )
    };
    assert_eq!(right(Style::Plain), (2000, 0));
    let (mediocre, fluffy) = right(Style::Mediocre);
    assert!((900..1100).contains(&mediocre), "{mediocre}");
    assert!((900..1100).contains(&fluffy), "{fluffy}");
}

#[test]
fn chances_beyond_one_are_refused() {
    let params = Params { cue_rate: 1.5, demonstration_fluff: [0.5, 0.5, 0.5, 0.0], ..Params::default() };
    let fields: Vec<_> = Miniature::check(&params).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["cue_rate", "demonstration_fluff"]);
}
