//! Results that are sent while a run goes on (`push = "always"`), what waits, and what is sent by hand.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Outcome, Scene};
use crate::scenarios::people::{SETTINGS, Shared};
use crate::scenarios::reruns;
use crate::servers::gate::Gate;
use crate::servers::s3::S3;

/// Somebody with a key, whose every result goes to a folder.
pub fn alice(pipeline: &str) -> Scene {
    let scene = Scene::new(pipeline);
    scene.write("raw.txt", "b\na\nc\n");
    fs::create_dir(scene.path("lab")).unwrap();
    always(&scene, &scene.path("lab").display().to_string());
    scene.plumb("key new").exits(0);
    scene
}

pub fn always(scene: &Scene, url: &str) {
    scene.write(SETTINGS, &format!("write = \"lab\"\npush = \"always\"\n[layer.lab]\nurl = \"{url}\"\n"));
}

/// Somebody else, who trusts these keys and reads the same folder.
pub fn reader(of: &Scene, keys: &[(&str, &str)], more: &str) -> Scene {
    let scene = reruns::chain();
    let keys: String = keys.iter().map(|(name, key)| format!("{name} = \"{key}\"\n")).collect();
    let url = of.path("lab").display().to_string();
    scene.write(SETTINGS, &format!("{more}[keys]\n{keys}[layer.lab]\nurl = \"{url}\"\n"));
    scene
}

pub fn key_of(scene: &Scene) -> String {
    scene
        .plumb("key show")
        .exits(0)
        .raw
        .split_whitespace()
        .find(|word| word.starts_with("ed25519:"))
        .unwrap()
        .to_owned()
}

/// The names of the files below a folder.
pub fn files(scene: &Scene, folder: &str) -> Vec<String> {
    let mut folders = vec![scene.path(folder)];
    let mut names = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    names
}

fn waiting(scene: &Scene) -> usize {
    files(scene, "cache/v1/outbox/lab").len()
}

/// Waits for a condition, for so long that only a bug takes longer.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::yield_now();
    }
}

/// The event of what was sent, of a run with `--json`.
fn sent(outcome: &Outcome) -> (u64, u64) {
    let events = outcome.json_lines();
    let sum = |field: &str| {
        events.iter().filter(|event| event["what"] == "sent").filter_map(|event| event[field].as_u64()).next_back()
    };
    (sum("results").unwrap_or(0), sum("waiting").unwrap_or(0))
}

pub fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.raw_stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
}

#[test]
fn what_a_run_makes_is_sent_with_it_and_what_waits_with_the_next_one() {
    let scene = alice(reruns::CHAIN);
    let (results, waits) = sent(&scene.plumb("run p.toml --json").exits(0));
    assert_eq!((results + waits, waits), (3, waiting(&scene) as u64));
    assert!(results > 0, "the first result had nothing to wait for");
    let (more, waits) = sent(&scene.plumb("run p.toml --json").exits(0));
    assert_eq!((results + more, waits), (3, 0));
    assert_eq!(waiting(&scene), 0);
    let told = scene.plumb("run p.toml").exits(0);
    assert!(!told.stderr.contains("sent") && !told.stderr.contains("wait"), "{}", told.stderr);

    let bob = reader(&scene, &[("alice", &key_of(&scene))], "");
    bob.plumb("run p.toml prep count report").exits(0);
    assert_eq!((bob.executed().as_str(), bob.result("report.text")), ("", scene.result("report.text")));
}

