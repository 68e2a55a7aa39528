//! `plumb report`, the stage `report.html` and `plumb export table`: one page, and what people do with it in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect;

use crate::harness::Scene;

/// Two arms whose judgments are given, scored by a real meta-judge; the page as a stage of its own.
const STUDY: &str = r#"schema = 1

[axes]
arm = ["bad", "good"]

[source.bad]
path = "bad.jsonl"
[source.good]
path = "good.jsonl"

[stage.judge]
uses = "command"
inputs = { bad = "source.bad", good = "source.good" }
with.argv = ["sh", "-c", "if [ $0 = bad ]; then cat $1; else cat $2; fi > {out:judgments}", { axis = "arm" }, "{in:bad}", "{in:good}"]
outputs = { judgments = "judgments.jsonl" }

[stage.train]
uses = "command"
with.argv = ["sh", "-c", "for step in 1 2 3; do echo \"{\\\"step\\\": $step, \\\"metrics\\\": {\\\"reward\\\": 0.$step, \\\"kl\\\": 0.0$step}}\"; done > {out:steps}; echo $0", { axis = "arm" }]
outputs = { steps = "steps.jsonl" }

[stage.score]
uses = "bench.s-corr"
inputs.judgments = "judge.judgments"
with.meta = { kind = "overlap", threshold = 0.5 }
with.bootstrap_samples = 100

[stage.page]
uses = "report.html"
inputs.metrics = { all = "score.metrics", over = ["arm"] }
inputs.items = { all = "score.items", over = ["arm"] }
inputs.rows = { all = "score.rows", over = ["arm"] }
inputs.judgments = { all = "judge.judgments", over = ["arm"] }
inputs.steps = { all = "train.steps", over = ["arm"] }
with.title = "Two arms & <more>"
"#;

/// A rationale is right for `good`, and for `bad` markup that would break a page that takes it for more than text. The
/// fourth label is wrong.
fn judgments(arm: &str) -> String {
    let row = |item: u32| {
        let grounds = format!("facts facts facts {item}");
        let wrote = match arm {
            "good" => grounds.clone(),
            _ => "it rambles</script><img src=x onerror='window.broken = 1'>".into(),
        };
        let verdict = if item == 4 { "B" } else { "A" };
        serde_json::json!({
            "pair": {
                "id": format!("item-{item}"),
                "conversations": [{"role": "user", "content": format!("question {item} <b>")}],
                "response_A": format!("first answer to {item}"), "response_B": format!("second answer to {item}"),
                "gt_label": "A", "gt_judgment": grounds, "source": {"dataset": "d", "subset": "stem"},
            },
            "order": "original", "model_judgment": format!("{wrote}. \\boxed{{{verdict}}}"), "finished": true,
        })
        .to_string()
    };
    (1..=4).map(|item| row(item) + "\n").collect()
}

fn study() -> Scene {
    let scene = Scene::new(STUDY);
    scene.write("bad.jsonl", &judgments("bad"));
    scene.write("good.jsonl", &judgments("good"));
    scene
}

fn study_that_ran() -> Scene {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    scene
}

