//! The loops over a model that is a table of words: what ran, what was written, and that a run continues where it was
//! cut.

mod adapters;
mod choose;
mod group;
mod ppo;
mod preferences;
mod table;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare as _, Problem, StageError};
use serde_json::{Value, json};

use super::{generate, genrm, judge, rlhf, sft};
use crate::jsonl;
use crate::judging::template::Template;
use crate::maths::reward::RewardKind;
use crate::rows::{Checker, Demonstration, Judgment, Message, Order, Origin, Pair, Response, Side, Task};
use table::{Bench, Table};

fn pair(id: &str, label: Side, gold: Option<&str>) -> Pair {
    Pair {
        id: id.into(),
        conversations: vec![Message { role: "user".into(), content: "red".into() }],
        response_a: "red".into(),
        response_b: "blue".into(),
        gt_label: label,
        gt_judgment: gold.map(str::to_string),
        source: Origin::default(),
        prompt_id: id.into(),
        swapped: false,
        cue: None,
    }
}

fn task(id: &str) -> Task {
    Task {
        id: id.into(),
        domain: "colours".into(),
        conversations: vec![Message { role: "user".into(), content: "red".into() }],
        reference: Some("blue".into()),
        checker: None,
        target: Value::Null,
    }
}

fn genrm_params() -> genrm::Params {
    genrm::Params {
        reward: RewardKind::Label,
        template: Template::Miniature,
        max_steps: 20,
        prompts_per_step: 2,
        num_generations: 4,
        learning_rate: 0.1,
        digest_steps: 5,
        ..genrm::Params::default()
    }
}

#[test]
fn a_judge_that_is_rewarded_for_labels_learns_them() {
    let bench = Bench::new();
    jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None), pair("two", Side::B, None)]).expect("writes");
    genrm::run(&bench.backend, &genrm_params(), &bench.io(&["model", "pairs"])).expect("runs");
    let logits = bench.logits();
    assert!(logits[2] > 1.0 && logits[1] < 0.0, "{logits:?}");
    let steps = bench.steps();
    assert_eq!(steps.len(), 20);
    assert_eq!(steps[0].metrics["reward"], 0.25);
    assert_eq!(steps[0].metrics["rewards/label/mean"], 0.25);
    assert_eq!(steps[0].metrics["verdict_parsed"], 0.5);
    assert_eq!(steps[0].metrics["frac_reward_zero_std"], 0.0);
    assert_eq!(steps[19].metrics["num_tokens"], 20.0 * 8.0 * (7.0 + 2.0));
    assert_eq!(steps[19].metrics["epoch"], 20.0);
    let chain = bench.chain();
    assert_eq!(chain.iter().map(|link| link.step).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let digests: Vec<u64> = chain.iter().filter(|link| link.weights.is_some()).map(|link| link.step).collect();
    assert_eq!(digests, [5, 10, 15, 20]);
    let state: Value = jsonl::read_json(&bench.path("out-trainer_state")).expect("a state");
    assert_eq!(state["log_history"][19]["step"], 20);
}

#[test]
fn swapping_moves_labels_with_the_answers() {
    let bench = Bench::new();
    let pairs: Vec<Pair> = (0..40).map(|number| pair(&format!("row-{number}"), Side::A, None)).collect();
    jsonl::write(&bench.path("pairs"), pairs).expect("writes");
    let params = genrm::Params { swap: genrm::Swap::Random, prompts_per_step: 40, max_steps: 1, ..genrm_params() };
    genrm::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    // Every group holds one [A] and one [B]: each label is met once, whichever side it moved to.
    assert_eq!(bench.steps()[0].metrics["reward"], 0.25);
    let logits = bench.logits();
    assert!((logits[1] - logits[2]).abs() < logits[1], "both sides are rewarded: {logits:?}");
}

#[test]
fn a_reward_for_rationales_needs_golds() {
    let bench = Bench::new();
    jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None)]).expect("writes");
    let params = genrm::Params { reward: RewardKind::LabelAndRationale, ..genrm_params() };
    let error = genrm::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect_err("has no gold");
    assert!(error.message.ends_with("pair `one` has no `gt_judgment`"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("gold.augment")));
}

