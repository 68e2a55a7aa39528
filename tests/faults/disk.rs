//! A disk that fills at random moments: the cache lies on a small tmpfs that grows from run to run.

use rand::Rng as _;

use super::mounts::Mounts;
use super::{digests, expected, random, rounds, thirty};

#[test]
fn a_disk_that_fills_anywhere_publishes_nothing_wrong_and_a_larger_one_finishes() {
    let expected = expected();
    let mut random = random(7);
    let mut full = 0;
    for round in 0..rounds(6) {
        let scene = thirty();
        let Some(mounts) = Mounts::of(&scene) else { return };
        let grow = |kib: u32| mounts.run(&format!("mount -o remount,size={kib}k cache"));
        std::fs::create_dir(scene.path("cache")).unwrap();
        mounts.run(&format!("mount -t tmpfs -o size={}k small cache", random.random_range(100..700)));
        for kib in [0, 200, 400] {
            if kib > 0 {
                grow(700 + kib);
            }
            let ended = scene.plumb("run p.toml -j 2");
            assert!(matches!(ended.code, 0 | 1 | 3), "exit {}:\n{}", ended.code, ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            full += usize::from(ended.code != 0);
        }
        grow(64 << 10);
        scene.plumb("run p.toml --paranoid").exits(0);
        assert_eq!(digests(&scene), expected, "round {round}");
    }
    assert!(full > 0, "no run met the full disk");
    eprintln!("{full} runs met a full disk in {} scenes", rounds(6));
}
