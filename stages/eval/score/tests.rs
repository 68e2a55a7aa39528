//! Responses in, the four files out.

use expect_test::expect;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::testing::Bench;

fn response(task: &Value, decoding: &str, sample: usize, text: &str) -> String {
    let tokens = text.split(' ').count();
    json!({"task": task, "sample": sample, "decoding": decoding, "text": text, "tokens": tokens, "finished": true})
        .to_string()
        + "\n"
}

fn task(id: &str, domain: &str, checker: &str, target: &Value) -> Value {
    json!({"id": id, "domain": domain, "conversations": [{"role": "user", "content": id}], "checker": checker, "target": target})
}

#[test]
fn sampled_responses_make_the_average_and_greedy_ones_stand_beside() {
    let bench = Bench::new();
    let stem = task("s", "stem", "miniature", &json!({"domain": "stem", "task": "max 4 3", "truth": "4"}));
    let code = task("c", "code", "miniature", &json!({"domain": "code", "task": "x 1 y 2 keep print y", "truth": "2"}));
    let text = [
        response(&stem, "sampled", 0, "ans 4"),
        response(&stem, "sampled", 1, "sure ! ans 3"),
        response(&stem, "greedy", 0, "ans 4"),
        response(&code, "sampled", 0, "y 2 * note"),
        response(&code, "sampled", 1, "y 2"),
        response(&code, "greedy", 0, "y 1"),
    ]
    .concat();
    let input = bench.file("in.jsonl", &text);
    bench.run::<Score>(json!({}), &[("responses", &input)]).expect("a run");
    expect![[r#"
        {
          "acc/code": 1.0,
          "acc/stem": 0.5,
          "acc_stderr/code": null,
          "acc_stderr/stem": null,
          "average": 0.75,
          "average_stderr": null,
          "finished": 1.0,
          "fluff": 1.0,
          "greedy": 0.5,
          "greedy/code": 0.0,
          "greedy/stem": 1.0,
          "greedy_stderr": null,
          "greedy_stderr/code": null,
          "greedy_stderr/stem": null,
          "length": 3.0
        }
    "#]]
    .assert_eq(&bench.text("metrics.json"));
    expect![[r#"
        {"id":"s","cluster":"s","domain":"stem","values":{"exact_match":0.5,"fluff":1.0,"greedy":1.0,"length":3.0}}
        {"id":"c","cluster":"c","domain":"code","values":{"exact_match":1.0,"fluff":1.0,"greedy":0.0,"length":3.0}}
    "#]]
    .assert_eq(&bench.text("items.jsonl"));
    assert_eq!(bench.text("samples.jsonl").lines().count(), 6);
}

#[test]
fn gsm8k_and_ifeval_are_reported_under_lm_evals_names() {
    let bench = Bench::new();
    let gsm8k = task("g", "gsm8k", "gsm8k", &json!("9 * 2 = 18\n#### 18"));
    let target = json!({"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]});
    let ifeval = task("i", "ifeval", "ifeval", &target);
    let text = response(&gsm8k, "greedy", 0, "It is $18.") + &response(&ifeval, "greedy", 0, "no comma here");
    let input = bench.file("in.jsonl", &text);
    bench.run::<Score>(json!({}), &[("responses", &input)]).expect("a run");
    expect![[r#####"
        {
          "results": {
            "gsm8k": {
              "alias": "gsm8k",
              "exact_match,flexible-extract": 1.0,
              "exact_match,strict-match": 0.0,
              "exact_match_stderr,flexible-extract": "N/A",
              "exact_match_stderr,strict-match": "N/A",
              "name": "gsm8k",
              "sample_len": 1
            },
            "ifeval": {
              "alias": "ifeval",
              "inst_level_loose_acc,none": 0.5,
              "inst_level_loose_acc_stderr,none": "N/A",
              "inst_level_strict_acc,none": 0.5,
              "inst_level_strict_acc_stderr,none": "N/A",
              "name": "ifeval",
              "prompt_level_loose_acc,none": 0.0,
              "prompt_level_loose_acc_stderr,none": "N/A",
              "prompt_level_strict_acc,none": 0.0,
              "prompt_level_strict_acc_stderr,none": "N/A",
              "sample_len": 1
            }
          },
          "group_subtasks": {
            "gsm8k": [],
            "ifeval": []
          },
          "configs": {
            "gsm8k": {
              "checker": "gsm8k",
              "filter_list": [
                {
                  "filter": [
                    {
                      "function": "regex",
                      "regex_pattern": "#### (-?[0-9.,]+)"
                    },
                    {
                      "function": "take_first"
                    }
                  ],
                  "name": "strict-match"
                },
                {
                  "filter": [
                    {
                      "function": "regex",
                      "group_select": -1,
                      "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"
                    },
                    {
                      "function": "take_first"
                    }
                  ],
                  "name": "flexible-extract"
                }
              ],
              "generation_kwargs": null,
              "metadata": {
                "version": 3
              },
              "metric_list": [
                {
                  "aggregation": "mean",
                  "higher_is_better": true,
                  "ignore_case": true,
                  "ignore_punctuation": false,
                  "metric": "exact_match",
                  "regexes_to_ignore": [
                    ",",
                    "\\$",
                    "(?s).*#### ",
                    "\\.$"
                  ]
                }
              ],
              "num_fewshot": 0,
              "output_type": "generate_until",
              "repeats": 1,
              "should_decontaminate": false,
              "task": "gsm8k"
            },
            "ifeval": {
              "checker": "ifeval",
              "generation_kwargs": null,
              "metadata": {
                "version": 4
              },
              "metric_list": [
                {
                  "aggregation": "mean",
                  "higher_is_better": true,
                  "metric": "prompt_level_strict_acc"
                },
                {
                  "aggregation": "mean",
                  "higher_is_better": true,
                  "metric": "inst_level_strict_acc"
                },
                {
                  "aggregation": "mean",
                  "higher_is_better": true,
                  "metric": "prompt_level_loose_acc"
                },
                {
                  "aggregation": "mean",
                  "higher_is_better": true,
                  "metric": "inst_level_loose_acc"
                }
              ],
              "num_fewshot": 0,
              "output_type": "generate_until",
              "repeats": 1,
              "should_decontaminate": false,
              "task": "ifeval"
            }
          },
          "versions": {
            "gsm8k": 3,
            "ifeval": 4
          },
          "n-shot": {
            "gsm8k": 0,
            "ifeval": 0
          },
          "higher_is_better": {
            "gsm8k": {
              "exact_match": true
            },
            "ifeval": {
              "inst_level_loose_acc": true,
              "inst_level_strict_acc": true,
              "prompt_level_loose_acc": true,
              "prompt_level_strict_acc": true
            }
          },
          "n-samples": {
            "gsm8k": {
              "effective": 1,
              "original": 1
            },
            "ifeval": {
              "effective": 1,
              "original": 1
            }
          },
          "config": {
            "model": "plumb",
            "bootstrap_iters": 0
          },
          "git_hash": null,
          "task_hashes": {
            "gsm8k": "b1d2510338de6b9af5dad7963556b9c4278b10a74dbf464dd4227964df9c326b",
            "ifeval": "8c910becb6a07c4f96b18aa964934fcbbe51c5f56974bef8249d771a1ab276f4"
          }
        }
    "#####]]
    .assert_eq(&bench.text("results.json"));
}

#[test]
fn a_task_without_a_checker_is_named() {
    let bench = Bench::new();
    let mut bare = task("b", "x", "gsm8k", &json!("1"));
    bare["checker"] = Value::Null;
    let input = bench.file("in.jsonl", &response(&bare, "greedy", 0, "1"));
    let error = bench.run::<Score>(json!({}), &[("responses", &input)]).expect_err("no checker");
    assert_eq!(error.message, "task `b`: it has no checker, so its responses cannot be scored");
}

#[test]
fn a_sample_has_every_field_of_lm_evals() {
    let bench = Bench::new();
    let gsm8k = task("g", "gsm8k", "gsm8k", &json!("9 * 2 = 18\n#### 18"));
    let mut row: Value = serde_json::from_str(&response(&gsm8k, "greedy", 0, "#### 18")).expect("JSON");
    row["prompt"] = json!("Question: 2+2?\nAnswer:");
    row["gen_kwargs"] = json!({"do_sample": false, "temperature": 0.0, "until": ["Question:"]});
    row["num_fewshot"] = json!(5);
    let input = bench.file("in.jsonl", &format!("{row}\n"));
    bench.run::<Score>(json!({}), &[("responses", &input)]).expect("a run");
    let samples: Vec<Value> = bench.rows("samples.jsonl");
    let names = [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "metrics",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "exact_match",
    ];
    for sample in &samples {
        assert!(names.iter().all(|name| !sample[*name].is_null()), "{sample}");
        let arguments = json!({"gen_args_0": {"arg_0": "Question: 2+2?\nAnswer:", "arg_1": row["gen_kwargs"]}});
        assert_eq!(sample["arguments"], arguments);
    }
    let results = bench.json("results.json");
    assert_eq!(results["n-shot"], json!({"gsm8k": 5}));
    let config = &results["configs"]["gsm8k"];
    assert_eq!((&config["num_fewshot"], &config["fewshot_delimiter"]), (&json!(5), &json!("\n\n")));
    assert_eq!(config["generation_kwargs"], row["gen_kwargs"]);
    // As lm_eval 0.4.13 makes it: the rows' three hashes, one after another.
    let hashes: String = samples
        .iter()
        .flat_map(|row| ["doc_hash", "prompt_hash", "target_hash"].map(|name| row[name].as_str().expect("a hash")))
        .collect();
    let digest: String = Sha256::digest(hashes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(results["task_hashes"], json!({"gsm8k": digest}));
    let filters: Vec<&Value> = samples.iter().map(|sample| &sample["filter"]).collect();
    assert_eq!(filters, ["strict-match", "flexible-extract"]);
}
