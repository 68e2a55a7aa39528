//! `plumb cache gc`: what goes, what stays, and that a run beside it loses nothing.

use std::fs;
use std::io::Read;

use expect_test::expect;

use crate::harness::Scene;
use crate::scenarios::reruns;

fn steps(scene: &Scene) -> Vec<String> {
    let listed = scene.plumb("cache ls --json").exits(0).json();
    listed.as_array().unwrap().iter().map(|line| line["step"].as_str().unwrap().to_owned()).collect()
}

fn evicted(told: &serde_json::Value) -> Vec<&str> {
    told["evicted"].as_array().unwrap().iter().map(|line| line["step"].as_str().unwrap()).collect()
}

/// Three results: of no size and no cost, large and cheap, large and dear.
const COSTS: &str = r#"schema = 1

[stage.cheap]
uses = "command"
with.argv = ["sh", "-c", "echo cheap >> $HOME/ran; head -c 100000 /dev/zero | tr '\\0' c > {out:bytes}"]
outputs = { bytes = "bytes" }

[stage.dear]
uses = "command"
with.argv = ["sh", "-c", "echo dear >> $HOME/ran; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; head -c 100000 /dev/zero | tr '\\0' d > {out:bytes}"]
outputs = { bytes = "bytes" }
"#;

#[test]
fn a_dry_run_shows_bytes_and_hours_and_takes_nothing() {
    let scene = Scene::new(COSTS);
    scene.plumb("run p.toml").exits(0);
    let told = scene.plumb("cache gc --max-size 1k --keep-runs 0 -n --json").exits(0).json();
    assert_eq!(evicted(&told), ["cheap", "dear"], "the cheapest to make again for its bytes goes first");
    assert_eq!(told["evicted"][0]["bytes"], 100_000);
    assert!(told["recompute_seconds"].as_f64().unwrap() > 0.0);
    assert!(told["before_bytes"].as_u64() > told["after_bytes"].as_u64());
    let printed = scene.plumb("cache gc --max-size 1k --keep-runs 0 -n").exits(0);
    assert!(printed.stderr.contains("would free") && printed.stderr.contains("hours"), "{}", printed.stderr);
    assert_eq!(steps(&scene), ["cheap", "dear"]);
    scene.plumb("run p.toml").exits(0);
    scene.executed();
}

#[test]
fn gc_evicts_only_until_the_cache_is_small_enough_and_the_evicted_runs_again() {
    let scene = Scene::new(COSTS);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "cheap dear");
    let all = scene.plumb("cache gc -n --json").exits(0).json()["before_bytes"].as_u64().unwrap();
    let told = scene.plumb(&format!("cache gc --max-size {} --keep-runs 0 --json", all - 10)).exits(0).json();
    assert_eq!(evicted(&told), ["cheap"]);
    assert_eq!(steps(&scene), ["dear"]);
    scene.plumb("cache verify").exits(0);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "cheap");
}

#[test]
fn the_results_of_the_last_runs_stay() {
    let scene = reruns::chain_that_ran();
    scene.plumb("run p.toml --set word=rows").exits(0);
    scene.executed();
    let told = scene.plumb("cache gc --max-size 0 --keep-runs 1").exits(0);
    assert!(told.stderr.contains("warning: that is more than"), "{}", told.stderr);
    scene.plumb("run p.toml --set word=rows").exits(0);
    assert_eq!(scene.executed(), "", "the last run's results are there");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "report", "those of the run before it are not");
}

