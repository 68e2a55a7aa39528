//! `plumb cache ls`, `stats`, `pin`: what is in the cache, what it weighs and what it cost.

use expect_test::expect;

use crate::harness::Scene;
use crate::scenarios::reruns::{chain, chain_that_ran};

/// The key of the one result of a step.
fn key(scene: &Scene, step: &str) -> String {
    let listed = scene.plumb(&format!("cache ls {step} --json")).exits(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    listed[0]["key"].as_str().unwrap().to_owned()
}

#[test]
fn ls_lists_step_pipeline_key_size_age_cost_and_who() {
    let scene = chain_that_ran();
    let listed = scene.plumb("cache ls").exits(0);
    let masked = regex::Regex::new(r"\b[0-9a-f]{12}\b").unwrap().replace_all(&listed.stdout, "[SHORT]").into_owned();
    let masked = regex::Regex::new(r"\d+ (s|min)\b").unwrap().replace_all(&masked, "[AGE]").into_owned();
    let masked = regex::Regex::new(r"(uid )?\S+@\S+").unwrap().replace_all(&masked, "[WHO]").into_owned();
    expect![[r#"
        step  pipeline  key  size  age  took  by
        count  p  [SHORT]  [SIZE]  [AGE]  [TIME]  [WHO]
        prep  p  [SHORT]  [SIZE]  [AGE]  [TIME]  [WHO]
        report  p  [SHORT]  [SIZE]  [AGE]  [TIME]  [WHO]
    "#]]
    .assert_eq(&masked);
    expect![[r#"
        3 results, [SIZE]
    "#]]
    .assert_eq(&listed.stderr);
}

#[test]
fn ls_filters_and_sorts_and_speaks_json() {
    let scene = chain_that_ran();
    scene.edit("echo $(cat {in:number}) $0 >", "printf '%0999d' 7 > {out:text}; echo $(cat {in:number}) $0 >>");
    scene.plumb("run p.toml").exits(0);
    let steps = |options: &str| {
        let listed = scene.plumb(&format!("cache ls --json {options}")).exits(0).json();
        let steps = listed.as_array().unwrap().iter().map(|line| line["step"].as_str().unwrap().to_owned());
        steps.collect::<Vec<String>>().join(" ")
    };
    assert_eq!(steps(""), "count prep report report");
    assert_eq!(steps("--sort size -n 1"), "report");
    assert_eq!(steps("--sort age -n 1"), "prep");
    assert_eq!(steps("re*t"), "report report");
    assert_eq!(steps("--stage count"), "count");
    assert_eq!(steps(&key(&scene, "prep")[..8]), "prep");
    assert_eq!(steps("--pipeline other"), "");
    assert_eq!(steps("--larger 900B"), "report");
    assert_eq!(steps("--older 1d"), "");
    assert_eq!(steps("--sort cost").len(), "count prep report report".len());
    scene.plumb("cache ls --older yesterday").exits(2);
    let line = &scene.plumb("cache ls prep --json").json()[0];
    assert_eq!(
        (line["bytes"].as_u64(), line["files"].as_u64(), line["pinned"].as_bool()),
        (Some(6), Some(1), Some(false))
    );
}

#[test]
fn results_are_pinned_by_step_or_by_the_first_digits_of_their_key() {
    let scene = chain_that_ran();
    let key = key(&scene, "report");
    scene.plumb("cache pin p.toml report --note paper").exits(0);
    let again = scene.plumb(&format!("cache pin {}", &key[..10])).exits(0);
    assert!(again.stderr.starts_with("was pinned report ("), "{}", again.stderr);
    assert_eq!(scene.plumb("cache ls report --json").json()[0]["pinned"], true);
    scene.plumb("cache gc --max-size 0 --keep-runs 0").exits(0);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the goal was pinned, and asks for nothing");
    let unpinned = scene.plumb(&format!("cache unpin {} --json", &key[..10])).exits(0).json();
    assert_eq!((unpinned[0]["step"].as_str(), unpinned[0]["changed"].as_bool()), (Some("report"), Some(true)));
    scene.plumb("cache gc --max-size 0 --keep-runs 0").exits(0);
    assert_eq!(scene.plumb("cache ls --json").json().as_array().unwrap().len(), 0);
}

#[test]
fn what_is_no_result_cannot_be_pinned() {
    let scene = chain_that_ran();
    scene.plumb("cache pin nothing").exits(2).says(expect![[r#"
        ---
        error: `nothing` is neither a pipeline file nor the first digits (4 or more) of a key
        hint: `plumb cache ls` lists the keys
    "#]]);
    scene.plumb("cache pin 0123456789abcdef").exits(2).says(expect![[r#"
        ---
        error: no result has a key that begins with `0123456789abcdef`
        hint: `plumb cache ls` lists the keys
    "#]]);
    scene.edit("sort {in:raw}", "sort -r {in:raw}");
    scene.plumb("cache pin p.toml prep").exits(1).says(expect![[r#"
        ---
        error: `prep` has no result in the cache
        hint: make it with `plumb run p.toml prep`
    "#]]);
}

#[test]
fn stats_tell_bytes_by_class_what_is_shared_and_what_hits_saved() {
    let scene = chain_that_ran();
    scene.plumb("run p.toml").exits(0);
    let stats = scene.plumb("cache stats --json").exits(0).json();
    assert_eq!((stats["results"].as_u64(), stats["runs"].as_u64()), (Some(3), Some(2)));
    assert_eq!(stats["hits"].as_u64(), Some(3), "of the second run");
    assert!(stats["saved_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(stats["classes"][0]["what"], "results");
    assert_eq!(stats["classes"][0]["bytes"], 6 + 2 + 8);
    assert_eq!((stats["unique_bytes"].as_u64(), stats["shared_bytes"].as_u64()), (Some(16), Some(0)));
    assert_eq!(stats["diagnostics_share"], 0.0);
    let ways = stats["ways"].as_array().unwrap();
    assert_eq!(ways[0]["to"], "steps");
    assert!(["reflink", "hard link"].contains(&ways[0]["readers"].as_str().unwrap()), "{ways:?}");
    assert!(ways.iter().all(|way| !way["file_system"].as_str().unwrap().is_empty()));

    // Another step with the same bytes shares the blob.
    scene.edit("[stage.report]", "[stage.again]\nuses = \"command\"\ninputs.lines = \"prep.sorted\"\nwith.argv = [\"cp\", \"{in:lines}\", \"{out:copy}\"]\noutputs = { copy = \"c\" }\n\n[stage.report]");
    scene.plumb("run p.toml again").exits(0);
    let stats = scene.plumb("cache stats --json").exits(0).json();
    assert_eq!((stats["unique_bytes"].as_u64(), stats["shared_bytes"].as_u64()), (Some(10), Some(6)));
    assert_eq!(stats["unshared_bytes"].as_u64(), Some(22));
    let told = scene.plumb("cache stats").exits(0);
    assert!(told.stdout.contains("hits saved") && told.stdout.contains("files go to"), "{}", told.stdout);
}

#[test]
fn a_cache_that_does_not_wait_for_the_disk_gives_the_same_results() {
    let scene = chain();
    scene.plumb("run p.toml --durable=false").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
    assert_eq!(scene.result("report.text"), "3 lines\n");
    let mut verify = scene.command("cache verify");
    let verified = verify.env("PLUMB_DURABLE", "false").output().unwrap();
    scene.ended("cache verify", verified).exits(0);
}
