//! What a stage asks for under `run`: GPUs, memory, CPUs, disk, time, and another attempt.

use std::fs;

use expect_test::expect;

use crate::harness::{Outcome, Scene};

/// Steps that note which GPUs they see, while `N` of them are there at once.
fn gpus(arms: &str, run: &str) -> Scene {
    Scene::new(&format!(
        r#"schema = 1
[axes]
arm = {arms}
[stage.look]
uses = "command"
with.argv = ["sh", "-c", "echo \"start $CUDA_VISIBLE_DEVICES\" >> $HOME/seen; SCRIPT echo \"end $CUDA_VISIBLE_DEVICES\" >> $HOME/seen; echo $0 > {{out:text}}", {{ axis = "arm" }}]
outputs = {{ text = "text.txt" }}
run = {run}
"#
    ))
}

fn on_gpus(scene: &Scene, line: &str, visible: &str) -> Outcome {
    let output = scene.command(line).env("CUDA_VISIBLE_DEVICES", visible).output().unwrap();
    scene.ended(line, output)
}

/// The most steps that held each GPU at once.
fn crowd(seen: &str) -> Vec<(String, usize)> {
    let (mut now, mut most) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for line in seen.lines() {
        let (what, gpus) = line.split_once(' ').unwrap();
        for gpu in gpus.split(',').filter(|gpu| !gpu.is_empty()) {
            let held: &mut usize = now.entry(gpu.to_string()).or_default();
            *held = if what == "start" { *held + 1 } else { *held - 1 };
            let top: &mut usize = most.entry(gpu.to_string()).or_default();
            *top = (*top).max(*held);
        }
    }
    most.into_iter().collect()
}

#[test]
fn two_steps_are_never_on_one_gpu_and_see_only_their_own() {
    let scene = gpus("[1, 2, 3, 4, 5, 6]", "{ gpu = 1 }");
    // The first two wait for each other (one reads what the other writes): both GPUs are given out at once.
    let meet = "if mkdir $HOME/first 2>/dev/null; then cat $HOME/gate > /dev/null; \
                elif mkdir $HOME/second 2>/dev/null; then echo > $HOME/gate; fi;";
    scene.edit("SCRIPT", meet);
    scene.fifo("home/gate");
    on_gpus(&scene, "run p.toml -j 6", "3,GPU-5e1f").exits(0);
    assert_eq!(crowd(&scene.read("home/seen")), [("3".to_string(), 1), ("GPU-5e1f".to_string(), 1)]);
    assert_eq!(scene.read("home/seen").lines().count(), 12);
}

#[test]
fn gpu_share_lets_as_many_steps_on_a_gpu_as_all_of_them_bear() {
    let scene = gpus("[1, 2]", "{ gpu = 1, gpu_share = 2 }");
    // Whoever comes second opens the gate for the first: they are on the one GPU together, or this hangs.
    let meet = "if mkdir $HOME/first 2>/dev/null; then cat $HOME/gate > /dev/null; else echo > $HOME/gate; fi;";
    scene.edit("SCRIPT", meet);
    scene.fifo("home/gate");
    on_gpus(&scene, "run p.toml -j 6", "0").exits(0);
    assert_eq!(crowd(&scene.read("home/seen")), [("0".to_string(), 2)]);
}

#[test]
fn a_step_that_asks_for_no_gpu_sees_none_and_auto_takes_one_where_there_is_one() {
    let scene = gpus("[1]", "{ cpu = 1 }");
    scene.edit("SCRIPT", "");
    on_gpus(&scene, "run p.toml", "0,1").exits(0);
    assert_eq!(scene.read("home/seen"), "start \nend \n");
    scene.edit("cpu = 1", "gpu = \"auto\"");
    scene.edit("[1]", "[2]");
    on_gpus(&scene, "run p.toml", "1").exits(0);
    scene.edit("[2]", "[3]");
    on_gpus(&scene, "run p.toml", "").exits(0);
    assert_eq!(scene.read("home/seen"), "start \nend \nstart 1\nend 1\nstart \nend \n");
}

