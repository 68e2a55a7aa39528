//! Getting results out: `open`, `get`, `publish`, and the metrics that a run prints.

use std::fs;
use std::os::unix::fs::MetadataExt;

use expect_test::expect;

use crate::harness::Scene;
use crate::scenarios::reruns;

/// One stage with two outputs, at two branches.
const SCORES: &str = r#"schema = 1

[pipeline]
publish = { "out/rows.txt" = "score.rows" }

[axes]
seed = { replicate = 2 }

[stage.score]
uses = "command"
with.argv = ["sh", "-c", "echo row $0 > {out:rows}; printf '{\"l_acc\": 0.%s5, \"l_acc/stem\": 1.0, \"s_corr\": null}' $0 > {out:metrics}", { axis = "seed" }]
outputs = { rows = "rows.txt", metrics = "metrics.json" }
"#;

fn scores() -> Scene {
    let scene = Scene::new(SCORES);
    scene.plumb("run p.toml").exits(0);
    scene
}

#[test]
fn a_run_prints_the_metrics_of_its_goals_by_branch() {
    let scene = Scene::new(SCORES);
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"

        score
        branch     l_acc   s_corr
        baseline  0.0500  unknown
        seed=1    0.1500  unknown
        ---
           plan  2 steps  0 in the cache, 2 to run
          start  score  no earlier result of this stage is known
           done  score  [TIME]
          start  score@seed=1  no earlier result of this stage is known
           done  score@seed=1  [TIME]
          wrote  score.rows  to [ROOT]/out/rows.txt

          step  time  why
          score  ran  [TIME]  no earlier result of this stage is known
          score@seed=1  ran  [TIME]  no earlier result of this stage is known

        ran 2 steps in [TIME]
    "#]]);
}

#[test]
fn a_table_is_printed_as_it_is() {
    let scene = Scene::new(SCORES);
    scene.edit("rows = \"rows.txt\"", "rows = \"table.md\"");
    scene.plumb("run p.toml score@seed=1").exits(0).prints(expect![[r#"

        score@seed=1
        row 1
    "#]]);
}

#[test]
fn publish_puts_the_baseline_where_people_expect_it_and_keeps_it_fresh() {
    let scene = scores();
    assert_eq!(scene.read("out/rows.txt"), "row 0\n");
    scene.edit("echo row $0", "echo line $0");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.read("out/rows.txt"), "line 0\n");
}

#[test]
fn open_prints_a_path_that_can_be_read() {
    let scene = scores();
    let path = scene.plumb("open p.toml score@seed=1.rows").exits(0).raw;
    assert_eq!(fs::read_to_string(path.trim_end()).unwrap(), "row 1\n");
    let told = scene.plumb("open p.toml score@seed=1.rows --json").exits(0).json();
    assert_eq!((told["output"].as_str(), told["size"].as_u64()), (Some("score@seed=1.rows"), Some(6)));
}

#[test]
fn get_links_where_asked_to_and_the_file_is_read_only() {
    let scene = scores();
    scene.plumb("get p.toml score@seed=1.rows copy.txt").exits(0);
    scene.plumb("get p.toml score@seed=1.rows link.txt --link").exits(0);
    let names = |file: &str| {
        let metadata = fs::metadata(scene.path(file)).unwrap();
        (metadata.nlink(), metadata.permissions().readonly())
    };
    assert_eq!(scene.read("link.txt"), "row 1\n");
    assert_eq!(names("copy.txt"), (1, false));
    // A file system that clones files has no need of a link.
    assert!([(2, true), (1, true)].contains(&names("link.txt")), "{:?}", names("link.txt"));
}

#[test]
fn get_copies_out_and_never_overwrites() {
    let scene = scores();
    scene.plumb("get p.toml score@seed=1.rows mine/rows.txt").exits(0).says(expect![[r#"
        ---
        wrote score@seed=1.rows to mine/rows.txt ([SIZE])
    "#]]);
    assert_eq!(scene.read("mine/rows.txt"), "row 1\n");
    scene.write("mine/rows.txt", "edited\n");
    scene.plumb("get p.toml score@seed=1.rows mine/rows.txt").exits(2).says(expect![[r#"
        ---
        error: `mine/rows.txt` is there already
        hint: remove it, or name another place
    "#]]);
    assert_eq!(scene.read("mine/rows.txt"), "edited\n");
    scene.plumb("get p.toml score@seed=1.rows bare.txt").exits(0);
    assert_eq!(scene.read("bare.txt"), "row 1\n");
    fs::create_dir(scene.path("folder")).unwrap();
    scene.plumb("get p.toml score@seed=1.rows folder").exits(0);
    assert_eq!(scene.read("folder/rows.txt"), "row 1\n");
}

#[test]
fn what_open_and_get_cannot_know_they_ask_for() {
    let scene = scores();
    scene.plumb("open p.toml score@seed=1").exits(2).says(expect![[r#"
        ---
        error: `score` has 2 outputs
        hint: name one, as `score@seed=1.rows`; its outputs are `rows`, `metrics`
    "#]]);
    scene.plumb("open p.toml score@seed=1.row").exits(2).says(expect![[r#"
        ---
        error: `score` has no output `row`
        hint: its outputs are `rows`, `metrics`
    "#]]);
    let scene = reruns::chain();
    scene.plumb("open p.toml count").exits(1).says(expect![[r#"
        ---
        error: `count` has no result in the cache
        hint: make it with `plumb run p.toml count`
    "#]]);
}
