//! Stages that misbehave: links out of their folder, a gigabyte of talk, no end, daemons, bytes that are no text.

use std::fs;

use super::files;
use crate::harness::Scene;

fn one(script: &str, run: &str) -> Scene {
    let text = format!(
        "schema = 1\n[stage.odd]\nuses = \"command\"\nwith.argv = [\"sh\", \"-c\", '''{script}''']\n\
         outputs = {{ out = \"out\" }}\n{run}\n"
    );
    Scene::new(&text)
}

#[track_caller]
fn refused(script: &str, because: &str) {
    let scene = one(script, "");
    let ended = scene.plumb("run p.toml").exits(1);
    assert!(ended.stderr.contains(because), "expected `{because}` in:\n{}", ended.stderr);
    scene.plumb("open p.toml odd").exits(1);
}

#[test]
fn links_out_of_an_output_to_folders_are_refused() {
    refused("mkdir {out:out}; ln -s /etc {out:out}/folder", "symlink");
    refused("mkdir {out:out}; ln -s ../../../../etc {out:out}/up", "symlink");
}

#[test]
fn a_link_out_of_an_output_to_a_file_is_kept_as_the_bytes_it_led_to() {
    let scene = one("echo before > $HOME/outside; mkdir {out:out}; ln -s $HOME/outside {out:out}/inside", "");
    scene.plumb("run p.toml").exits(0);
    scene.write("home/outside", "after");
    let made = scene.plumb("open p.toml odd").exits(0).raw;
    let inside = std::path::Path::new(made.trim_end()).join("inside");
    assert!(fs::symlink_metadata(&inside).unwrap().is_file());
    assert_eq!(fs::read_to_string(inside).unwrap(), "before\n");
}

#[test]
fn outputs_that_are_no_files_are_refused() {
    refused("mkdir {out:out}; mkfifo {out:out}/pipe", "pipe");
    refused("mkfifo {out:out}", "out");
}

#[test]
fn a_stage_that_never_ends_is_ended_by_its_time_limit() {
    let scene = one("while :; do :; done", "run = { time = \"1s\" }");
    let ended = scene.plumb("run p.toml").exits(1);
    assert!(ended.stderr.contains("1 s") || ended.stderr.contains("[TIME]"), "{}", ended.stderr);
}

#[test]
fn a_stage_that_prints_bytes_that_are_no_text_is_shown_as_far_as_it_can_be() {
    let scene = one("printf '\\377\\376\\0text\\n'; exit 3", "");
    let ended = scene.plumb("run p.toml").exits(1);
    assert!(ended.stderr.contains("text"), "{}", ended.stderr);
}

#[test]
fn a_stage_that_prints_a_gigabyte_leaves_a_bounded_log_and_ends_well() {
    let scene = one("head -c 1000000000 /dev/zero | tr '\\\\0' x; echo fine > {out:out}", "");
    scene.plumb("run p.toml").exits(0);
    let logs: u64 = files(&scene.path("cache/v1/runs")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(logs < 65 << 20, "{logs} bytes of logs");
}