#[test]
fn without_a_size_only_what_nobody_can_ask_for_goes() {
    let scene = reruns::chain_that_ran();
    scene.write("cache/v1/scratch/host-1-0/half", "half");
    scene.write("cache/v1/quarantine/old", "damaged");
    scene.write("cache/v1/cas/00/11223344556677889900112233445566778899001122334455667788990011", "orphan");
    let told = scene.plumb("cache gc").exits(0);
    expect![[r#"
        what  files  size  to make again
        blobs of no result  1  [SIZE]
        damaged files  1  [SIZE]
        scratch of dead processes  1  [SIZE]
    "#]]
    .assert_eq(&told.stdout);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
    let told = scene.plumb("cache gc --json").exits(0).json();
    assert_eq!((told["leftovers"].as_array().unwrap().len(), evicted(&told).len()), (0, 0));
}

#[test]
fn what_was_collected_runs_again_and_why_tells_it() {
    let scene = reruns::chain_that_ran();
    scene.plumb("cache gc --max-size 0 --keep-runs 0").exits(0);
    scene.plumb("why p.toml prep").exits(0).says(expect![[r#"
        `prep` runs
          its result was taken out of the cache by `gc` or `verify` at [WHEN]
        ---
    "#]]);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    let why = scene.plumb("why p.toml prep").exits(0);
    assert!(!why.stdout.contains("taken out"), "{}", why.stdout);
}

#[test]
fn a_packed_artifact_is_a_source_by_its_digest() {
    let scene = Scene::new(CHECKPOINTS);
    scene.plumb("run p.toml train").exits(0);
    let told = scene.plumb("open p.toml train@layer=b.model --json").exits(0).json();
    let digest = told["digest"].as_str().unwrap().to_owned();
    scene.plumb("cache pin p.toml train").exits(0);
    scene.plumb("cache gc --pack --keep-runs 0").exits(0);
    assert!(!std::path::Path::new(told["path"].as_str().unwrap()).exists(), "its pieces alone are there");
    scene.write(
        "q.toml",
        &format!(
            r#"schema = 1

[source.model]
store = "{digest}"

[stage.size]
uses = "command"
inputs.model = "source.model"
with.argv = ["sh", "-c", "wc -c < {{in:model}} > {{out:size}}"]
outputs = {{ size = "size" }}
"#
        ),
    );
    scene.plumb("run q.toml").exits(0);
    scene.plumb("get q.toml size.size size").exits(0);
    assert_eq!(scene.read("size").trim(), told["size"].to_string());
}

/// A long run: `hit` is there from an earlier one, `made` is made by this one, then `last` waits and reads both.
const LONG: &str = r#"schema = 1

[stage.hit]
uses = "command"
with.argv = ["sh", "-c", "echo hit >> $HOME/ran; head -c 50000 /dev/zero > {out:bytes}"]
outputs = { bytes = "bytes" }

[stage.made]
uses = "command"
inputs.hit = "hit.bytes"
with.argv = ["sh", "-c", "echo made >> $HOME/ran; wc -c < {in:hit} > {out:number}"]
outputs = { number = "number" }

[stage.wait]
uses = "command"
inputs.made = "made.number"
with.argv = ["sh", "-c", "echo wait >> $HOME/ran; echo > $HOME/waiting; cat $HOME/gate; cat {in:made} > {out:number}"]
outputs = { number = "number" }

[stage.last]
uses = "command"
inputs.hit = "hit.bytes"
inputs.made = "made.number"
inputs.waited = "wait.number"
with.argv = ["sh", "-c", "echo last >> $HOME/ran; cat {in:hit} {in:made} {in:waited} | wc -c > {out:number}"]
outputs = { number = "number" }
"#;

#[test]
fn a_collection_beside_a_run_that_goes_on_takes_nothing_of_it() {
    let scene = Scene::new(LONG);
    scene.plumb("run p.toml hit").exits(0);
    assert_eq!(scene.executed(), "hit");
    let (waiting, gate) = (scene.fifo("home/waiting"), scene.fifo("home/gate"));
    let run = scene.start("run p.toml");
    let mut told = String::new();
    fs::File::open(waiting).unwrap().read_to_string(&mut told).unwrap();
    let told = scene.plumb("cache gc --max-size 0 --keep-runs 0 --json").exits(0).json();
    assert_eq!(evicted(&told), [] as [&str; 0], "what was found and what was made, all of it is in use");
    scene.plumb("cache verify").exits(0);
    fs::write(gate, "").unwrap();
    scene.wait("run p.toml", run).exits(0);
    assert_eq!(scene.executed(), "last made wait", "nothing had to be made twice");
    assert_eq!(scene.result("last.number"), "50012\n");
    scene.plumb("cache gc --max-size 0 --keep-runs 0").exits(0);
    assert_eq!(steps(&scene), [] as [&str; 0], "once it has ended, it may go");
}

/// Two checkpoints that share their embedding, written by a few lines of Python as the format says.
const CHECKPOINTS: &str = r#"schema = 1

[axes]
layer = ["a", "b"]

[stage.train]
uses = "command"
with.argv = ["python3", "-c", """
import json, struct, sys, hashlib
def noise(seed, n):
    return hashlib.shake_256(seed.encode()).digest(n)
data, header = b'', {}
for name, seed, size in [('embed', 'e', 300000), ('layer', sys.argv[1], 50000)]:
    header[name] = {'dtype': 'U8', 'shape': [size], 'data_offsets': [len(data), len(data) + size]}
    data += noise(seed, size)
header = json.dumps(header).encode()
open(sys.argv[2], 'wb').write(struct.pack('<Q', len(header)) + header + data)
""", { axis = "layer" }, "{out:model}"]
outputs = { model = "model.safetensors" }

[stage.sum]
uses = "command"
inputs.model = "train.model"
with.argv = ["sh", "-c", "echo sum >> $HOME/ran; cksum < {in:model} > {out:sum}"]
outputs = { sum = "sum.txt" }
"#;

#[test]
fn packed_checkpoints_share_their_embedding_and_every_reader_gets_the_same_bytes() {
    let scene = Scene::new(CHECKPOINTS);
    scene.plumb("run p.toml train sum").exits(0);
    scene.plumb("get p.toml train@layer=b.model before").exits(0);
    let sum = scene.result("sum@layer=b.sum");
    scene.executed();
    let told = scene.plumb("cache gc --pack --keep-runs 0 --json").exits(0).json();
    assert_eq!(told["packed"]["files"], 2);
    let blobs = |scene: &Scene| {
        let stats = scene.plumb("cache stats --json").exits(0).json();
        stats["classes"].as_array().unwrap().iter().find(|class| class["what"] == "results").unwrap()["bytes"].as_u64()
    };
    let packed = blobs(&scene).unwrap();
    assert!((400_000..410_000).contains(&packed), "one embedding and two layers: {packed}");

    scene.plumb("run p.toml train").exits(0);
    assert_eq!(scene.executed(), "");
    scene.plumb("get p.toml train@layer=b.model after").exits(0);
    assert!(fs::read(scene.path("before")).unwrap() == fs::read(scene.path("after")).unwrap());
    scene.edit("echo sum >>", "echo  sum >>");
    scene.plumb("run p.toml sum").exits(0);
    assert_eq!(scene.executed(), "sum sum", "a step reads packed inputs");
    assert_eq!(scene.result("sum@layer=b.sum"), sum);
    let opened = scene.plumb("open p.toml train@layer=b.model").exits(0);
    assert!(fs::read(opened.raw.trim_end()).unwrap() == fs::read(scene.path("before")).unwrap());
}
