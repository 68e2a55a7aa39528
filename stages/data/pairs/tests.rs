//! Imports of small files, and of the real ones.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::testing::{Bench, shared};

fn import(bench: &Bench, params: Value, rows: &[Value]) -> Result<(), StageError> {
    let text: String = rows.iter().map(|row| row.to_string() + "\n").collect();
    let raw = bench.file("raw.jsonl", &text);
    bench.run::<Pairs>(params, &[("raw", &raw)])
}

fn reasons(bench: &Bench) -> Vec<String> {
    let rows: Vec<Value> = bench.rows("rejected.jsonl");
    rows.iter().map(|row| format!("{} {}", row["line"], row["reason"].as_str().unwrap_or_default())).collect()
}

fn counts_add_up(report: &Value) {
    let number = |value: &Value| value.as_u64().expect("a count");
    let rejected: u64 = report["rejected"].as_object().expect("a table").values().map(number).sum();
    assert_eq!(number(&report["rows"]), number(&report["pairs"]) + number(&report["dev"]) + rejected);
}

#[test]
fn chosen_and_rejected_become_a_placed_pair() {
    let bench = Bench::new();
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "good"}]);
    let rows = [
        json!({"prompt": "q", "chosen": "right", "rejected": "wrong"}),
        json!({"chosen": messages, "rejected": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "bad"}]}),
    ];
    import(&bench, json!({"format": "trl", "placement": "keep"}), &rows).expect("an import");
    let pairs: Vec<Pair> = bench.rows("pairs.jsonl");
    assert_eq!(
        (pairs[0].response_a.as_str(), pairs[0].response_b.as_str(), pairs[0].gt_label),
        ("right", "wrong", Side::A)
    );
    assert_eq!((pairs[1].conversations.len(), pairs[1].response_a.as_str()), (1, "good"));
    assert!(pairs[0].id.starts_with("trl-") && pairs[0].id != pairs[1].id);
}

