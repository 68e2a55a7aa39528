//! Eight runners at once on one cache, some of them killed.

use rand::Rng as _;

use super::{assert_sound, expected, random, rounds, thirty};

#[test]
fn eight_runners_at_once_execute_each_step_once_and_agree() {
    let scene = thirty();
    scene.edit("sort -r {in:lines}", "echo turn >> $HOME/ran; sort -r {in:lines}");
    let runners: Vec<_> = (0..8).map(|_| scene.start("run p.toml -j 2")).collect();
    for runner in runners {
        scene.wait("run p.toml -j 2 (one of eight)", runner).exits(0);
    }
    assert_eq!(scene.executed(), ["turn"; 7].join(" "));
    eprintln!("8 runners at once on one cache: 7 steps, each executed once");
}

#[test]
fn eight_runners_of_which_some_are_killed_leave_a_sound_cache() {
    let expected = expected();
    let mut random = random(3);
    let mut killed = 0;
    for round in 0..rounds(2) {
        let scene = thirty();
        let mut runners: Vec<_> = (0..8).map(|_| scene.start("run p.toml -j 2")).collect();
        let victims = random.random_range(1..6);
        for mut victim in runners.drain(..victims) {
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        for runner in runners {
            scene.wait("run p.toml -j 2 (a survivor)", runner).exits(0);
        }
        assert_sound(&scene, &expected, &format!("{victims} of 8 killed, round {round}"));
        killed += victims;
    }
    eprintln!("{} times 8 runners at once on one cache, {killed} of them killed", rounds(2));
}
