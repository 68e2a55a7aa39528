//! The cache's folder made read-only or taken away while a run goes on, and a source edited while a step reads it.

use std::fs;
use std::io::Read as _;

use super::mounts::Mounts;
use super::{assert_sound, expected, thirty};
use crate::harness::Scene;

/// Holds a step (`turn`: that of branch `a`) until the scenario opens `$HOME/gate`.
pub fn hold(scene: &Scene, step: &str) {
    scene.fifo("home/reached");
    scene.fifo("home/gate");
    let (text, which) = match step {
        "make" => ("mkdir {out:folder};", "true"),
        "turn" => ("sort -r {in:lines} > {out:lines}", "grep -q ^a {in:lines}"),
        _ => ("grep -rho", "true"),
    };
    let wait = format!("{which} && [ ! -e $HOME/open ] && {{ echo > $HOME/reached; cat $HOME/gate; }}; ");
    scene.edit(text, &format!("{wait}{text}"));
}

pub fn reached(scene: &Scene) {
    fs::File::open(scene.path("home/reached")).unwrap().read_to_end(&mut Vec::new()).unwrap();
    scene.write("home/open", "");
}

#[test]
fn a_cache_folder_that_is_removed_during_a_run_is_an_error_and_the_next_run_makes_it_again() {
    let scene = thirty();
    hold(&scene, "turn");
    let run = scene.start("run p.toml -j 2");
    reached(&scene);
    fs::rename(scene.path("cache/v1"), scene.path("gone")).unwrap();
    fs::write(scene.path("home/gate"), "").unwrap();
    let ended = scene.wait("run p.toml -j 2", run);
    assert!(matches!(ended.code, 1 | 3), "exit {}:\n{}", ended.code, ended.stderr);
    assert!(ended.stderr.contains("error:"), "{}", ended.stderr);
    scene.plumb("run p.toml").exits(0);
    scene.plumb("run p.toml --paranoid").exits(0);
}

#[test]
fn a_cache_that_becomes_read_only_during_a_run_is_an_error_and_the_next_run_finishes() {
    let expected = expected();
    let (mut errors, mut rounds) = (0, 0);
    for step in ["turn", "make", "join"] {
        let scene = thirty();
        hold(&scene, step);
        let Some(mounts) = Mounts::of(&scene) else { return };
        for folder in ["cache", "aside"] {
            fs::create_dir(scene.path(folder)).unwrap();
        }
        mounts.run("mount --bind cache aside");
        mounts.run("mount -o remount,bind,ro aside");
        let run = scene.start("run p.toml -j 2");
        reached(&scene);
        // What is open stays open, as on a disk that the kernel has made read-only.
        mounts.run("mount --bind aside cache");
        fs::write(scene.path("home/gate"), "").unwrap();
        let ended = scene.wait("run p.toml -j 2", run);
        assert!(matches!(ended.code, 1 | 3), "exit {}:\n{}", ended.code, ended.stderr);
        assert!(ended.stderr.contains("error:") && !ended.stderr.contains("bug"), "{}", ended.stderr);
        (errors, rounds) = (errors + usize::from(ended.stderr.to_lowercase().contains("read-only")), rounds + 1);
        mounts.run("umount cache");
        assert_sound(&scene, &expected, &format!("a cache that became read-only while `{step}` ran"));
    }
    eprintln!("{rounds} caches made read-only during a run, {errors} told so in words");
}

#[test]
fn a_source_edited_while_a_step_reads_it_is_not_published_under_the_old_digest() {
    let scene = thirty();
    hold(&scene, "make");
    let run = scene.start("run p.toml -j 2");
    reached(&scene);
    scene.write("raw.txt", "edited\n");
    fs::write(scene.path("home/gate"), "").unwrap();
    let ended = scene.wait("run p.toml -j 2", run);
    // Refused, or made from the bytes that were hashed; never the new bytes under the old key.
    let told = ended.stderr;
    scene.write("raw.txt", &(0..400).map(|line| format!("line {line}\n")).collect::<String>());
    scene.plumb("run p.toml").exits(0);
    let made = scene.plumb("open p.toml make").exits(0).raw;
    let first = fs::read_to_string(std::path::Path::new(made.trim_end()).join("1")).unwrap();
    assert!(first.starts_with("1line 0\n"), "{told}\n{first}");
}

#[test]
fn the_thirty_steps_give_the_same_digests_in_any_folder() {
    assert_sound(&thirty(), &expected(), "nothing");
}
