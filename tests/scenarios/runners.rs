//! Several runners on one cache, killed runners, stopped runners.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use expect_test::expect;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::harness::{Outcome, Scene};
use crate::scenarios::reruns;

/// Reads a `--json` run's events until one of them is this.
fn until(child: &mut Child, what: &str, step: &str) {
    let events = child.stdout.as_mut().unwrap();
    // Read byte by byte: what comes after the event belongs to whoever waits for the end.
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        let read = std::io::Read::read(events, &mut byte).unwrap();
        assert_ne!(read, 0, "the run ended before `{what}` of `{step}`");
        line.push(byte[0]);
        if byte[0] == b'\n' {
            let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
            if event["what"] == what && event["step"] == step {
                return;
            }
            line.clear();
        }
    }
}

/// Lets whoever still reads the fifo go: what a killed runner's step had started itself outlives both.
fn release(scene: &Scene) {
    let _ = OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(scene.path("home/gate"));
}

#[test]
fn two_runs_at_once_on_one_cache_both_succeed_and_execute_each_step_once() {
    let scene = reruns::chain();
    let gate = scene.fifo("home/gate");
    scene.edit("echo prep >> $HOME/ran;", "echo prep >> $HOME/ran; cat $HOME/gate;");
    let mut first = scene.start("run p.toml --json");
    until(&mut first, "started", "prep");
    let mut second = scene.start("run p.toml --json");
    until(&mut second, "waiting", "prep");
    fs::write(gate, "").unwrap();
    scene.wait("run p.toml (first)", first).exits(0);
    scene.wait("run p.toml (second)", second).exits(0);
    assert_eq!(scene.executed(), "count prep report");
    assert_eq!(scene.result("report.text"), "3 lines\n");
}

#[test]
fn a_run_takes_over_the_step_of_a_runner_that_died() {
    let scene = reruns::chain();
    scene.fifo("home/gate");
    scene.edit("echo prep >> $HOME/ran;", "echo prep >> $HOME/ran; [ -e $HOME/open ] || cat $HOME/gate;");
    let mut first = scene.start("run p.toml --json");
    until(&mut first, "started", "prep");
    let mut second = scene.start("run p.toml --json");
    until(&mut second, "waiting", "prep");
    scene.write("home/open", "");
    first.kill().unwrap();
    first.wait().unwrap();
    scene.wait("run p.toml (second)", second).exits(0);
    assert_eq!(scene.result("report.text"), "3 lines\n");
    release(&scene);
}

/// Folders, parallel branches, a gather: what a kill can cut through.
const DIAMOND: &str = r#"schema = 1

[axes]
part = ["a", "b", "c"]

[stage.make]
uses = "command"
with.argv = ["sh", "-c", "mkdir {out:folder}; for i in 1 2 3 4 5; do seq $i 2000 > {out:folder}/$i; done"]
outputs = { folder = "folder" }

[stage.cut]
uses = "command"
inputs.folder = "make.folder"
with.argv = ["sh", "-c", "cat {in:folder}/* | sed s/^/$0/ > {out:lines}; wc -l < {out:lines} > {out:number}", { axis = "part" }]
outputs = { lines = "lines.txt", number = "number.txt" }

[stage.join]
uses = "command"
inputs.numbers = { all = "cut.number", over = ["part"] }
inputs.lines = "cut.lines"
with.argv = ["sh", "-c", "cat {in:lines} | sort | tail -n 3 > {out:text}"]
outputs = { text = "text.txt" }
"#;

const ARTIFACTS: [&str; 6] =
    ["make.folder", "cut.lines", "cut@part=b.lines", "cut@part=c.number", "join.text", "join@part=b.text"];

fn digests(scene: &Scene) -> BTreeMap<&'static str, String> {
    ARTIFACTS.into_iter().map(|artifact| (artifact, scene.digest(artifact))).collect()
}

