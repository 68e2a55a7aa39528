//! `kill -9` of the runner, or of one of the processes it started, at random moments of a thirty-step pipeline.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{assert_sound, children, expected, random, rounds, thirty};
use crate::harness::Scene;

/// What the signal hits.
#[derive(Clone, Copy)]
enum Victim {
    Runner,
    Worker,
}

/// Starts a run and kills the victim some events and microseconds later; says whether the kill came before its end.
fn kill_one(scene: &Scene, victim: Victim, events: usize, pause: Duration, pick: usize) -> bool {
    let mut child = scene.start("run p.toml --json -j 3");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = lines.by_ref().take(events).count();
    let start = Instant::now();
    while start.elapsed() < pause {
        std::hint::spin_loop();
    }
    let hit = match victim {
        Victim::Runner => child.kill().is_ok() && seen == events,
        Victim::Worker => {
            let workers = children(&child);
            let worker = workers.get(pick % workers.len().max(1)).and_then(|pid| Pid::from_raw(*pid));
            worker.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
        }
    };
    // Whoever writes events to a pipe that nobody reads would wait for ever.
    lines.for_each(drop);
    child.wait().unwrap();
    hit
}

fn killed_at_random(victim: Victim, seed: u64, at_least: usize) {
    let expected = expected();
    let mut random = random(seed);
    let (mut hits, mut scenes) = (0, 0);
    while hits < at_least {
        let scene = thirty();
        for _ in 0..8 {
            let (events, pause) = (random.random_range(0..40), random.random_range(0..12_000));
            let pick = random.random_range(0..100);
            hits += usize::from(kill_one(&scene, victim, events, Duration::from_micros(pause), pick));
        }
        scenes += 1;
        assert_sound(&scene, &expected, &format!("{hits} kills, scene {scenes} of seed {seed}"));
        assert!(scenes < at_least * 2 + 8, "only {hits} kills in {scenes} scenes came before the end");
    }
    eprintln!("{hits} kills in {scenes} scenes");
}

#[test]
fn a_runner_killed_at_random_moments_never_leaves_a_wrong_artifact() {
    killed_at_random(Victim::Runner, 1, rounds(20));
}

#[test]
fn a_worker_killed_at_random_moments_never_leaves_a_wrong_artifact() {
    killed_at_random(Victim::Worker, 2, rounds(20));
}
