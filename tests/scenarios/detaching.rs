//! `--detach`: runs and steps that outlive their terminal and even their runner, and the run that re-attaches.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Scene;
use crate::scenarios::runners::{alive, eventually};

/// A step that says which process it is, waits for the gate, and is counted.
const SLOW: &str = r#"schema = 1
[stage.slow]
uses = "command"
with.argv = ["sh", "-c", "echo slow >> $HOME/ran; echo told early; [ -e $HOME/open ] || { echo $$ > $HOME/ready; cat $HOME/gate; }; echo told late; echo made > {out:text}"]
outputs = { text = "text.txt" }
[stage.next]
uses = "command"
inputs.text = "slow.text"
with.argv = ["sh", "-c", "echo next >> $HOME/ran; cat {in:text} > {out:text}"]
outputs = { text = "text.txt" }
"#;

struct Detached {
    scene: Scene,
    runner: Pid,
    step: Pid,
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Starts a detached run whose step hangs at the gate.
fn detached() -> Detached {
    let scene = Scene::new(SLOW);
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    // It returns although its step has not ended: the step waits for who reads `ready`.
    let told = scene.plumb("run p.toml --detach --json").exits(0).json();
    let runner = pid(&told["process"].to_string());
    assert!(scene.path(&format!("cache/v1/runs/{}", told["run"].as_str().unwrap())).is_dir());
    let step = pid(&fs::read_to_string(ready).unwrap());
    Detached { scene, runner, step }
}

fn gone(pid: Pid) -> bool {
    !alive(pid)
}

fn open_gate(scene: &Scene) {
    OpenOptions::new().write(true).open(scene.path("home/gate")).unwrap().write_all(b"go\n").unwrap();
}

#[test]
fn a_detached_run_goes_on_alone_and_the_next_run_waits_for_it() {
    let Detached { scene, runner, .. } = detached();
    let mut next = scene.command("run p.toml --json").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(next.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("\"waiting\"")), "the next run says that it waits");
    open_gate(&scene);
    lines.for_each(drop);
    scene.wait("run p.toml --json", next).exits(0);
    assert_eq!(scene.result("next.text"), "made\n");
    eventually("the detached run ends", || gone(runner));
    assert_eq!(scene.executed(), "next slow");
}

#[test]
fn a_detached_step_outlives_its_runner_and_the_next_run_re_attaches_to_it() {
    let Detached { scene, runner, step } = detached();
    kill_process(runner, Signal::KILL).unwrap();
    eventually("the runner dies", || gone(runner));
    assert!(!gone(step), "the step goes on");
    // Looking at the cache meanwhile clears nothing away.
    scene.plumb("status p.toml").exits(0);
    let mut next = scene.command("run p.toml --json").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(next.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("\"attached\"")), "the next run says that it re-attaches");
    open_gate(&scene);
    lines.for_each(drop);
    scene.wait("run p.toml --json", next).exits(0);
    assert_eq!(scene.executed(), "next slow", "no step ran twice");
    assert_eq!(scene.result("next.text"), "made\n");
    assert_eq!(scene.plumb("log p.toml slow").exits(0).stdout, "told early\ngo\ntold late\n");
    assert_eq!(fs::read_dir(scene.path("cache/v1/state")).unwrap().count(), 0, "nothing of it is left");
}

#[test]
fn a_step_that_ended_while_nobody_looked_is_published_by_the_next_run() {
    let Detached { scene, runner, step } = detached();
    kill_process(runner, Signal::KILL).unwrap();
    open_gate(&scene);
    eventually("the step ends", || gone(step));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "next slow");
    assert_eq!(scene.result("slow.text"), "made\n");
}

#[test]
fn ctrl_c_on_the_run_that_re_attached_stops_the_step() {
    let Detached { scene, runner, step } = detached();
    kill_process(runner, Signal::KILL).unwrap();
    eventually("the runner dies", || gone(runner));
    let mut next = scene.command("run p.toml --json").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(next.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("\"attached\"")));
    kill_process(Pid::from_child(&next), Signal::INT).unwrap();
    lines.for_each(drop);
    scene.wait("run p.toml --json", next).exits(130);
    assert!(gone(step));
    assert_eq!(scene.executed(), "slow");
}

#[test]
fn stopping_a_detached_run_stops_its_steps_and_lets_its_locks_go() {
    let Detached { scene, runner, step } = detached();
    kill_process(runner, Signal::TERM).unwrap();
    eventually("the runner ends", || gone(runner));
    assert!(gone(step));
    assert_eq!(fs::read_dir(scene.path("cache/v1/claims")).unwrap().count(), 0);
    scene.plumb("open p.toml slow").exits(1);
}

#[test]
fn a_step_whose_keeper_was_killed_with_it_is_run_anew() {
    let Detached { scene, runner, step } = detached();
    let stat = fs::read_to_string(format!("/proc/{}/stat", step.as_raw_nonzero())).unwrap();
    let keeper = pid(stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap());
    kill_process(runner, Signal::KILL).unwrap();
    kill_process(keeper, Signal::KILL).unwrap();
    eventually("the step dies with its keeper", || gone(step));
    scene.write("home/open", "");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "next slow slow");
}

#[test]
fn a_pipeline_that_is_wrong_is_told_before_anything_is_detached() {
    let scene = Scene::new(SLOW);
    scene.edit("uses = \"command\"\ninputs", "uses = \"comand\"\ninputs");
    let told = scene.plumb("run p.toml --detach").exits(2);
    assert!(told.stderr.contains("unknown stage kind `comand`"), "{}", told.stderr);
}