#[test]
fn what_lies_in_a_layer_only_is_never_signed_by_whoever_builds_on_it() {
    let shared = Shared::new();
    let alice = shared.maker();
    let bob = shared.person();
    bob.trusts("alice", &alice);
    let own = shared.path("bobs");
    fs::create_dir(&own).unwrap();
    let settings = bob.scene.read(SETTINGS).replace("write = \"lab\"", "push = \"always\"\nwrite = \"own\"");
    bob.scene.write(SETTINGS, &format!("{settings}[layer.own]\nurl = \"{}\"\n", own.display()));
    bob.scene.edit("word = \"lines\"", "word = \"rows\"");
    assert_eq!(bob.runs(), "report", "bob has the bytes of `count`, and of `prep` what alice's layer tells");
    bob.scene.plumb("cache push").exits(0);

    let carol = shared.person();
    carol.scene.write(SETTINGS, &format!("[layer.bobs]\nurl = \"{}\"\n", own.display()));
    carol.trusts("alice", &alice);
    carol.trusts("bob", &bob);
    carol.scene.edit("word = \"lines\"", "word = \"rows\"");
    carol.scene.plumb("run p.toml report").exits(0);
    assert_eq!(carol.scene.executed(), "");
    carol.scene.plumb("bundle export p.toml report -o b.plumb").exits(0);
    let told = carol.scene.plumb("bundle verify b.plumb --json").exits(0);
    let told = told.json();
    let of =
        |record: &Value| format!("{} {}", record["step"].as_str().unwrap(), record["signer"]["name"].as_str().unwrap());
    let lineage: Vec<String> = told["lineage"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(
        (of(&told["results"][0]).as_str(), lineage),
        ("report bob", vec!["count alice".into(), "prep alice".into()])
    );
}

/// `first` ends at once, `second` once the test has written into a named pipe.
const HELD: &str = r#"schema = 1

[stage.first]
uses = "command"
with.argv = ["sh", "-c", "echo one > {out:text}"]
outputs = { text = "first.txt" }

[stage.second]
uses = "command"
inputs.text = "first.text"
with.argv = ["sh", "-c", "read line < $0; cat {in:text} > {out:text}; echo $line >> {out:text}", "HOLD"]
outputs = { text = "second.txt" }
"#;

fn held() -> Scene {
    let scene = alice(HELD);
    let hold = scene.fifo("hold");
    scene.edit("\"HOLD\"", &format!("\"{}\"", hold.display()));
    scene
}

fn release(scene: &Scene) {
    fs::write(scene.path("hold"), "go\n").unwrap();
}

#[test]
fn a_result_is_sent_while_the_next_step_runs() {
    let scene = held();
    let run = scene.start("run p.toml --json");
    until("the first result comes", || files(&scene, "lab/plumb-1/segments").len() == 1 && waiting(&scene) == 0);
    release(&scene);
    assert_eq!(sent(&scene.wait("run p.toml --json", run).exits(0)), (2, 0));
    assert_eq!(files(&scene, "lab/plumb-1/actions").len(), 2);
}

#[test]
fn a_detached_run_sends_what_it_makes() {
    let scene = held();
    scene.plumb("run p.toml --detach").exits(0);
    until("the first result comes", || files(&scene, "lab/plumb-1/segments").len() == 1);
    release(&scene);
    until("the second one comes", || files(&scene, "lab/plumb-1/actions").len() == 2 && waiting(&scene) == 0);
    let ended = || scene.plumb("log --json").exits(0).json()[0]["outcome"] == "done";
    until("the run ends", ended);
}

#[test]
fn what_a_killed_run_has_not_sent_waits_for_the_next_one() {
    let scene = held();
    fs::remove_dir(scene.path("lab")).unwrap();
    let mut run = scene.start("run p.toml");
    until("the first result waits", || waiting(&scene) == 1 && files(&scene, "cache/v1/actions").len() == 1);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(waiting(&scene), 1);
    fs::create_dir(scene.path("lab")).unwrap();
    let told = scene.plumb("cache push --json").exits(0).json();
    assert_eq!((told["results"].as_u64(), told["new_records"].as_u64()), (Some(1), Some(1)));
    assert_eq!((waiting(&scene), files(&scene, "lab/plumb-1/actions").len()), (0, 1));
    assert_eq!(scene.plumb("cache push").exits(0).stderr, "there is nothing to send to `lab`\n");
}

#[test]
fn a_layer_that_fails_is_one_warning_and_no_failed_run() {
    let scene = alice(reruns::CHAIN);
    fs::remove_dir(scene.path("lab")).unwrap();
    let told = scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    let nothing_sent = warnings(&told).iter().filter(|warning| warning.starts_with("nothing is sent to `lab`")).count();
    assert_eq!((nothing_sent, waiting(&scene)), (1, 3), "{}", told.raw_stderr);
    assert!(told.stderr.contains("3 results wait for `lab`"), "{}", told.stderr);
    scene.plumb("cache gc --max-size 0 --keep-runs 0").exits(0);
    fs::create_dir(scene.path("lab")).unwrap();
    let told = scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "what waits is not collected");
    assert!(told.raw_stderr.contains("sent 3 results (16 B) to `lab`"), "{}", told.raw_stderr);
    assert_eq!((waiting(&scene), files(&scene, "lab/plumb-1/segments").len()), (0, 1), "one push for all that waited");
}

