//! `plumb cache verify`: damage is found, told and taken away, and the next run makes good what was lost.

use expect_test::expect;

use crate::scenarios::reruns::chain_that_ran;

fn short_keys(text: &str) -> String {
    regex::Regex::new(r"\b[0-9a-f]{12}\b").unwrap().replace_all(text, "[SHORT]").into_owned()
}

#[test]
fn a_whole_cache_is_told_to_be_whole() {
    let scene = chain_that_ran();
    scene.plumb("cache verify").exits(0).says(expect![[r#"
        ---
        read 3 blobs ([SIZE]) and 3 records: all whole
    "#]]);
    let told = scene.plumb("cache verify --json").exits(0).json();
    assert_eq!((told["clean"].as_bool(), told["bytes"].as_u64()), (Some(true), Some(16)));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn damage_is_exit_1_is_repaired_and_what_was_lost_runs_again() {
    let scene = chain_that_ran();
    scene.damage("prep.sorted");
    scene.forget("count.number");
    let looked = scene.plumb("cache verify -n").exits(1);
    expect![[r#"
        damaged   blob [SHORT]
        lost      `number` of count ([SHORT])
        lost      `sorted` of prep ([SHORT])
    "#]]
    .assert_eq(&short_keys(&looked.stdout));
    let repaired = scene.plumb("cache verify").exits(1);
    expect![[r#"
        damaged   blob [SHORT]  moved aside
        lost      `number` of count ([SHORT])  dropped
        lost      `sorted` of prep ([SHORT])  dropped
    "#]]
    .assert_eq(&short_keys(&repaired.stdout));
    let told = scene.plumb("cache verify --json").exits(0).json();
    assert_eq!((told["clean"].as_bool(), told["records"].as_u64()), (Some(true), Some(1)));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the goal is whole, and asks for nothing");
    scene.plumb("run p.toml count").exits(0);
    assert_eq!(scene.executed(), "count prep");
    scene.plumb("cache verify").exits(0);
}

#[test]
fn a_lost_result_is_told_for_machines() {
    let scene = chain_that_ran();
    scene.forget("report.text");
    let told = scene.plumb("cache verify --json").exits(1).json();
    assert_eq!((told["lost"][0]["step"].as_str(), told["lost"][0]["dropped"].as_bool()), (Some("report"), Some(true)));
    assert_eq!(told["lost"][0]["outputs"][0], "text");
}