#[test]
fn every_row_left_out_has_its_line_and_reason() {
    let bench = Bench::new();
    let row = |id: &str, prompt: &str, a: &str, b: &str, label: Value| json!({"id": id, "prompt": prompt, "response_a": a, "response_b": b, "label": label, "subset": "s"});
    let long = "one two three four five six seven eight nine ten eleven twelve";
    let rows = [
        row("1", long, "yes", "no", json!("A")),
        row("2", long, "no", "yes", json!("B")),
        row("3", long, "no", "yes", json!("A")),
        row("4", &format!("{long}!"), "Yes.", "No.", json!("A")),
        row("5", "q", "same", "same", json!("A")),
        row("6", "q", "a", "b", json!("tie")),
        row("7", "q", "", "b", json!("A")),
        row("8", &"w ".repeat(60), "a", "b", json!("A")),
        row("1", "q", "a", "b", json!("A")),
        row("9", "q", "a", "b", json!("C")),
    ];
    import(&bench, json!({"format": "llmbar", "on_bad_row": "skip", "max_words": 40}), &rows).expect("an import");
    expect![[r#"
        [
            "2 exact-duplicate",
            "3 contradicting-duplicate",
            "4 near-duplicate",
            "5 identical-answers",
            "6 tie",
            "7 empty-answer",
            "8 too-long",
            "9 bad-row",
            "10 bad-row",
        ]
    "#]]
    .assert_debug_eq(&reasons(&bench));
    counts_add_up(&bench.json("report.json"));
}

#[test]
fn a_bad_row_fails_with_its_line() {
    let bench = Bench::new();
    let rows = [json!({"prompt": "q", "chosen": "a", "rejected": "b"}), json!({"prompt": "q", "chosen": "a"})];
    let error = import(&bench, json!({"format": "trl"}), &rows).expect_err("a bad row");
    assert!(error.message.ends_with("raw.jsonl:2: column `rejected` is missing"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("on_bad_row")));
}

#[test]
fn helpsteer_preferences_and_reasons_are_read() {
    let bench = Bench::new();
    let row = |preference: i64| {
        json!({"context": [{"role": "user", "content": format!("q{preference}")}], "response1": "a", "response2": "b", "domain": "code",
            "overall_preference": preference, "individual_preference": [{"reasoning": "@Response 1 is brief."}, {"reasoning": "Agreed."}]})
    };
    import(&bench, json!({"format": "helpsteer3", "placement": "keep"}), &[row(-2), row(0), row(3)])
        .expect("an import");
    let pairs: Vec<Pair> = bench.rows("pairs.jsonl");
    assert_eq!(pairs.iter().map(|pair| pair.gt_label).collect::<Vec<_>>(), [Side::A, Side::B]);
    assert_eq!(pairs[0].gt_judgment.as_deref(), Some("@Response 1 is brief.\nAgreed."));
    assert_eq!(reasons(&bench), ["2 tie"]);
}

#[test]
fn prompts_never_lie_on_both_sides_of_the_split_and_fewer_pairs_are_among_more() {
    let rows: Vec<Value> = (0..400)
        .map(|n| json!({"id": n, "prompt": format!("prompt {}", n % 100), "response_a": format!("a{n}"), "response_b": format!("b{n}"), "label": "A"}))
        .collect();
    let run = |most: usize| {
        let bench = Bench::new();
        let params = json!({"format": "llmbar", "dev_share": 0.25, "max_pairs": most, "near_duplicates": 1.0});
        import(&bench, params, &rows).expect("an import");
        counts_add_up(&bench.json("report.json"));
        (bench.rows::<Pair>("pairs.jsonl"), bench.rows::<Pair>("dev.jsonl"))
    };
    let ((small, dev), (large, same_dev)) = (run(50), run(200));
    assert_eq!((small.len(), large.len()), (50, 200));
    assert_eq!(dev, same_dev);
    assert!((60..140).contains(&dev.len()), "{}", dev.len());
    assert!(small.iter().all(|pair| large.contains(pair)));
    assert!(dev.iter().all(|pair| large.iter().all(|other| other.prompt_id != pair.prompt_id)));
    let on_a = large.iter().filter(|pair| pair.gt_label == Side::A).count();
    assert!((75..125).contains(&on_a), "{on_a}");
}

#[test]
fn columns_without_answers_are_refused() {
    let params = Params { near_duplicates: 0.1, dev_share: 2.0, ..Params::default() };
    let fields: Vec<_> = Pairs::check(&params).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["near_duplicates", "dev_share", "columns"]);
}

#[test]
fn real_files_import() {
    let mut told = String::new();
    for (file, format) in [("llmbar", "llmbar"), ("gsm8k", "gsm8k-pairs"), ("pandalm", "pandalm"), ("ifeval", "llmbar")]
    {
        let Some(raw) = shared(&format!("{file}/pairs.jsonl")) else { return };
        let bench = Bench::new();
        let params = json!({"format": format, "dev_share": 0.1, "on_bad_row": "skip", "dataset": file});
        bench.run::<Pairs>(params, &[("raw", &raw)]).expect("an import");
        let report = bench.json("report.json");
        counts_add_up(&report);
        told.push_str(&format!("{file} {report}\n"));
    }
    expect![[r#"
        llmbar {"dev":72,"labels":{"A":448,"B":422},"pairs":798,"prompts":754,"rejected":{"empty-answer":1,"exact-duplicate":5,"identical-answers":1,"near-duplicate":8},"rows":885,"subsets":{"faireval":66,"gptinst":92,"gptout":47,"llmeval2":197,"manual":46,"mtbench":188,"natural":100,"neighbor":134},"swapped":432,"with_gold":0}
        gsm8k {"dev":258,"labels":{"A":1214,"B":1205},"pairs":2161,"prompts":731,"rejected":{"exact-duplicate":3,"near-duplicate":7},"rows":2429,"subsets":{"":2419},"swapped":1192,"with_gold":2419}
        pandalm {"dev":92,"labels":{"A":332,"B":336},"pairs":576,"prompts":153,"rejected":{"empty-answer":52,"exact-duplicate":80,"near-duplicate":94,"tie":105},"rows":999,"subsets":{"":668},"swapped":322,"with_gold":0}
        ifeval {"dev":88,"labels":{"A":379,"B":379},"pairs":670,"prompts":330,"rejected":{"near-duplicate":1},"rows":759,"subsets":{"":758},"swapped":381,"with_gold":0}
    "#]].assert_eq(&told);
}