#[test]
fn a_killed_run_continues_to_the_same_bytes() {
    let pairs = [pair("one", Side::B, None), pair("two", Side::A, None), pair("three", Side::B, None)];
    let params = genrm_params();
    let whole = Bench::new();
    jsonl::write(&whole.path("pairs"), &pairs).expect("writes");
    genrm::run(&whole.backend, &params, &whole.io(&["model", "pairs"])).expect("runs");
    let cut = Bench::new();
    jsonl::write(&cut.path("pairs"), &pairs).expect("writes");
    for steps in [0, 5, 8, u64::MAX] {
        cut.backend.faults.power.set(steps);
        let result = genrm::run(&cut.backend, &params, &cut.io(&["model", "pairs"]));
        assert_eq!(result.is_ok(), steps == u64::MAX);
    }
    assert_eq!(cut.steps(), whole.steps());
    assert_eq!(cut.chain(), whole.chain());
    assert_eq!(cut.logits(), whole.logits());
}

/// The first step whose link a jolt of the weights in update 7 changes.
fn first_link_after_a_jolt(inputs: &[&str], run: &dyn Fn(&Table, &Io) -> Result<(), StageError>) -> u64 {
    let chains = [0, 7].map(|jolt| {
        let bench = Bench::new();
        jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None), pair("two", Side::A, None)]).expect("writes");
        jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red"), demonstration("e", "blue")])
            .expect("writes");
        bench.backend.faults.jolt.set(jolt);
        run(&bench.backend, &bench.io(inputs)).expect("runs");
        bench.chain()
    });
    let [whole, jolted] = &chains;
    assert_eq!(whole.len(), jolted.len());
    let other: Vec<u64> = whole.iter().zip(jolted).filter(|(a, b)| a != b).map(|(link, _)| link.step).collect();
    assert_eq!(other, (other[0]..=whole.len() as u64).collect::<Vec<_>>(), "a link covers all before it");
    other[0]
}

#[test]
fn the_chain_tells_at_which_step_two_runs_part() {
    for (digest_steps, first) in [(1, 7), (0, 8)] {
        let params = genrm::Params { digest_steps, ..genrm_params() };
        let found = first_link_after_a_jolt(&["model", "pairs"], &|backend, io| genrm::run(backend, &params, io));
        assert_eq!(found, first, "genrm.train, a digest of the weights every {digest_steps}");
        let params = sft::Params { max_steps: 20, digest_steps, ..sft::Params::default() };
        let found = first_link_after_a_jolt(&["model", "demonstrations"], &|b, io| sft::run(b, &params, io));
        assert_eq!(found, first, "lm.sft, a digest of the weights every {digest_steps}");
    }
    // Two updates a step: the seventh is the first of step 4, and the second of it reports another loss.
    let params = genrm::Params { digest_steps: 0, num_iterations: 2, ..genrm_params() };
    let found = first_link_after_a_jolt(&["model", "pairs"], &|backend, io| genrm::run(backend, &params, io));
    assert_eq!(found, 4);
}

#[test]
fn an_actor_learns_what_its_judge_prefers() {
    for (judge, expected) in [([0.0, 5.0, 0.0, 0.0, 0.0, 0.0], 0.0), ([0.0, 0.0, 0.0, 5.0, 0.0, 0.0], 0.0)] {
        let bench = Bench::new();
        bench.model("policy", &[0.0; 6]);
        bench.model("genrm", &judge);
        jsonl::write(&bench.path("tasks"), (0..8).map(|number| task(&format!("task-{number}")))).expect("writes");
        let params = rlhf::Params {
            template: Template::Miniature,
            both_orders: true,
            max_steps: 2,
            prompts_per_step: 8,
            num_generations: 4,
            ..rlhf::Params::default()
        };
        rlhf::run(&bench.backend, &params, &bench.io(&["policy", "genrm", "tasks"])).expect("runs");
        let metrics = &bench.steps()[1].metrics;
        // A judge that always says [A] contradicts itself in the other order; one that says neither cannot be read.
        assert_eq!(metrics["reward"], expected);
        assert_eq!(metrics["order_disagreement"], f64::from(u8::from(judge[1] > 0.0)));
        assert_eq!(metrics["verdict_parsed"], f64::from(u8::from(judge[1] > 0.0)));
    }
}