#[test]
fn stop_ends_a_detached_run_by_its_file_as_ctrl_c_would() {
    let Detached { scene, runner, step } = detached();
    let told = scene.plumb("stop p.toml --json").exits(0);
    let ended = &told.json()[0];
    assert_eq!(ended["process"], runner.as_raw_nonzero().get());
    // It returns once they are gone.
    assert!(gone(runner) && gone(step));
    assert_eq!(fs::read_dir(scene.path("cache/v1/claims")).unwrap().count(), 0, "no lock is left");
    assert_eq!(fs::read_dir(scene.path("cache/v1/actions")).unwrap().count(), 0, "and no half result");
    let again = scene.plumb("stop p.toml").exits(0);
    assert_eq!(again.stderr, "nothing of `p.toml` goes on\n");
}

#[test]
fn stop_ends_a_run_on_another_terminal_and_its_checkpoint_stays() {
    let scene = Scene::new(&SLOW.replace("echo told early", "echo half > $PLUMB_STATE/link"));
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    let child = scene.start("run p.toml");
    let step = pid(&fs::read_to_string(ready).unwrap());
    let run = scene.run_folder();
    let told = scene.plumb(&format!("stop {}", run.file_name().unwrap().to_str().unwrap())).exits(0);
    assert!(told.stderr.starts_with("stopped run [RUN] (process "), "{}", told.stderr);
    scene.wait("run p.toml", child).exits(130);
    assert!(gone(step));
    let states = fs::read_dir(scene.path("cache/v1/state")).unwrap().map(|entry| entry.unwrap().path());
    let links: Vec<_> = states.map(|state| fs::read_to_string(state.join("link")).unwrap()).collect();
    assert_eq!(links, ["half\n"]);
}

#[test]
fn stop_ends_a_step_that_outlived_its_run() {
    let Detached { scene, runner, step } = detached();
    kill_process(runner, Signal::KILL).unwrap();
    eventually("the runner dies", || gone(runner));
    let told = scene.plumb("stop p.toml --now").exits(0);
    assert!(told.stderr.starts_with("stopped step slow of run [RUN] (process "), "{}", told.stderr);
    assert!(gone(step));
    scene.write("home/open", "");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "next slow slow");
}

#[test]
fn stop_of_what_is_neither_a_file_nor_a_run_is_refused() {
    let scene = Scene::new(SLOW);
    scene.plumb("stop q.toml").exits(2).says(expect_test::expect![[r#"
        ---
        error: `q.toml` is no pipeline file and no run of this cache
        hint: name the pipeline file, or a run as `plumb log --json` lists them
    "#]]);
}

/// `slow` holds a GPU behind the gate; `other` wants one too, and notes which it was given.
const TWO: &str = r#"schema = 1
[stage.other]
uses = "command"
with.argv = ["sh", "-c", "echo other $CUDA_VISIBLE_DEVICES >> $HOME/seen; echo other > {out:text}"]
outputs = { text = "text.txt" }
run = { gpu = 1 }
[stage.slow]
uses = "command"
with.argv = ["sh", "-c", "echo $$ > $HOME/ready; cat $HOME/gate; echo slow $CUDA_VISIBLE_DEVICES >> $HOME/seen; echo made > {out:text}"]
outputs = { text = "text.txt" }
run = { gpu = 1, gpu_share = SHARE }
"#;

/// `slow` left running on GPU 0 by a runner that was killed.
fn left_on_a_gpu(share: usize) -> Scene {
    let scene = Scene::new(&TWO.replace("SHARE", &share.to_string()));
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    let told = scene.plumb("run p.toml slow --detach --json --gpus 0,1").exits(0).json();
    fs::read_to_string(ready).unwrap();
    let runner = pid(&told["process"].to_string());
    kill_process(runner, Signal::KILL).unwrap();
    eventually("the runner dies", || gone(runner));
    scene
}

#[test]
fn a_detached_steps_gpu_is_given_to_nobody_else_whether_the_next_run_wants_the_step_or_not() {
    for share in [1, 2] {
        let scene = left_on_a_gpu(share);
        // `other` stands before `slow`, and bears nobody on its GPU.
        scene.plumb("run p.toml other --gpus 0,1").exits(0);
        assert_eq!(scene.read("home/seen"), "other 1\n");
        scene.edit("echo other >", "echo others >");
        let mut next = scene.command("run p.toml --json --gpus 0,1 -j 1").spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(next.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("\"attached\"")));
        open_gate(&scene);
        lines.for_each(drop);
        scene.wait("run p.toml --json", next).exits(0);
        let seen = scene.read("home/seen");
        let mut seen: Vec<&str> = seen.lines().collect();
        seen.sort_unstable();
        assert_eq!(seen, ["other 1", "other 1", "slow 0"], "with a share of {share}");
    }
}

#[test]
fn who_wants_the_only_gpu_waits_for_the_detached_step_and_says_so() {
    let scene = left_on_a_gpu(1);
    let mut next = scene.command("run p.toml other --json --gpus 0").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(next.stdout.take().unwrap()));
    let told = lines.find(|line| line.as_ref().unwrap().contains("\"waiting\"")).unwrap().unwrap();
    assert!(told.contains("slow (a detached step, process "), "{told}");
    assert_eq!(scene.read("home/seen"), "");
    open_gate(&scene);
    lines.for_each(drop);
    scene.wait("run p.toml other --json --gpus 0", next).exits(0);
    assert_eq!(scene.read("home/seen"), "slow 0\nother 0\n");
}
