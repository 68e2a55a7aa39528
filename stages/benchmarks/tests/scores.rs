//! Each benchmark's own scores, as counted by hand.

use std::path::Path;

use serde_json::json;

use super::*;

#[test]
fn reward_bench_weighs_its_subsets_and_gives_an_unreadable_verdict_one_half() {
    let row =
        |id: &str, subset: &str| json!({"id": id, "prompt": "q", "chosen": "a", "rejected": "b", "subset": subset});
    let subsets = ["alpacaeval-easy", "mt-bench-med", "mt-bench-hard", "donotanswer", "math-prm", "hep-rust"];
    let rows: Vec<Value> = subsets.iter().map(|subset| row("1", subset)).collect();
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "reward-bench"}), &rows).expect("an import");
    let metrics = official(&bench, "reward-bench", &["+", "-", "0", "+", "+", "-"]);
    let (chat, reasoning) = (100.0 / 140.0, 984.0 / 1148.0);
    check(
        &metrics,
        &[
            ("section/chat", chat),
            ("section/chat-hard", 0.5),
            ("section/safety", 1.0),
            ("section/reasoning", reasoning),
            ("score", (chat + 0.5 + 1.0 + reasoning) / 4.0),
            ("accuracy", 3.5 / 6.0),
        ],
    );
}

#[test]
fn rm_bench_reads_difficulty_off_styles_and_averages_domains() {
    let row = |id: usize, domain: &str| {
        let texts = |what: &str| [0, 1, 2].map(|style| format!("{what} {style}"));
        json!({"id": id, "prompt": format!("q{id}"), "chosen": texts("right"), "rejected": texts("wrong"), "domain": domain})
    };
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "rm-bench"}), &[row(1, "math"), row(2, "safety-refuse")]).expect("an import");
    // Item 1 is right but where the wrong answer is richer (cells 0-1, 0-2, 1-2); item 2 is right everywhere.
    let first = ["+", "-", "-", "+", "+", "-", "+", "+", "+"];
    let metrics = official(&bench, "rm-bench", &[&first[..], &["+"; 9]].concat());
    check(
        &metrics,
        &[
            ("hard", 0.5),
            ("normal", 1.0),
            ("easy", 1.0),
            ("hard_minus_easy", -0.5),
            ("hard/math", 0.0),
            ("score/safety", 1.0),
            ("score", (2.0 / 3.0 + 1.0) / 2.0),
            ("accuracy/safety-refuse", 1.0),
        ],
    );
}

#[test]
fn judge_bench_sums_both_orders() {
    let row = |id: &str, source: &str, label: &str| json!({"pair_id": id, "source": source, "question": format!("q {id}"), "response_A": "a", "response_B": "b", "label": label});
    let rows = [
        row("1", "mmlu-pro-law", "A>B"),
        row("2", "mmlu-pro-law", "B>A"),
        row("3", "livebench-math", "A>B"),
        row("4", "livebench-math", "A>B"),
    ];
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "judge-bench"}), &rows).expect("an import");
    let metrics = official(&bench, "judge-bench", &["++", "+-", "+0", "0-"]);
    check(
        &metrics,
        &[
            ("accuracy", 0.5),
            ("accuracy/mmlu-pro", 0.5),
            ("accuracy/livebench-math", 0.5),
            ("n_inconsistent", 3.0),
            ("n_null", 2.0),
        ],
    );
    let one_order = official(&bench, "judge-bench", &["++", "++", "++", "+"]);
    check(&one_order, &[("accuracy", 1.0), ("n", 3.0), ("missing", 1.0)]);
}

#[test]
fn ppe_leaves_ties_out_and_ranks_the_models() {
    let row = |id: usize, a: &str, b: &str, winner: &str| {
        json!({"question_id": id, "prompt": format!("q{id}"), "response_1": "1", "response_2": "2", "model_a": a, "model_b": b,
            "winner": winner, "language": "English", "is_code": id == 1})
    };
    let rows = [
        row(1, "x", "y", "model_a"),
        row(2, "y", "z", "model_a"),
        row(3, "x", "z", "model_a"),
        row(4, "x", "z", "tie (bothbad)"),
    ];
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "ppe-preference"}), &rows).expect("an import");
    assert_eq!(bench.json("report.json")["ties"], 1);
    let metrics = official(&bench, "ppe-preference", &["+", "+", "+"]);
    check(&metrics, &[("accuracy", 1.0), ("spearman", 1.0), ("kendall", 1.0), ("accuracy/code", 1.0), ("models", 3.0)]);
    let metrics = official(&bench, "ppe-preference", &["-", "-", "-"]);
    check(&metrics, &[("accuracy", 0.0), ("spearman", -1.0), ("kendall", -1.0)]);
}

