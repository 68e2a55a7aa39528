//! The cache's folder made read-only or taken away while a run goes on, and a source edited while a step reads it.

use std::fs;
use std::io::Read as _;

use super::{assert_sound, expected, thirty};
use crate::harness::Scene;

/// Holds the step `turn` of branch `a` until the scenario opens `$HOME/gate`.
fn held(scene: &Scene) -> String {
    scene.fifo("home/reached");
    scene.fifo("home/gate");
    let text = "sort -r {in:lines} > {out:lines}";
    let wait = "grep -q ^a {in:lines} && [ ! -e $HOME/open ] && { echo > $HOME/reached; cat $HOME/gate; }; ";
    scene.edit(text, &format!("{wait}{text}"));
    text.to_string()
}

fn reached(scene: &Scene) {
    fs::File::open(scene.path("home/reached")).unwrap().read_to_end(&mut Vec::new()).unwrap();
    scene.write("home/open", "");
}

#[test]
fn a_cache_folder_that_is_removed_during_a_run_is_an_error_and_the_next_run_makes_it_again() {
    let scene = thirty();
    held(&scene);
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
fn a_source_edited_while_a_step_reads_it_is_not_published_under_the_old_digest() {
    let scene = thirty();
    scene.fifo("home/reached");
    scene.fifo("home/gate");
    scene.edit(
        "mkdir {out:folder};",
        "mkdir {out:folder}; [ -e $HOME/open ] || { echo > $HOME/reached; cat $HOME/gate; };",
    );
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