#[test]
fn what_can_never_fit_is_refused_by_plan_and_by_run_with_the_numbers() {
    let scene = gpus("[1]", "{ cpu = 3, gpu = 4, mem = \"64GiB\", disk = \"2TiB\" }");
    scene.edit("SCRIPT", "");
    let told = expect![[r#"
        ---
        error: what a stage asks for is more than all there is here: `look` asks for 3 CPUs of 2, 4 GPUs of 2, [SIZE] of disk of [SIZE], [SIZE] of memory of [SIZE]
        hint: lower its `run` table, or say what there is: `--cpus N`, `--gpus 0,1`, `--mem 64GiB`, `--disk 1TiB`
    "#]];
    for command in ["plan", "run"] {
        let line = format!("{command} p.toml --cpus 2 --gpus 0,1 --mem 8GiB --disk 1TiB");
        let refused = scene.plumb(&line).exits(2);
        told.assert_eq(&format!("{}---\n{}", refused.stdout, refused.stderr));
    }
    assert_eq!(scene.read("home/seen"), "");
    scene.plumb("run p.toml --cpus 3 --gpus 0,1,2,3 --mem 64GiB --disk 2TiB").exits(0);
    scene.plumb("run p.toml --cpus 1").exits(0);
}

#[test]
fn memory_is_shared_out_so_that_two_big_steps_do_not_meet() {
    let scene = gpus("[1, 2, 3]", "{ mem = \"3GiB\" }");
    scene.edit("CUDA_VISIBLE_DEVICES\\\" >> $HOME/seen; SCRIPT", "X 7\\\" >> $HOME/seen;");
    scene.edit("end $CUDA_VISIBLE_DEVICES", "end 7");
    scene.edit("start $X 7", "start 7");
    scene.plumb("run p.toml -j 3 --mem 5GiB").exits(0);
    assert_eq!(crowd(&scene.read("home/seen")), [("7".to_string(), 1)]);
}

/// One step with this script and these settings.
fn one(script: &str, run: &str) -> Scene {
    let scene = Scene::new(&format!(
        "schema = 1\n[stage.one]\nuses = \"command\"\nwith.argv = [\"sh\", \"one.sh\", \"{{out:text}}\"]\n\
         with.files = [\"one.sh\"]\noutputs = {{ text = \"text.txt\" }}\nrun = {run}\n"
    ));
    scene.write("one.sh", &format!("echo one >> $HOME/ran\n{script}\n"));
    scene
}

#[test]
fn a_step_that_holds_more_memory_than_it_may_is_ended_as_oom() {
    // The memory is a grandchild's, and it is really touched.
    let hold = "(exec python3 -c 'import time; x = bytearray(200 << 20); time.sleep(600)') & wait";
    let scene = one(hold, "{ mem = \"64MiB\" }");
    let ended = scene.plumb("run p.toml").exits(1);
    assert!(ended.stderr.contains("the step held [SIZE] of memory, more than its [SIZE]"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: raise `run.mem`"), "{}", ended.stderr);
    let scene = one(
        &format!("[ -e $HOME/again ] && echo fine > $1 && exit; touch $HOME/again; {hold}"),
        "{ mem = \"64MiB\", retry = { max = 1, on = [\"oom\"] } }",
    );
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "one one");
}

#[test]
fn a_daemon_counts_against_the_memory_of_its_step() {
    let hold = "setsid -f python3 -c 'import time; x = bytearray(200 << 20); time.sleep(600)'; cat $HOME/gate";
    let scene = one(hold, "{ mem = \"64MiB\" }");
    scene.fifo("home/gate");
    let ended = scene.plumb("run p.toml").exits(1);
    assert!(ended.stderr.contains("the step held [SIZE] of memory, more than its [SIZE]"), "{}", ended.stderr);
}

#[test]
fn a_step_that_fills_more_disk_than_it_may_is_ended() {
    // What it takes away again counts as long as it is there; what it only reads does not count.
    for place in ["$1", "$PLUMB_STATE/half", "scratch"] {
        let scene = one(&format!("head -c 30000000 /dev/urandom > {place}; cat $HOME/gate"), "{ disk = \"16MiB\" }");
        scene.fifo("home/gate");
        let ended = scene.plumb("run p.toml").exits(1);
        assert!(ended.stderr.contains("the step filled [SIZE] of disk, more than its [SIZE]"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: raise `run.disk`"), "{}", ended.stderr);
    }
    let scene = one("head -c 30000000 /dev/urandom > $1", "{ disk = \"64MiB\" }");
    scene.plumb("run p.toml").exits(0);
}

fn retried(scene: &Scene) -> Vec<(String, u64)> {
    let told = scene.plumb("run p.toml --json").json_lines();
    let again = told.iter().filter(|event| event["what"] == "retried");
    again.map(|event| (event["cause"].as_str().unwrap().into(), event["pause"]["secs"].as_u64().unwrap())).collect()
}

#[test]
fn words_of_cuda_and_of_python_are_oom_and_other_failures_are_not() {
    for (words, cause) in [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "oom"),
        ("MemoryError", "oom"),
        ("KeyError: memory", "failed"),
    ] {
        let scene = one(&format!("echo '{words}' >&2; exit 1"), "{ retry = { max = 1 } }");
        assert_eq!(retried(&scene), [(cause.to_string(), 0)], "{words}");
    }
}

#[test]
fn a_step_that_somebody_killed_is_preempted_and_not_oom() {
    let scene = one("kill -9 $$", "{ retry = { max = 1, on = [\"preempted\"] } }");
    assert_eq!(retried(&scene), [("preempted".to_string(), 0)]);
    let scene = one("kill -TERM $$", "{ retry = { max = 1, on = [\"preempted\"] } }");
    assert_eq!(retried(&scene), [("preempted".to_string(), 0)]);
}

#[test]
fn pauses_between_attempts_double() {
    let scene = one("[ $(wc -l < $HOME/ran) -ge 3 ] && echo fine > $1", "{ retry = { max = 2, backoff = \"1s\" } }");
    assert_eq!(retried(&scene), [("failed".to_string(), 1), ("failed".to_string(), 2)]);
    assert_eq!(scene.executed(), "one one one");
}

#[test]
fn a_timeout_is_a_cause_of_its_own() {
    let scene = one(
        "[ -e $HOME/again ] && echo fine > $1 && exit; touch $HOME/again; sleep 600",
        "{ time = \"1s\", retry = { max = 1, on = [\"timeout\"] } }",
    );
    assert_eq!(retried(&scene), [("timeout".to_string(), 0)]);
}

/// Short `a1`, and a chain `z1`, `z2` that is longer.
const WAYS: &str = r#"schema = 1
[stage.a1]
uses = "command"
with.argv = ["sh", "-c", "echo a1 >> $HOME/order; SLOW; echo $0 > {out:text}", "1"]
outputs = { text = "text.txt" }
[stage.z1]
uses = "command"
with.argv = ["sh", "-c", "echo z1 >> $HOME/order; echo $0 > {out:text}", "1"]
outputs = { text = "text.txt" }
[stage.z2]
uses = "command"
inputs.text = "z1.text"
with.argv = ["sh", "-c", "echo z2 >> $HOME/order; echo $0 > {out:text}", "1"]
outputs = { text = "text.txt" }
"#;

#[test]
fn the_longest_way_starts_first_by_depth_and_then_by_measured_times() {
    let scene = Scene::new(WAYS);
    scene.edit("SLOW", "true");
    scene.plumb("run p.toml -j 1").exits(0);
    // Nothing is known yet: the longer chain goes first.
    assert_eq!(scene.read("home/order").lines().next(), Some("z1"));
    // A past run says that `a1` takes an hour: it goes first.
    let events = scene.run_folder().join("events.jsonl");
    let text = fs::read_to_string(&events).unwrap();
    let slow = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["event"]["what"] == "finished" && event["event"]["step"] == "a1" {
            event["event"]["took"]["secs"] = 3600.into();
        }
        event.to_string() + "\n"
    };
    fs::write(&events, text.lines().map(slow).collect::<String>()).unwrap();
    fs::remove_file(scene.path("home/order")).unwrap();
    scene.edit("\"1\"]", "\"2\"]");
    scene.plumb("run p.toml -j 1").exits(0);
    assert_eq!(scene.read("home/order").lines().next(), Some("a1"));
}