/// Kills a run right after its `events`-th event and a few more microseconds; says whether it was still alive.
fn kill_after(scene: &Scene, events: usize, pause: Duration) -> bool {
    let mut child = scene.start("run p.toml --json");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = lines.take(events).count();
    let start = Instant::now();
    while start.elapsed() < pause {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen == events
}

#[test]
fn a_runner_killed_at_any_moment_leaves_a_cache_that_gives_the_same_artifacts() {
    let undisturbed = Scene::new(DIAMOND);
    let events = undisturbed.plumb("run p.toml --json").exits(0).json_lines().len();
    let expected = digests(&undisturbed);
    let mut random = StdRng::seed_from_u64(20_261_123);
    let mut killed = 0;
    for round in 0..12 {
        let scene = Scene::new(DIAMOND);
        for _ in 0..random.random_range(1..4) {
            let pause = Duration::from_micros(random.random_range(0..8000));
            killed += usize::from(kill_after(&scene, random.random_range(0..events), pause));
        }
        scene.plumb("run p.toml").exits(0);
        assert_eq!(digests(&scene), expected, "round {round}");
        scene.plumb("run p.toml --paranoid").exits(0);
    }
    assert!(killed > 6, "only {killed} runs were killed before their end");
}

/// A step that reports itself and its child on the fifo `ready`, then hangs until somebody opens `gate`.
const HANGING: &str = r#"schema = 1

[stage.hang]
uses = "command"
with.argv = ["sh", "-c", "cat $HOME/gate & echo $$ $! > $HOME/ready; wait; echo done > {out:text}"]
outputs = { text = "text.txt" }

[stage.next]
uses = "command"
inputs.text = "hang.text"
with.argv = ["sh", "-c", "echo next >> $HOME/ran; cat {in:text} > {out:text}"]
outputs = { text = "text.txt" }
"#;

fn hanging(script: &str) -> (Scene, Child, Vec<Pid>) {
    let scene = Scene::new(&HANGING.replace("cat $HOME/gate &", script));
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    let child = scene.start("run p.toml");
    let told = fs::read_to_string(ready).unwrap();
    let pids = told.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
    (scene, child, pids)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

// A zombie is dead: whoever inherited it may not have looked yet.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}

fn assert_stopped(scene: &Scene, stopped: Outcome, pids: &[Pid]) {
    let stopped = stopped.exits(130);
    for pid in pids {
        assert!(!alive(*pid), "process {pid:?} outlived the run:\n{}", stopped.stderr);
    }
    assert_eq!(scene.executed(), "");
    scene.plumb("open p.toml hang").exits(1);
}

#[test]
fn ctrl_c_stops_the_run_and_leaves_no_child() {
    let (scene, child, pids) = hanging("cat $HOME/gate &");
    signal(&child, Signal::INT);
    let stopped = scene.wait("run p.toml (interrupted)", child);
    expect![[r#"
           plan  2 steps  0 in the cache, 1 to run, 1 may run
          start  hang  no earlier result of this stage is known
        stopping the running steps; Ctrl-C again kills them
        skipped  hang  the run was stopped
        skipped  next  the run was stopped

        ran 0 steps in [TIME], 2 skipped
    "#]]
    .assert_eq(&stopped.stderr);
    assert_stopped(&scene, stopped, &pids);
}

#[test]
fn a_terminated_run_leaves_no_child_either() {
    let (scene, child, pids) = hanging("cat $HOME/gate &");
    signal(&child, Signal::TERM);
    let stopped = scene.wait("run p.toml (terminated)", child);
    assert_stopped(&scene, stopped, &pids);
}

#[test]
fn a_second_ctrl_c_kills_a_step_that_does_not_listen() {
    let (scene, mut child, pids) = hanging("trap '' INT TERM; cat $HOME/gate &");
    signal(&child, Signal::INT);
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("Ctrl-C again")), "the first one says what a second one does");
    signal(&child, Signal::INT);
    let stopped = scene.wait("run p.toml (interrupted twice)", child);
    assert_stopped(&scene, stopped, &pids);
}

/// Whether a folder of the cache holds nothing.
fn is_empty(scene: &Scene, folder: &str) -> bool {
    fs::read_dir(scene.path("cache/v1").join(folder)).unwrap().next().is_none()
}

#[test]
fn a_stopped_run_leaves_no_half_result_and_no_lock() {
    let (scene, child, pids) = hanging("cat $HOME/gate &");
    signal(&child, Signal::INT);
    let stopped = scene.wait("run p.toml (interrupted)", child);
    assert_stopped(&scene, stopped, &pids);
    assert!(["claims", "actions", "cas", "scratch"].iter().all(|folder| is_empty(&scene, folder)));
}

/// Runs `plumb` on a terminal of its own, which closes when the returned process ends; and the process of `plumb`.
fn on_a_terminal(scene: &Scene, line: &str) -> (Child, Pid) {
    let script = "import os, pty, sys\npid, _ = pty.fork()\nif pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
                  print(pid, flush=True)\nsys.stdin.read()";
    let command = scene.command(line);
    let mut terminal = std::process::Command::new("python3");
    terminal.args(["-c", script]).arg(command.get_program()).args(command.get_args()).current_dir(scene.root());
    terminal.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal =
        terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(terminal.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (terminal, Pid::from_raw(line.trim().parse().unwrap()).unwrap())
}

/// Waits for something that another process brings about.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_closed_terminal_stops_the_run_and_leaves_no_child() {
    let scene = Scene::new(HANGING);
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    let (mut terminal, plumb) = on_a_terminal(&scene, "run p.toml");
    let told = fs::read_to_string(ready).unwrap();
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    eventually("the run ends with its terminal", || !alive(plumb));
    for pid in told.split_whitespace() {
        assert!(!alive(Pid::from_raw(pid.parse().unwrap()).unwrap()), "process {pid} outlived the terminal");
    }
    assert!(["claims", "actions"].iter().all(|folder| is_empty(&scene, folder)));
    assert!(fs::read_to_string(scene.run_folder().join("run.json")).unwrap().contains("\"stopped\""));
}

/// A step that starts a daemon: a session of its own, no parent, no open file of ours. It says on `ready` who it is.
const DAEMON: &str = r#"schema = 1

[stage.launch]
uses = "command"
with.argv = ["sh", "-c", "setsid -f sh -c 'echo $$ > $HOME/ready; exec sleep 600' > /dev/null 2>&1; LAST"]
outputs = { text = "text.txt" }
"#;

#[test]
fn a_daemon_that_a_step_left_behind_ends_with_the_step() {
    let scene = Scene::new(&DAEMON.replace("LAST", "cat $HOME/gate > {out:text}"));
    let (ready, gate) = (scene.fifo("home/ready"), scene.fifo("home/gate"));
    let child = scene.start("run p.toml");
    let told = fs::read_to_string(ready).unwrap();
    let daemon = Pid::from_raw(told.trim().parse().unwrap()).unwrap();
    assert!(alive(daemon));
    fs::write(gate, "made\n").unwrap();
    scene.wait("run p.toml", child).exits(0);
    assert!(!alive(daemon), "the daemon outlived its step");
    assert_eq!(scene.result("launch.text"), "made\n");
}

#[test]
fn a_daemon_ends_with_a_runner_that_is_killed() {
    let scene = Scene::new(&DAEMON.replace("LAST", "cat $HOME/gate > {out:text}"));
    scene.fifo("home/gate");
    let ready = scene.fifo("home/ready");
    let mut child = scene.start("run p.toml");
    let told = fs::read_to_string(ready).unwrap();
    let daemon = Pid::from_raw(told.trim().parse().unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the daemon ends with the runner", || !alive(daemon));
}

/// The same daemon, which throws its environment away too: nothing in it tells whose it is.
fn stray(last: &str) -> Scene {
    let daemon = DAEMON.replace("setsid -f sh -c 'echo $$ > $HOME/ready; exec sleep 600'", "HIDE");
    let hide = "setsid -f env -i sh -c 'echo $$ > '$HOME'/ready; exec sleep 600'";
    Scene::new(&daemon.replace("HIDE", hide).replace("LAST", last))
}

fn daemon_of(ready: &std::path::Path) -> Pid {
    Pid::from_raw(fs::read_to_string(ready).unwrap().trim().parse().unwrap()).unwrap()
}

#[test]
fn a_daemon_without_an_environment_ends_with_its_step() {
    let scene = stray("cat $HOME/gate > {out:text}");
    let (ready, gate) = (scene.fifo("home/ready"), scene.fifo("home/gate"));
    let child = scene.start("run p.toml");
    let daemon = daemon_of(&ready);
    let environment = fs::read(format!("/proc/{}/environ", daemon.as_raw_nonzero())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("PLUMB"), "it bears no mark");
    fs::write(gate, "made\n").unwrap();
    scene.wait("run p.toml", child).exits(0);
    assert!(!alive(daemon), "the daemon outlived its step");
    assert_eq!(scene.result("launch.text"), "made\n");
}

#[test]
fn a_daemon_without_an_environment_ends_before_the_run_and_no_step_beside_its_own_is_hurt() {
    let scene = stray("cat $HOME/first $HOME/go; echo made > {out:text}");
    let beside = "[stage.beside]\nuses = \"command\"\noutputs = { text = \"text.txt\" }\n\
                  with.argv = [\"sh\", \"-c\", \"echo > $HOME/first; cat $HOME/gate > {out:text}\"]\n";
    let pipeline = scene.read("p.toml");
    scene.write("p.toml", &format!("{pipeline}{beside}"));
    let (ready, gate) = (scene.fifo("home/ready"), scene.fifo("home/gate"));
    scene.fifo("home/first");
    let go = scene.fifo("home/go");
    let mut child = scene.start("run p.toml --json -j 2");
    let daemon = daemon_of(&ready);
    fs::write(go, "").unwrap();
    until(&mut child, "finished", "launch");
    fs::write(gate, "beside\n").unwrap();
    scene.wait("run p.toml --json -j 2", child).exits(0);
    assert_eq!(scene.result("beside.text"), "beside\n");
    assert!(!alive(daemon), "the daemon outlived the run");
}

#[test]
fn a_daemon_without_an_environment_ends_with_a_runner_that_is_killed() {
    let scene = stray("sleep 0.5; echo > $HOME/seen; cat $HOME/gate > {out:text}");
    scene.fifo("home/gate");
    let (ready, seen) = (scene.fifo("home/ready"), scene.fifo("home/seen"));
    let mut child = scene.start("run p.toml");
    let daemon = daemon_of(&ready);
    // The runner looks ten times a second who came.
    fs::read_to_string(seen).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the daemon ends with the runner", || !alive(daemon));
}

#[test]
fn a_child_that_plumb_had_from_birth_is_not_taken_for_a_daemon() {
    let scene = Scene::new(&DAEMON.replace(
        "setsid -f sh -c 'echo $$ > $HOME/ready; exec sleep 600' > /dev/null 2>&1; LAST",
        "echo made > {out:text}",
    ));
    let plumb = scene.command("run p.toml");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "sleep 600 > /dev/null 2>&1 & echo $!; exec \"$0\" \"$@\""]);
    shell.arg(plumb.get_program()).args(plumb.get_args()).current_dir(scene.root());
    shell.env_clear().envs(plumb.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = scene.ended("run p.toml (with a child)", shell.output().unwrap()).exits(0);
    let child = Pid::from_raw(told.raw.trim().parse().unwrap()).unwrap();
    assert!(alive(child), "it was none of the steps'");
    kill_process(child, Signal::KILL).unwrap();
}