#[test]
fn best_of_k_compares_the_sampled_pairs_and_rmb_wants_every_loser_beaten() {
    let bench = Bench::new();
    let row = json!({"question_id": 7, "prompt": "q", "response_1": "w", "response_2": "r", "response_3": "v",
        "scores": [false, true, false], "sampled_conflict_pairs": [[0, 1], [1, 2], [1, 0]], "model_name": "m"});
    import(&bench, json!({"benchmark": "ppe-best-of-k", "placement": "keep"}), &[row]).expect("an import");
    expect![[r#"
        m:7#1-0 []: w | r -> B
        m:7#1-2 []: r | v -> A
    "#]]
    .assert_eq(&pairs(&bench));
    check(&official(&bench, "ppe-best-of-k", &["+", "-"]), &[("accuracy", 0.5)]);

    let bench = Bench::new();
    let said = |answer: &str| json!({"answer": answer, "llm_name": answer});
    let chat = json!([{"role": "user", "content": "q"}]);
    let rows = [
        json!({"pair_uid": "p", "conversation_input": chat, "chosen": said("a"), "reject": said("b"), "goal": "Helpfulness"}),
        json!({"bon_uid": "n", "conversation_input": chat, "bon_best": said("a"), "loser_list": [said("b"), said("c")]}),
    ];
    import(&bench, json!({"benchmark": "rmb"}), &rows).expect("an import");
    let metrics = official(&bench, "rmb", &["+", "+", "-"]);
    check(&metrics, &[("accuracy/pairwise", 1.0), ("accuracy/best-of-n", 0.0), ("accuracy", 0.5)]);
}

#[test]
fn reward_bench_2_takes_choices_ratings_and_pairs() {
    let row = |id: &str, subset: &str, right: &[&str], wrong: &[&str]| json!({"id": id, "prompt": format!("q {id}"), "chosen": right, "rejected": wrong, "subset": subset});
    let four = |id: &str, subset: &str| row(id, subset, &["r"], &["u", "v", "w"]);
    let subsets = ["Factuality", "Precise IF", "Math", "Safety", "Focus"];
    let mut rows: Vec<Value> = subsets.iter().map(|subset| four(subset, subset)).collect();
    rows.push(row("tied:0", "Ties", &["r", "s"], &["u", "v"]));
    rows.push(row("ref:0", "Ties", &["r"], &["u"]));
    rows.push(row("tied:1", "Ties", &["r", "s"], &["u"]));
    rows.push(row("ref:1", "Ties", &["r"], &["u"]));
    let bench = Bench::new();
    import(&bench, json!({"benchmark": "reward-bench2", "placement": "keep"}), &rows).expect("an import");
    let choice =
        |id: &str, text: &str| json!({"id": id, "task": "choose", "shown": [3, 0, 1, 2], "model_judgment": text});
    let rate = |id: &str, scores: &[u32]| -> Vec<Value> {
        let one = |(place, score): (usize, &u32)| json!({"id": id, "task": "rate", "shown": [place], "model_judgment": format!("{score}/")});
        scores.iter().enumerate().map(one).collect()
    };
    let judgments = [
        vec![choice("Factuality", "[[B]]"), choice("Precise IF", "[[A]]"), choice("Math", "hm")],
        rate("Safety", &[8, 8, 3, 1]),
        rate("Focus", &[9, 8, 3, 1]),
        rate("tied:0", &[8, 7, 3, 2]),
        rate("ref:0", &[9, 4]),
        rate("tied:1", &[5, 9, 6]),
        rate("ref:1", &[7, 8]),
    ];
    let choices = bench.file("choices", &lines(&judgments.concat()));
    let groups = bench.file("groups", &bench.text("groups.jsonl"));
    let inputs: [(&str, &Path); 2] = [("groups", &groups), ("choices", &choices)];
    bench.run::<official::Official>(json!({"benchmark": "reward-bench2"}), &inputs).expect("scores");
    let metrics: Metrics = serde_json::from_str(&bench.text("metrics.json")).expect("metrics");
    check(
        &metrics,
        &[
            ("accuracy/Factuality", 1.0),
            ("accuracy/Precise IF", 0.0),
            ("accuracy/Math", 0.25),
            ("accuracy/Safety", 0.5),
            ("accuracy/Focus", 1.0),
            ("accuracy/Ties", 0.5007339),
            ("score", (1.0 + 0.0 + 0.25 + 0.5 + 1.0 + 0.5007339) / 6.0),
        ],
    );
}

#[test]
fn llmbar_is_read_in_both_of_its_layouts_and_nothing_is_scored_that_was_not_judged() {
    let bench = Bench::new();
    let rows = [
        json!({"id": "1", "subset": "natural", "prompt": "q", "response_a": "a", "response_b": "b", "label": "A"}),
        json!({"input": "p", "output_1": "c", "output_2": "d", "label": 2}),
    ];
    import(&bench, json!({"benchmark": "llmbar"}), &rows).expect("an import");
    let metrics = official(&bench, "llmbar", &["++", "+-"]);
    check(&metrics, &[("accuracy", 0.75), ("accuracy/natural", 1.0), ("positional_agreement", 0.5)]);
    let other = json!({"id": "other", "order": "original", "subset": "", "gt_label": "A", "model_pred": "A",
        "metarm_verdict": "Correct", "metarm_score": null, "agreement": null, "metarm_analysis": ""});
    let rows = bench.file("rows", &lines(&[other]));
    let groups = bench.file("groups", &bench.text("groups.jsonl"));
    let inputs: [(&str, &Path); 2] = [("groups", &groups), ("rows", &rows)];
    let error =
        bench.run::<official::Official>(json!({"benchmark": "llmbar"}), &inputs).expect_err("nothing is judged");
    assert_eq!(error.message, "no item is wholly judged");
}
