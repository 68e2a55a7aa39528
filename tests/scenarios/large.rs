//! A pipeline with many steps, whose steps are kept in the cache: what it does is what it would do without.

use std::fmt::Write as _;

use crate::harness::Scene;

/// A chain of commands, and a table of them all from which it is made.
fn many(count: usize, first: &str) -> String {
    let mut text = String::from("schema = 1\n[source.raw]\npath = \"raw.txt\"\n");
    for number in 0..count {
        let (input, program) = match number {
            0 => ("source.raw".into(), first),
            _ => (format!("s{}.o", number - 1), "cat"),
        };
        write!(
            text,
            "[stage.s{number}]\nuses = \"command\"\ninputs.one = \"{input}\"\noutputs = {{ o = \"o.txt\" }}\n\
             with.argv = [\"sh\", \"-c\", \"echo s{number} >> $HOME/ran; {program} {{in:one}} > {{out:o}}\"]\n"
        )
        .unwrap();
    }
    text
}

/// The files that steps were kept in, by name.
fn kept(scene: &Scene) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(scene.path("cache/v1/index")).unwrap();
    let mut memos: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    memos.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("steps-"));
    memos.sort();
    memos
}

fn ran(scene: &Scene) -> usize {
    scene.executed().split_whitespace().count()
}

#[test]
fn kept_steps_are_never_those_of_another_pipeline() {
    let scene = Scene::new(&many(210, "sort"));
    scene.write("raw.txt", "b\na\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(ran(&scene), 210);
    scene.plumb("run p.toml").exits(0);
    assert!(!kept(&scene).is_empty(), "by the first command that found a cache");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(ran(&scene), 0, "a second and a third run, from the kept steps");

    scene.write("p.toml", &many(210, "sort -r"));
    scene.plumb("run p.toml s0").exits(0);
    assert_eq!(scene.executed(), "s0", "an edited pipeline is read anew, whatever is asked of it");
    scene.write("p.toml", &many(211, "sort"));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "s210", "and so is one that grew");
}

#[test]
fn kept_steps_that_are_damaged_or_lack_a_source_are_made_again() {
    let scene = Scene::new(&many(210, "sort"));
    scene.write("raw.txt", "b\na\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(ran(&scene), 210);
    scene.plumb("plan p.toml").exits(0);
    for memo in kept(&scene) {
        let mut bytes = std::fs::read(&memo).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&memo, bytes).unwrap();
    }
    scene.plumb("run p.toml").exits(0);
    assert_eq!(ran(&scene), 0);

    std::fs::remove_file(scene.path("raw.txt")).unwrap();
    let told = scene.plumb("run p.toml").exits(2).stderr;
    assert!(told.contains("p.toml:3:8") && told.contains("raw.txt"), "{told}");
}
