//! State that survives: a stage killed at random moments goes on from its checkpoint, and its result is the same.

use std::fs;
use std::io::{BufRead as _, BufReader};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::Scene;

/// A hash chain of forty links: each link is a checkpoint, written beside and renamed into place.
const CHAIN: &str = r#"schema = 1
[stage.chain]
uses = "command"
with.argv = ["sh", "chain.sh", "{out:text}"]
with.files = ["chain.sh"]
outputs = { text = "text.txt" }
RUN
"#;

const SCRIPT: &str = r#"
[ -e $PLUMB_STATE/link ] || echo "0 start" > $PLUMB_STATE/link
read -r at link < $PLUMB_STATE/link
while [ $at -lt 40 ]; do
    at=$((at + 1))
    link=$(echo "$link $at" | cksum | cut -d' ' -f1)
    echo $at >> $HOME/ran
    echo "$at $link" > $PLUMB_STATE/new && mv $PLUMB_STATE/new $PLUMB_STATE/link
    echo "{\"event\":\"checkpoint\",\"step\":$at}" >> $PLUMB_EVENTS
done
echo $link > $1
"#;

fn scene(run: &str) -> Scene {
    let scene = Scene::new(&CHAIN.replace("RUN", run));
    scene.write("chain.sh", SCRIPT);
    scene
}

/// Links that were made, and the last of them.
fn made(scene: &Scene) -> (usize, String) {
    let made = scene.read("home/ran").lines().count();
    (made, scene.result("chain.text"))
}

/// Runs until a checkpoint and kills runner and step; says whether they were still at work.
fn kill_at(scene: &Scene, checkpoint: u64) -> bool {
    let mut child = scene.start("run p.toml --json");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut steps = events.filter_map(|event| event["event"]["step"].as_u64());
    let reached = steps.any(|step| step >= checkpoint);
    child.kill().unwrap();
    child.wait().unwrap();
    reached
}

#[test]
fn a_command_stage_killed_at_random_moments_goes_on_from_its_state() {
    let undisturbed = scene("");
    undisturbed.plumb("run p.toml").exits(0);
    let (forty, expected) = made(&undisturbed);
    assert_eq!(forty, 40);
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = scene("");
        let mut kills = 0;
        for _ in 0..3 {
            kills += usize::from(kill_at(&scene, random.random_range(1..36)));
        }
        scene.plumb("run p.toml").exits(0);
        let (links, text) = made(&scene);
        assert_eq!(text, expected, "seed {seed}");
        // A kill may cut through one link, which is then made twice; whatever was checkpointed is not made again.
        assert!(links <= 40 + kills.max(3), "seed {seed}: {links} links after {kills} kills");
        assert!(
            fs::read_dir(scene.path("cache/v1/state")).unwrap().next().is_none(),
            "the state is gone once it is done"
        );
    }
}

#[test]
fn a_retry_goes_on_from_the_state_of_the_attempt_before_it() {
    let scene = scene("run.retry = { max = 3, on = [\"preempted\"] }");
    scene.edit("with.files", "with.env = { KILLS = \"7 20 31\" }\nwith.files");
    let suicide = "for kill in $KILLS; do [ $at = $kill ] && kill -9 $$; done\ndone\necho";
    scene.write("chain.sh", &SCRIPT.replace("done\necho", suicide));
    scene.plumb("run p.toml").exits(0);
    let (links, text) = made(&scene);
    let undisturbed = self::scene("");
    undisturbed.plumb("run p.toml").exits(0);
    assert_eq!((links, text), (40, made(&undisturbed).1));
}

#[test]
fn what_is_in_the_state_enters_no_key() {
    let scene = scene("");
    scene.plumb("run p.toml").exits(0);
    let first = scene.digest("chain.text");
    let (other, mut random) = (self::scene(""), StdRng::seed_from_u64(9));
    kill_at(&other, random.random_range(5..30));
    assert!(fs::read_dir(other.path("cache/v1/state")).unwrap().next().is_some(), "its state survives the kill");
    other.plumb("run p.toml").exits(0);
    let second = other.digest("chain.text");
    assert_eq!(first, second);
    let action = |scene: &Scene| {
        let folders = fs::read_dir(scene.path("cache/v1/actions")).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = folders
            .flat_map(|folder| {
                fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap())
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(action(&scene), action(&other));
}