#[test]
fn nothing_to_report_is_said_with_what_makes_it() {
    let scene = study();
    scene.plumb("report p.toml").exits(1).says(expect![[r#"
        ---
        error: there is nothing to report yet: no step has a result
        hint: `plumb run p.toml` makes some
    "#]]);
    assert!(!scene.path("p.html").exists());
}

#[test]
fn a_report_is_one_file_with_every_section_and_nothing_from_a_network() {
    let scene = study_that_ran();
    let written = scene.plumb("report p.toml --json").exits(0).json();
    assert_eq!((&written["branches"], &written["judgments"]), (&2.into(), &8.into()));
    assert_eq!(written["missing"], serde_json::json!([]));
    let page = scene.read("p.html");
    for section in ["headline", "probes", "judgments", "curves", "pipeline"] {
        assert!(page.contains(&format!("<section id=\"{section}\"")), "{section}");
    }
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());
    assert!(!page.contains("src=x"), "what a judge wrote is packed, never markup");
    for output in ["score@arm=good.metrics", "score@arm=good.rows"] {
        assert!(page.contains(&scene.digest(output)[..12]), "the digest of {output}");
    }
}

#[test]
fn a_report_of_what_is_there_names_what_is_missing() {
    let scene = study();
    scene.plumb("run p.toml score@arm=bad").exits(0);
    let written = scene.plumb("report p.toml score -o some.html --json").exits(0).json();
    assert_eq!(written["missing"], serde_json::json!(["judge@arm=good", "score@arm=good"]));
    assert_eq!(written["judgments"], 4);
    assert!(scene.read("some.html").contains("2 steps without a result"));
}

#[test]
fn the_stage_makes_the_page_as_a_result_without_clocks_and_costs() {
    let scene = study_that_ran();
    let page = scene.result("page.page");
    assert!(page.contains("<h1>Two arms &amp; &lt;more&gt;</h1>"));
    assert!(page.contains("id=\"curves\"") && !page.contains("id=\"pipeline\""));
    assert!(page.contains(&scene.digest("score@arm=good.metrics")), "digests are those of the cache");
    scene.plumb("verify p.toml page").exits(0);
}

#[test]
fn the_headline_table_is_exported_for_a_paper() {
    let scene = study_that_ran();
    scene.plumb("export table p.toml").exits(0).prints(expect![[r#"
        | branch |              score L-Acc |             score S-Corr |            score F-Score |
        |--------|-------------------------:|-------------------------:|-------------------------:|
        | bad    | **0.750 [0.250, 1.000]** |     1.000 [1.000, 1.000] |    0.000 [0.000, 0.000]† |
        | good   |    0.750 [0.250, 1.000]† | **0.000 [0.000, 0.000]** | **0.750 [0.250, 1.000]** |

        **Bold** the best of a column; † not significantly different from it (paired, Holm-adjusted within the column, level 0.05). Brackets: 95 % intervals of the items of one seed, which say nothing of other seeds.

        Computed from `score.items` [KEY], `score.metrics` [KEY], `score@arm=good.items` [KEY], `score@arm=good.metrics` [KEY].
    "#]]);
    scene.plumb("export table p.toml --format latex -o table.tex").exits(0);
    let latex = scene.read("table.tex");
    assert!(
        latex.contains("\\toprule")
            && latex.contains("\\textbf{0.750 [")
            && latex.contains(&scene.digest("score.metrics"))
    );
    let csv = scene.plumb("export table p.toml --format csv").exits(0);
    assert!(csv.stdout.contains("good,score,f_score,0.75,"), "{}", csv.stdout);
    scene.plumb("export p.toml score@arm=bad crate").exits(0);
    assert!(scene.path("crate/ro-crate-metadata.json").is_file(), "a crate is exported as ever");
}

fn found(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// Node, Chromium and where `tests/all` installs Playwright; without one of them the browser is not asked.
fn browser() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let modules = target.join("playwright/node_modules");
    let playwright = modules.join("playwright-core").is_dir().then_some(modules);
    Some((found(&["node", "nodejs"])?, found(&["chromium", "chromium-browser", "google-chrome"])?, playwright?))
}

#[test]
fn the_page_works_in_a_browser_wide_narrow_dark_printed_and_by_keys() {
    let Some((node, chromium, modules)) = browser() else {
        eprintln!("skipped: needs node, chromium and target/playwright (tests/all installs them)");
        return;
    };
    let scene = study_that_ran();
    scene.plumb("report p.toml").exits(0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/page.js");
    let mut command = Command::new(node);
    command.arg(script).arg(chromium).arg(scene.path("p.html")).arg(scene.root()).env("NODE_PATH", modules);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
