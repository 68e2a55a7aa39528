//! Clocks that jump: between runs and during one. Needs `faketime` (Debian's package of that name).

use std::fs;
use std::process::Command;

use rand::Rng as _;

use super::folder::{hold, reached};
use super::{assert_sound, expected, random, rounds, thirty};

/// The library that gives a process another clock.
fn library() -> Option<String> {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let mut found = folders.iter().map(|folder| format!("{folder}/libfaketime.so.1"));
    found.find(|path| fs::exists(path).unwrap_or(false))
}

fn with_clock<'a>(command: &'a mut Command, library: &str, offset: &str) -> &'a mut Command {
    command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[test]
fn a_clock_that_jumps_between_runs_changes_no_result_and_hides_no_edit() {
    let Some(library) = library() else {
        eprintln!("skipped: `apt-get install faketime` to run it");
        return;
    };
    let expected = expected();
    let mut random = random(8);
    for _ in 0..rounds(2) {
        let scene = thirty();
        for _ in 0..3 {
            let days: i32 = random.random_range(-4000..4000);
            let mut command = scene.command("run p.toml -j 2");
            let output = with_clock(&mut command, &library, &format!("{days:+}d")).output().unwrap();
            scene.ended(&format!("run p.toml -j 2 ({days:+} days)"), output).exits(0);
            let raw = scene.read("raw.txt");
            scene.write("raw.txt", &format!("{raw}{days}\n"));
            let mut command = scene.command("plan p.toml --json");
            let output = with_clock(&mut command, &library, &format!("{:+}d", -days)).output().unwrap();
            let plan = scene.ended("plan p.toml --json", output).exits(0);
            assert!(plan.raw.contains("\"run\""), "an edited source is seen whatever the clock says: {}", plan.raw);
            scene.write("raw.txt", &raw);
        }
        assert_sound(&scene, &expected, "jumps of the clock between runs");
    }
    eprintln!("{} jumps of the clock between runs", rounds(2) * 6);
}

#[test]
fn a_clock_that_jumps_during_a_run_changes_no_result_and_ends_no_step() {
    let Some(library) = library() else {
        eprintln!("skipped: `apt-get install faketime` to run it");
        return;
    };
    let expected = expected();
    let mut random = random(9);
    let mut jumps = 0;
    for step in ["make", "turn", "join"].repeat(rounds(1)) {
        let scene = thirty();
        hold(&scene, step);
        scene.edit("[stage.make]", "[stage.make]\nrun.time = \"10m\"");
        scene.write("clock", "+0d\n");
        let mut command = scene.command("run p.toml -j 2");
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", scene.path("clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let run = command.spawn().unwrap();
        reached(&scene);
        let days: i32 = random.random_range(1..4000) * if jumps % 2 == 0 { -1 } else { 1 };
        scene.write("clock", &format!("{days:+}d\n"));
        jumps += 1;
        fs::write(scene.path("home/gate"), "").unwrap();
        scene.wait(&format!("run p.toml -j 2 ({days:+} days while `{step}` ran)"), run).exits(0);
        // The clock is right again: what was made under the wrong one is found and not made again.
        let again = scene.plumb("run p.toml --json").exits(0).json_lines();
        assert!(again.iter().all(|event| event["what"] != "started"), "{again:?}");
        assert_sound(&scene, &expected, &format!("a jump of {days:+} days while `{step}` ran"));
    }
    eprintln!("{jumps} jumps of the clock during a run");
}
