//! Judges behind an endpoint: every answer is kept at once, nothing is asked twice, and what goes wrong is a state with a
//! name and never a verdict.

use serde_json::{Value, json};

use crate::harness::Scene;
use crate::servers::judge::{Fault, Judge};
use crate::servers::llama::Llama;

fn scene(judge: &str, pairs: usize) -> Scene {
    let scene = Scene::new(&format!(
        r#"
schema = 1

[pipeline]
name = "judged"
goal = ["judge"]

[source.pairs]
path = "pairs.jsonl"

[stage.judge]
uses = "judge.pairs"
inputs.pairs = "source.pairs"
with.judge = {{ model = "judge-1" }}
run = {{ endpoint = {{ url = "{judge}", concurrency = 4 }} }}
"#
    ));
    write_pairs(&scene, pairs);
    scene
}

fn write_pairs(scene: &Scene, pairs: usize) {
    let row = |number: usize| {
        let text = json!({ "id": format!("p{number}"), "conversations": [{ "role": "user", "content": format!("Say {number}.") }],
            "response_A": format!("{number}"), "response_B": "no", "gt_label": "A", "gt_judgment": null });
        format!("{text}\n")
    };
    scene.write("pairs.jsonl", &(0..pairs).map(row).collect::<String>());
}

fn rows(scene: &Scene, artifact: &str) -> Vec<Value> {
    let opened = scene.plumb(&format!("open p.toml {artifact}")).exits(0);
    let text = std::fs::read_to_string(opened.raw.trim_end()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn states(scene: &Scene) -> Vec<String> {
    rows(scene, "judge.replies").iter().map(|row| row["state"].as_str().unwrap().to_string()).collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "never came: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn passing_faults_are_waited_out_and_cost_no_judgment() {
    let judge = Judge::start();
    let faults =
        [Fault::TooMany("1"), Fault::Status(500), Fault::Cut, Fault::HalfJson, Fault::Empty, Fault::Status(503)];
    judge.faults(faults);
    let scene = scene(&judge.url(), 8);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(judge.count(), 8 + faults.len());
    assert_eq!(states(&scene), ["answered"; 8]);
    let first = &rows(&scene, "judge.judgments")[0];
    assert_eq!(first["model_judgment"], "The first one does what was asked. \\boxed{A}");
    assert_eq!(rows(&scene, "judge.replies")[0]["reasoning"], "It is shorter.");
}

#[test]
fn refusals_and_cut_answers_are_states_of_their_own_and_no_verdicts() {
    let judge = Judge::start();
    judge.faults([Fault::Refusal, Fault::Truncated, Fault::Status(400)]);
    let scene = scene(&judge.url(), 12);
    scene.plumb("run p.toml").exits(0);
    let mut states = states(&scene);
    states.sort();
    assert_eq!(states[..9], ["answered"; 9]);
    assert_eq!(states[9..], ["failed", "refused", "truncated"]);
    let judgments = rows(&scene, "judge.judgments");
    assert_eq!(judgments.iter().filter(|row| row["model_judgment"].is_null()).count(), 2);
    assert_eq!(judgments.iter().filter(|row| row["finished"] == false).count(), 3);
}

#[test]
fn a_killed_run_asks_nothing_twice_and_an_extended_one_only_what_is_new() {
    let judge = Judge::start();
    let scene = scene(&judge.url(), 20);
    // Two lines are held until the run is killed; the others are answered meanwhile.
    judge.faults([Fault::Hold, Fault::Hold]);
    let mut child = scene.start("run p.toml");
    until("twenty questions", || judge.count() >= 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let first = judge.asked().len();
    assert!(first >= 20, "{first}");
    judge.faults([]);
    scene.plumb("run p.toml").exits(0);
    // Two were held, and a kill may cut those that were under way.
    let second = judge.asked().len();
    assert!((2..=6).contains(&second), "{second}");
    write_pairs(&scene, 25);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(judge.asked().len(), 5);
    // Another stage that asks the same thing shares what was answered.
    let text = scene.read("p.toml");
    let stage = &text[text.find("[stage.judge]").unwrap()..];
    let twin = stage
        .replace("stage.judge", "stage.twin")
        .replace("[stage.twin]", "[stage.twin]\nwith.max_call_failures = 0.5");
    scene.write("p.toml", &format!("{text}\n{twin}").replace("goal = [\"judge\"]", "goal = [\"judge\", \"twin\"]"));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(judge.asked().len(), 0);
}

#[test]
fn limits_stop_it_with_everything_kept_and_a_limit_of_none_only_estimates() {
    let judge = Judge::start();
    let scene = scene(&judge.url(), 10);
    scene.edit(
        "concurrency = 4 }",
        "concurrency = 1, prompt_price = 1000.0, completion_price = 5000.0 }, max_requests = 0",
    );
    let dry = scene.plumb("run p.toml").exits(1);
    assert!(dry.stderr.contains("10 of 10 questions are to be asked: about"), "{}", dry.stderr);
    assert!(dry.stderr.contains("at most about 5"), "{}", dry.stderr);
    assert_eq!(judge.count(), 0);
    scene.edit("max_requests = 0", "max_requests = 4");
    let cut = scene.plumb("run p.toml").exits(1);
    assert!(
        cut.stderr.contains("`run.max_requests = 4` is reached: 4 of 10 questions were answered"),
        "{}",
        cut.stderr
    );
    // An answer costs 0.2.
    scene.edit("max_requests = 4", "max_cost = 0.5");
    let cut = scene.plumb("run p.toml").exits(1);
    assert!(cut.stderr.contains("`run.max_cost = 0.5` is reached"), "{}", cut.stderr);
    assert_eq!(judge.count(), 7);
    scene.edit("max_cost = 0.5", "max_cost = 100.0");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(judge.count(), 10);
}

#[test]
fn a_judge_that_changes_midway_is_an_error() {
    let judge = Judge::start();
    judge.faults([Fault::TooMany("0"), Fault::Changed]);
    let scene = scene(&judge.url(), 6);
    scene.edit("concurrency = 4", "concurrency = 1");
    let failed = scene.plumb("run p.toml").exits(1);
    assert!(failed.stderr.contains("the judge changed: first model judge-1"), "{}", failed.stderr);
}

#[test]
fn a_key_is_a_secret_by_name_and_stands_nowhere() {
    let judge = Judge::start();
    judge.demand("hush-hush-key");
    let scene = scene(&judge.url(), 3);
    let denied = scene.plumb("run p.toml").exits(1);
    assert!(denied.stderr.contains("answers 401"), "{}", denied.stderr);
    assert!(denied.stderr.contains("run.endpoint.api_key"), "{}", denied.stderr);
    scene.export("JUDGE_KEY", "hush-hush-key");
    scene.edit("concurrency = 4 }", "concurrency = 4, api_key = \"JUDGE_KEY\" }, secrets = [\"JUDGE_KEY\"]");
    scene.plumb("run p.toml").exits(0);
    let found =
        std::process::Command::new("grep").args(["-rl", "hush-hush-key"]).arg(scene.path("cache")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_server_that_never_answers_leaves_the_items_masked_or_fails_the_step() {
    let judge = Judge::start();
    let scene = scene(&judge.url(), 10);
    scene.edit("concurrency = 4", "concurrency = 1, max_retries = 0");
    judge.faults([Fault::Status(500)]);
    scene.plumb("run p.toml").exits(0);
    let judgments = rows(&scene, "judge.judgments");
    assert_eq!(judgments.iter().filter(|row| row["model_judgment"].is_null()).count(), 1);
    write_pairs(&scene, 14);
    judge.faults([Fault::Status(500); 14]);
    let failed = scene.plumb("run p.toml").exits(1);
    assert!(failed.stderr.contains("5 of 14 questions got no answer"), "{}", failed.stderr);
    judge.faults([]);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(states(&scene), ["answered"; 14]);
}

#[test]
fn a_real_model_judges_and_its_verdicts_are_read() {
    let llama = Llama::start();
    let scene = scene(&llama.url(), 4);
    let grammar = r#"root ::= [a-z ]{4,40} ". \\boxed{" ("A" | "B") "}""#;
    scene.edit(
        "with.judge = { model = \"judge-1\" }",
        &format!("with.judge = {{ model = \"smollm2\", max_completion_length = 64, extra_body = {{ grammar = '{grammar}' }} }}\nwith.both_orders = true"),
    );
    scene.plumb("run p.toml").exits(0);
    let judgments = rows(&scene, "judge.judgments");
    assert_eq!(judgments.len(), 8);
    let boxed = |row: &Value| row["model_judgment"].as_str().unwrap().contains("\\boxed{");
    assert!(judgments.iter().all(boxed), "{judgments:?}");
    let replies = rows(&scene, "judge.replies");
    assert!(replies.iter().all(|row| row["usage"]["prompt_tokens"].as_u64() > Some(50)), "{replies:?}");
}
