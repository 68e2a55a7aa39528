//! What a failed step leaves behind, what goes on without it, and which exit code tells of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use expect_test::expect;

use crate::harness::{Outcome, Scene};
use crate::scenarios::reruns;

/// two arms: `bad` fails after it wrote its output, `after` needs it, `good` does not.
const ARMS: &str = r#"schema = 1

[stage.bad]
uses = "command"
with.argv = ["sh", "-c", "echo bad >> $HOME/ran; echo half > {out:text}; echo told on stdout; echo 'disk on fire' >&2; exit 7"]
outputs = { text = "text.txt" }

[stage.after]
uses = "command"
inputs.text = "bad.text"
with.argv = ["sh", "-c", "echo after >> $HOME/ran; cat {in:text} > {out:text}"]
outputs = { text = "text.txt" }

[stage.good]
uses = "command"
with.argv = ["sh", "-c", "echo good >> $HOME/ran; echo fine > {out:text}"]
outputs = { text = "text.txt" }

[stage.better]
uses = "command"
inputs.text = "good.text"
with.argv = ["sh", "-c", "echo better >> $HOME/ran; cat {in:text} > {out:text}"]
outputs = { text = "text.txt" }
"#;

#[test]
fn a_failed_step_publishes_nothing_and_shows_the_end_of_its_log() {
    let scene = Scene::new(ARMS);
    scene.plumb("run p.toml after -j 1").exits(1).says(expect![[r#"
        ---
           plan  2 steps  0 in the cache, 1 to run, 1 may run
          start  bad  no earlier result of this stage is known
         failed  bad  after [TIME]: the program exited with status 7
        skipped  after  `bad` failed

        error: step `bad` failed: the program exited with status 7
          | told on stdout
          | disk on fire
          log: [ROOT]/cache/v1/runs/[RUN]/logs/bad.log

        ran 0 steps in [TIME], 1 failed, 1 skipped
    "#]]);
    assert_eq!(scene.executed(), "bad");
    scene.plumb("get p.toml bad.text copy.txt").exits(1).says(expect![[r#"
        ---
        error: `bad` has no result in the cache
        hint: make it with `plumb run p.toml bad`
    "#]]);
    scene.plumb("run p.toml after -j 1").exits(1);
    assert_eq!(scene.executed(), "bad", "a failure is no result: it is tried again");
}

#[test]
fn without_keep_going_nothing_new_starts_after_a_failure() {
    let scene = Scene::new(ARMS);
    scene.plumb("run p.toml after better -j 1").exits(1);
    let ran = scene.executed();
    assert!(ran.contains("bad") && !ran.contains("after") && !ran.contains("better"), "{ran}");
}

#[test]
fn with_keep_going_the_independent_branch_is_finished() {
    let scene = Scene::new(ARMS);
    scene.plumb("run p.toml --keep-going").exits(1);
    assert_eq!(scene.executed(), "bad better good");
    scene.edit("exit 7", "exit 0");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "after bad");
}

#[test]
fn a_missing_output_fails_the_step_although_it_exited_with_0() {
    let scene = Scene::new(ARMS);
    scene.edit("echo fine > {out:text}", "true");
    scene.plumb("run p.toml good -j 1").exits(1).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  good  no earlier result of this stage is known
         failed  good  after [TIME]: the step ended well but did not write its output `text` (`text.txt`)

        error: step `good` failed: the step ended well but did not write its output `text` (`text.txt`)
          log: [ROOT]/cache/v1/runs/[RUN]/logs/good.log

        ran 0 steps in [TIME], 1 failed
    "#]]);
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let scene = Scene::new(ARMS);
    scene.edit("\"sh\", \"-c\", \"echo good", "\"no-such-program\", \"-c\", \"echo good");
    scene.plumb("run p.toml good -j 1").exits(1).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  good  no earlier result of this stage is known
         failed  good  after [TIME]: start `no-such-program`: No such file or directory (os error 2)

        error: step `good` failed: start `no-such-program`: No such file or directory (os error 2)
          log: [ROOT]/cache/v1/runs/[RUN]/logs/good.log

        ran 0 steps in [TIME], 1 failed
    "#]]);
}

#[test]
fn a_step_killed_by_a_signal_is_a_failed_step() {
    let scene = Scene::new(ARMS);
    scene.edit("echo fine > {out:text}", "echo fine > {out:text}; kill -9 $$");
    scene.plumb("run p.toml good -j 1").exits(1).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  good  no earlier result of this stage is known
         failed  good  after [TIME]: the program was killed (signal 9): somebody killed it, and not the kernel for want of memory

        error: step `good` failed: the program was killed (signal 9): somebody killed it, and not the kernel for want of memory
          log: [ROOT]/cache/v1/runs/[RUN]/logs/good.log

        ran 0 steps in [TIME], 1 failed
    "#]]);
    scene.plumb("get p.toml good copy.txt").exits(1);
}

#[test]
fn a_step_that_runs_past_its_time_is_stopped() {
    let scene = Scene::new(ARMS);
    scene.edit("echo fine > {out:text}\"]", "echo fine > {out:text}; sleep 600\"]\nrun = { time = \"1s\" }");
    scene.plumb("run p.toml good -j 1").exits(1).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  good  no earlier result of this stage is known
         failed  good  after [TIME]: the step ran past its time of 1 s

        error: step `good` failed: the step ran past its time of 1 s
          log: [ROOT]/cache/v1/runs/[RUN]/logs/good.log
        hint: raise `run.time`

        ran 0 steps in [TIME], 1 failed
    "#]]);
}

#[test]
fn a_retry_is_made_for_the_causes_that_are_named() {
    let scene = Scene::new(ARMS);
    let flaky =
        "echo fine > {out:text}; [ $(wc -l < $HOME/ran) -ge 3 ]\"]\nrun = { retry = { max = 4, on = [\"failed\"] } }";
    scene.edit("echo fine > {out:text}\"]", flaky);
    scene.plumb("run p.toml good").exits(0);
    assert_eq!(scene.executed(), "good good good");
    scene.edit("on = [\"failed\"]", "on = [\"oom\"]");
    scene.edit("-ge 3", "-ge 4");
    scene.plumb("run p.toml good").exits(1);
    assert_eq!(scene.executed(), "good");
}

#[test]
fn a_missing_worker_names_its_remedy() {
    let scene = Scene::new(
        "schema = 1\n[source.text]\npath = \"raw.txt\"\n\n[stage.base]\nuses = \"model.init\"\ninputs.corpus = \"source.text\"\n",
    );
    scene.write("raw.txt", "{\"text\": \"a\"}\n");
    let output = scene.command("run p.toml").env("PLUMB_TORCH", "/nowhere/plumb-torch").output().unwrap();
    scene.ended("run p.toml", output).exits(1).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  base  no earlier result of this stage is known
         failed  base  after [TIME]: `PLUMB_TORCH` names `/nowhere/plumb-torch`, which is no file

        error: step `base` failed: `PLUMB_TORCH` names `/nowhere/plumb-torch`, which is no file
        hint: unset `PLUMB_TORCH`, or make the worker with `plumb setup`

        ran 0 steps in [TIME], 1 failed
    "#]]);
}

#[test]
fn a_cache_that_cannot_be_written_is_exit_3_and_says_what_to_do() {
    let scene = reruns::chain();
    scene.write("occupied", "a file where the cache should be\n");
    scene.plumb("run p.toml --cache occupied").exits(3).says(expect![[r#"
        ---
        error: making the cache `[ROOT]/occupied`: Not a directory (os error 20)
        hint: choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
    "#]]);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_read_only_cache_still_answers_and_refuses_to_run() {
    let scene = reruns::chain_that_ran();
    let Some(known) = as_stranger(&scene, "run p.toml") else { return };
    known.exits(0);
    as_stranger(&scene, "open p.toml report").unwrap().exits(0);
    as_stranger(&scene, "run p.toml --set word=rows").unwrap().exits(3).says(expect![[r#"
        ---
           plan  3 steps  2 in the cache, 1 to run
        error: the cache `[ROOT]/cache` is read-only (claiming an action)
        hint: make `[ROOT]/cache` writable, or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
    "#]]);
    assert_eq!(scene.executed(), "");
}

/// Runs `plumb …` as somebody who may read everything here and write nothing. Only root can be somebody else.
fn as_stranger(scene: &Scene, line: &str) -> Option<Outcome> {
    fs::set_permissions(scene.root(), fs::Permissions::from_mode(0o755)).unwrap();
    match scene.command(line).uid(65_534).gid(65_534).output() {
        Ok(output) => Some(scene.ended(line, output)),
        Err(error) => {
            eprintln!("skipped: cannot run as another user: {error}");
            None
        }
    }
}