#[test]
fn one_order_rewards_by_the_side_of_the_rollout() {
    let bench = Bench::new();
    bench.model("policy", &[0.0; 6]);
    bench.model("genrm", &[0.0, 5.0, 0.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("tasks"), (0..400).map(|number| task(&format!("task-{number}")))).expect("writes");
    let params = rlhf::Params {
        template: Template::Miniature,
        max_steps: 1,
        prompts_per_step: 400,
        num_generations: 2,
        ..rlhf::Params::default()
    };
    rlhf::run(&bench.backend, &params, &bench.io(&["policy", "genrm", "tasks"])).expect("runs");
    let metrics = &bench.steps()[0].metrics;
    assert!((metrics["win_rate"] - 0.5).abs() < 0.1, "a judge that always says A wins for one side: {metrics:?}");
    assert_eq!(metrics["frac_reward_zero_std"], 1.0, "a group stands on one side");
    assert!(!metrics.contains_key("accuracy"), "nobody knows the right answer of these tasks: {metrics:?}");
}

fn demonstration(id: &str, completion: &str) -> Demonstration {
    Demonstration { id: id.into(), prompt: "red".into(), completion: completion.into() }
}

#[test]
fn judgments_take_their_share_of_every_batch() {
    let bench = Bench::new();
    jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red")]).expect("writes");
    jsonl::write(&bench.path("judgments"), [demonstration("j", "[A]")]).expect("writes");
    let params = sft::Params { max_steps: 500, judgment_share: 0.75, learning_rate: 0.02, ..sft::Params::default() };
    let io = bench.io(&["model", "demonstrations", "judgments"]);
    sft::run(&bench.backend, &params, &io).expect("runs");
    let logits = bench.logits();
    assert!((logits[1] - logits[3] - 3f64.ln()).abs() < 0.2, "three to one: {logits:?}");
}

#[test]
fn a_loss_that_is_not_finite_names_step_and_items() {
    let bench = Bench::new();
    bench.model("model", &[1e300, 0.0, 0.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("demonstrations"), [demonstration("bad-row", "red")]).expect("writes");
    let params = sft::Params { per_device_train_batch_size: 1, ..sft::Params::default() };
    let error = sft::run(&bench.backend, &params, &bench.io(&["model", "demonstrations"])).expect_err("is not finite");
    assert!(error.message.starts_with("step 1: loss ") && error.message.ends_with("items bad-row"), "{error}");
}

#[test]
fn judging_both_orders_writes_both_as_they_were_shown() {
    let bench = Bench::new();
    bench.model("model", &[0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
    jsonl::write(&bench.path("pairs"), [pair("one", Side::A, Some("red [A]"))]).expect("writes");
    let params = judge::Params { template: Template::Miniature, both_orders: true, ..judge::Params::default() };
    judge::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
    let rows: Vec<Judgment> = jsonl::read(&bench.path("out-judgments")).expect("rows");
    let told: Vec<_> = rows.iter().map(|row| (row.order, row.pair.gt_label, row.pair.response_a.as_str())).collect();
    assert_eq!(told, [(Order::Original, Side::A, "red"), (Order::Swapped, Side::B, "blue")]);
    assert!(rows.iter().all(|row| row.finished && row.model_judgment.as_deref() == Some("[B]")));
}

#[test]
fn a_killed_judge_is_asked_for_the_rest_only() {
    let pairs: Vec<Pair> = ["one", "two", "three", "four", "five"].map(|id| pair(id, Side::A, None)).into();
    let params = judge::Params { template: Template::Miniature, ..judge::Params::default() };
    let judged = |bench: &Bench| std::fs::read(bench.path("out-judgments")).expect("judgments");
    let whole = Bench::new();
    jsonl::write(&whole.path("pairs"), &pairs).expect("writes");
    judge::run(&whole.backend, &params, &whole.io(&["model", "pairs"])).expect("runs");
    let cut = Bench::new();
    jsonl::write(&cut.path("pairs"), &pairs).expect("writes");
    for answers in [2, 1, u64::MAX] {
        cut.backend.faults.answers.set(answers);
        let result = judge::run(&cut.backend, &params, &cut.io(&["model", "pairs"]));
        assert_eq!(result.is_ok(), answers == u64::MAX);
        if answers == 1 {
            // Of the last line, only the beginning reached the disk.
            let kept = cut.path("state").join("judgments.jsonl");
            let text = std::fs::read_to_string(&kept).expect("what was kept");
            std::fs::write(&kept, &text[..text.len() - 9]).expect("writes");
        }
    }
    assert_eq!(judged(&cut), judged(&whole));
    assert_eq!(cut.backend.faults.asked.get(), 6, "the one that was cut is asked again, the others once each");
}

#[test]
fn answers_are_greedy_first_and_then_sampled() {
    let bench = Bench::new();
    bench.model("model", &[0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    jsonl::write(&bench.path("tasks"), [task("one"), task("two")]).expect("writes");
    let params = generate::Params { template: Template::Miniature, samples: 2, ..generate::Params::default() };
    generate::run(&bench.backend, &params, &bench.io(&["model", "tasks"])).expect("runs");
    let rows: Vec<Response> = jsonl::read(&bench.path("out-responses")).expect("rows");
    let told: Vec<_> = rows.iter().map(|row| (row.task.id.as_str(), row.decoding.as_str(), row.sample)).collect();
    let expected = [("one", "greedy", 0), ("one", "sampled", 0), ("one", "sampled", 1), ("two", "greedy", 0)];
    assert_eq!(told[..4], expected);
    assert_eq!((rows[0].text.as_str(), rows[0].tokens), ("red", 2));
}

#[test]
fn few_shot_tasks_are_asked_as_the_harness_asks_and_say_so() {
    let bench = Bench::new();
    let solved = |id: &str| {
        let checker = Some(Checker::Gsm8k);
        Task { checker, target: "It is 2.\n#### 2".into(), domain: "gsm8k".into(), ..task(id) }
    };
    jsonl::write(&bench.path("tasks"), [solved("one")]).expect("writes");
    jsonl::write(&bench.path("examples"), [solved("two"), solved("three")]).expect("writes");
    let params = generate::Params { num_fewshot: Some(2), ..generate::Params::default() };
    generate::run(&bench.backend, &params, &bench.io(&["model", "tasks", "examples"])).expect("runs");
    let rows: Vec<Response> = jsonl::read(&bench.path("out-responses")).expect("rows");
    let shot = "Question: red\nAnswer: It is 2.\n#### 2\n\n";
    assert_eq!(rows[0].prompt, format!("{shot}{shot}Question: red\nAnswer:"));
    assert_eq!((rows.len(), rows[0].num_fewshot), (1, 2));
    let until = ["Question:", "</s>", "<|im_end|>"];
    let expected = json!({"do_sample": false, "max_gen_toks": 512, "temperature": 0.0, "until": until});
    assert_eq!(rows[0].gen_kwargs, expected);
    let error = generate::run(&bench.backend, &params, &bench.io(&["model", "tasks"])).expect_err("has no examples");
    assert_eq!(error.message, "`num_fewshot` is 2, but `examples` holds 0 tasks");
}

#[test]
fn no_steps_hand_the_model_on_whatever_the_kind() {
    let started = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let handed_on = |inputs: &[&str], run: &dyn Fn(&Table, &Io) -> Result<(), StageError>| {
        let bench = Bench::new();
        ["model", "policy", "genrm"].iter().for_each(|name| bench.model(name, &started));
        jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red")]).expect("writes");
        jsonl::write(&bench.path("pairs"), [pair("one", Side::A, None)]).expect("writes");
        jsonl::write(&bench.path("tasks"), [task("one")]).expect("writes");
        run(&bench.backend, &bench.io(inputs)).expect("runs");
        assert_eq!(bench.logits(), started);
        assert_eq!(bench.steps(), []);
        assert_eq!(jsonl::read_json::<Value>(&bench.path("out-metrics")).expect("metrics"), json!({}));
    };
    let params = sft::Params { max_steps: 0, ..sft::Params::default() };
    assert_eq!(sft::Sft::check(&params), []);
    handed_on(&["model", "demonstrations"], &|backend, io| sft::run(backend, &params, io));
    let params = genrm::Params { max_steps: 0, ..genrm_params() };
    assert_eq!(genrm::GenrmTrain::check(&params), []);
    handed_on(&["model", "pairs"], &|backend, io| genrm::run(backend, &params, io));
    let params = rlhf::Params { max_steps: 0, template: Template::Miniature, ..rlhf::Params::default() };
    assert_eq!(rlhf::ActorRlhf::check(&params), []);
    handed_on(&["policy", "genrm", "tasks"], &|backend, io| rlhf::run(backend, &params, io));
}

#[test]
fn what_no_loop_can_use_is_told_at_the_field() {
    let fields = |problems: Vec<Problem>| -> Vec<String> { problems.iter().map(|one| one.field.clone()).collect() };
    let params = genrm::Params { num_generations: 0, temperature: 0.0, min_lr_ratio: 2.0, ..genrm_params() };
    assert_eq!(fields(genrm::GenrmTrain::check(&params)), ["num_generations", "min_lr_ratio", "temperature"]);
    let params = genrm::Params { num_iterations: 2, top_k: 5, sync_ref_model: true, ..genrm_params() };
    assert_eq!(fields(genrm::GenrmTrain::check(&params)), ["sync_ref_model", "num_iterations"]);
    let params = rlhf::Params { num_iterations: 0, ..rlhf::Params::default() };
    assert_eq!(fields(rlhf::ActorRlhf::check(&params)), ["num_iterations"]);
    let params = sft::Params { max_length: 0, min_lr_ratio: -1.0, ..sft::Params::default() };
    assert_eq!(fields(sft::Sft::check(&params)), ["max_length", "min_lr_ratio"]);
}

/// What a kind says of a file whose second row lacks `column`, holds a number there, or that has no row.
fn bad_rows(
    inputs: &[&str],
    (input, row, column): (&str, Value, &str),
    run: &dyn Fn(&Table, &Io) -> Result<(), StageError>,
) {
    let (mut lacks, mut wrong) = (row.clone(), row.clone());
    lacks.as_object_mut().expect("a row").remove(column);
    wrong[column] = json!(7);
    let expected = [
        format!("{input}:2: missing field `{column}`"),
        format!("{input}:2: column `{column}`: invalid type: integer `7`"),
        format!("{input}` holds no row"),
    ];
    for (rows, expected) in [vec![&row, &lacks], vec![&row, &wrong], vec![]].into_iter().zip(expected) {
        let bench = Bench::new();
        ["policy", "genrm"].iter().for_each(|name| bench.model(name, &[0.0; 6]));
        jsonl::write(&bench.path("demonstrations"), [demonstration("d", "red")]).expect("writes");
        jsonl::write(&bench.path(input), rows).expect("writes");
        let error = run(&bench.backend, &bench.io(inputs)).expect_err("cannot be used");
        assert!(error.message.contains(&expected), "{error} does not say {expected}");
    }
}

#[test]
fn a_row_that_cannot_be_used_is_told_with_its_file_row_and_column() {
    let pair = serde_json::to_value(pair("one", Side::A, None)).expect("a row");
    let task = serde_json::to_value(task("one")).expect("a row");
    let text = serde_json::to_value(demonstration("d", "red")).expect("a row");
    let params = sft::Params::default();
    for input in ["demonstrations", "judgments"] {
        let inputs = ["model", "demonstrations", "judgments"];
        bad_rows(&inputs, (input, text.clone(), "completion"), &|backend, io| sft::run(backend, &params, io));
    }
    let params = genrm_params();
    bad_rows(&["model", "pairs"], ("pairs", pair.clone(), "response_A"), &|b, io| genrm::run(b, &params, io));
    let params = rlhf::Params { template: Template::Miniature, ..rlhf::Params::default() };
    bad_rows(&["policy", "genrm", "tasks"], ("tasks", task.clone(), "domain"), &|b, io| rlhf::run(b, &params, io));
    let params = judge::Params { template: Template::Miniature, ..judge::Params::default() };
    bad_rows(&["model", "pairs"], ("pairs", pair, "id"), &|b, io| judge::run(b, &params, io));
    let params = generate::Params { template: Template::Miniature, ..generate::Params::default() };
    bad_rows(&["model", "tasks"], ("tasks", task, "conversations"), &|b, io| generate::run(b, &params, io));
}