#[test]
fn without_a_key_nothing_starts() {
    let scene = alice(reruns::CHAIN);
    fs::remove_file(scene.path("home/.config/plumb/key")).unwrap();
    for command in ["run p.toml", "run p.toml --detach", "watch p.toml"] {
        let told = scene.plumb(command).exits(2);
        assert!(told.stderr.contains("error: there is no key to sign results with"), "{}", told.stderr);
        assert!(told.stderr.contains("hint: make one with `plumb key new`"), "{}", told.stderr);
    }
    assert_eq!(scene.executed(), "");
}

#[test]
fn only_ones_own_settings_say_when_results_are_sent() {
    let scene = reruns::chain();
    scene.write("plumb.toml", "push = \"always\"\n");
    assert!(
        scene.plumb("plan p.toml").exits(2).stderr.contains("a project must not say when results are sent") || {
            scene.write(SETTINGS, "[layer.lab]\nurl = \"/no/such\"\n");
            scene.plumb("run p.toml").exits(2).stderr.contains("a project must not say when results are sent")
        }
    );
    fs::remove_file(scene.path("plumb.toml")).unwrap();
    for (settings, told) in
        [("push = \"always\"\n", "`push` needs a layer to push to"), ("push = \"allways\"\n", "did you mean `always`?")]
    {
        scene.write(SETTINGS, settings);
        let stderr = scene.plumb("run p.toml").exits(2).stderr;
        assert!(stderr.contains(told), "{stderr}");
    }
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_run_of_many_steps_leaves_few_segments() {
    let scene = alice(
        r#"schema = 1
[axes]
n = { replicate = 60 }
[stage.one]
uses = "command"
with.argv = ["sh", "-c", "echo $0 > {out:text}", { axis = "n" }]
outputs = { text = "one.txt" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    scene.plumb("cache push").exits(0);
    assert_eq!((waiting(&scene), files(&scene, "lab/plumb-1/actions").len()), (0, 60));
    let pushes = files(&scene, "lab/plumb-1/segments").len();
    assert!(pushes < 20, "{pushes} segments for 60 results");
}

#[test]
fn everything_that_a_run_made_or_used_is_pushed_by_its_name() {
    let scene = alice(reruns::CHAIN);
    scene.write(SETTINGS, &scene.read(SETTINGS).replace("push = \"always\"\n", ""));
    scene.plumb("run p.toml").exits(0);
    scene.edit("word = \"lines\"", "word = \"rows\"");
    scene.plumb("run p.toml").exits(0);
    let runs = scene.plumb("log p.toml --json").exits(0).json();
    let id = |at: usize| runs[at]["id"].as_str().unwrap().to_owned();
    let pushed = |run: &str| scene.plumb(&format!("cache push p.toml --run {run} --json")).exits(0).json();
    let counts = |told: Value| (told["results"].as_u64().unwrap(), told["new_records"].as_u64().unwrap());
    assert_eq!(counts(pushed("last")), (3, 3), "its own `report`, and what it found");
    assert_eq!(counts(pushed(&id(0))), (3, 0), "the last one is {}", id(0));
    assert_eq!(counts(pushed(&id(1))), (3, 1), "the `report` of the first run is another");

    scene.forget("prep.sorted");
    let told = pushed(&id(1));
    assert_eq!((told["results"].as_u64(), told["not_here"].as_u64()), (Some(2), Some(1)));
    let wrong = |line: &str| scene.plumb(line).exits(2).stderr;
    assert!(wrong("cache push p.toml --run 1999").contains("no one run of `p.toml` has an id that begins with `1999`"));
    assert!(wrong("cache push p.toml prep --run last").contains("without steps"));
    scene.write("other.toml", reruns::CHAIN);
    assert!(wrong("cache push other.toml --run last").contains("`other.toml` was not run on this cache"));
    assert!(wrong(&format!("cache push other.toml --run {}", id(0))).contains("no one run of `other.toml`"));
}

#[test]
fn what_is_damaged_in_a_layer_is_repaired_by_whoever_makes_it_again() {
    let scene = alice(reruns::CHAIN);
    scene.plumb("run p.toml").exits(0);
    scene.plumb("cache push").exits(0);
    for name in fs::read_dir(scene.path("lab/plumb-1/packs")).unwrap().map(|entry| entry.unwrap().path()) {
        if name.extension().is_none() {
            let length = fs::read(&name).unwrap().len();
            fs::write(&name, vec![b'x'; length]).unwrap();
        }
    }
    let keys = [("alice", key_of(&scene))];
    let keys: Vec<(&str, &str)> = keys.iter().map(|(name, key)| (*name, key.as_str())).collect();
    let bob = reader(&scene, &keys, "write = \"lab\"\npush = \"always\"\n");
    let bobs = bob.plumb("key new").exits(0).raw.trim().to_owned();
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "count prep report", "{}", told.stderr);
    bob.plumb("cache push").exits(0);

    let carol = reader(&scene, &[keys[0], ("bob", &bobs)], "");
    let told = carol.plumb("run p.toml").exits(0);
    assert_eq!((carol.executed().as_str(), warnings(&told).len()), ("", 0), "{}", told.stderr);
    assert_eq!(carol.result("report.text"), scene.result("report.text"));
}

#[test]
fn what_a_layer_has_lost_is_sent_again_by_whoever_makes_it_again() {
    let scene = alice(reruns::CHAIN);
    scene.plumb("run p.toml").exits(0);
    scene.plumb("cache push").exits(0);
    fs::remove_dir_all(scene.path("lab/plumb-1/packs")).unwrap();
    let alices = key_of(&scene);
    let bob = reader(&scene, &[("alice", &alices)], "write = \"lab\"\npush = \"always\"\n");
    bob.plumb("key new").exits(0);
    let told = bob.plumb("run p.toml").exits(0);
    assert!(told.stderr.contains("the layer `lab` turned out not to have output `text`"), "{}", told.stderr);
    bob.plumb("cache push").exits(0);
    let carol = reader(&scene, &[("alice", &alices)], "");
    carol.plumb("run p.toml").exits(0);
    assert_eq!(carol.executed(), "", "alice's word and bob's bytes");
}

/// A scene whose layer is in S3, behind a gate.
pub fn behind(scene: &Scene, gate: &Gate) {
    for (name, value) in [
        ("AWS_ENDPOINT_URL", gate.url()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret-word"),
    ] {
        scene.export(name, value);
    }
}

#[test]
fn an_upload_under_way_is_finished_and_a_second_ctrl_c_leaves_it() {
    let s3 = S3::start("bucket");
    let gate = Gate::to(s3.url(), &["PUT /bucket/shared/plumb-1/packs/"]);
    let scene = alice(reruns::CHAIN);
    always(&scene, "s3://bucket/shared");
    behind(&scene, &gate);
    gate.close();
    let run = scene.start("run p.toml");
    gate.wait();
    until("every step has run", || scene.read("home/ran").lines().count() == 3 && waiting(&scene) == 3);
    // Nothing but the held upload keeps it: it goes on when that does.
    thread::spawn(move || gate.open());
    let told = scene.wait("run p.toml", run).exits(0);
    assert!(told.stderr.contains("sent "), "{}", told.stderr);

    let gate = Gate::to(s3.url(), &["PUT /bucket/shared/plumb-1/packs/"]);
    behind(&scene, &gate);
    scene.edit("word = \"lines\"", "word = \"rows\"");
    gate.close();
    let mut run = scene.start("run p.toml");
    gate.wait();
    let start = Instant::now();
    let mut said = std::io::BufReader::new(run.stderr.take().unwrap());
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    wait_for(&mut said, "stopping the running steps");
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let told = scene.wait("run p.toml", run);
    assert!(matches!(told.code, 0 | 130), "{}", told.stderr);
    assert!(start.elapsed() < Duration::from_secs(5), "it waited for what could not be sent");
    assert!(waiting(&scene) > 0);
    gate.open();
    scene.plumb("run p.toml").exits(0);
    scene.plumb("cache push").exits(0);
    assert_eq!(waiting(&scene), 0);
}

/// Reads what a command says until it has said this; the gate.
pub fn wait_for(said: &mut impl std::io::BufRead, what: &str) -> String {
    let mut told = String::new();
    while !told.contains(what) {
        told.clear();
        assert!(said.read_line(&mut told).unwrap() > 0, "it ended before it said `{what}`");
    }
    told
}

#[test]
fn a_watch_sends_what_its_runs_make() {
    let scene = alice(reruns::CHAIN);
    let watch = scene.start("watch p.toml");
    until("all three are sent", || files(&scene, "lab/plumb-1/actions").len() == 3 && waiting(&scene) == 0);
    scene.edit("word = \"lines\"", "word = \"rows\"");
    until("the changed one is sent", || files(&scene, "lab/plumb-1/actions").len() == 4 && waiting(&scene) == 0);
    kill_process(Pid::from_child(&watch), Signal::INT).unwrap();
    scene.wait("watch p.toml", watch).exits(130);
}
