//! A disk that fills at random moments: the cache lies on a small tmpfs that grows from run to run.

use std::process::Command;

use rand::Rng as _;

use super::{digests, expected, random, rounds, thirty};
use crate::harness::Scene;

/// A tmpfs at `cache`, unmounted when dropped; `None` where mounting is not allowed.
struct Small<'a>(&'a Scene);

impl<'a> Small<'a> {
    fn mount(scene: &'a Scene, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(scene.path("cache")).unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "plumb-small"]).arg(scene.path("cache"));
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(scene))
    }

    fn grow(&self, kib: u32) {
        let size = format!("remount,size={kib}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(self.0.path("cache")).status().unwrap().success());
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path("cache")).status();
    }
}

#[test]
fn a_disk_that_fills_anywhere_publishes_nothing_wrong_and_a_larger_one_finishes() {
    let expected = expected();
    let mut random = random(7);
    let mut full = 0;
    for round in 0..rounds(6) {
        let scene = thirty();
        let Some(disk) = Small::mount(&scene, random.random_range(100..700)) else {
            eprintln!("skipped: mounting a tmpfs needs root");
            return;
        };
        for kib in [0, 200, 400] {
            if kib > 0 {
                disk.grow(700 + kib);
            }
            let ended = scene.plumb("run p.toml -j 2");
            assert!(matches!(ended.code, 0 | 1 | 3), "exit {}:\n{}", ended.code, ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            full += usize::from(ended.code != 0);
        }
        disk.grow(64 << 10);
        scene.plumb("run p.toml --paranoid").exits(0);
        assert_eq!(digests(&scene), expected, "round {round}");
    }
    assert!(full > 0, "no run met the full disk");
}
