//! `uses = "command"`: what of a program's surroundings is in the key, and what it can see.

use expect_test::expect;

use crate::harness::Scene;

fn scripted() -> Scene {
    let scene = Scene::new(
        r#"schema = 1

[stage.script]
uses = "command"
with.argv = ["sh", "count.sh", "{out:text}"]
with.files = ["count.sh"]
with.probe = [["cat", "library/version"]]
outputs = { text = "text.txt" }
"#,
    );
    scene.write("count.sh", "echo script >> $HOME/ran; echo one > $1\n");
    scene.write("library/version", "1.0\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "script");
    scene
}

#[test]
fn a_changed_script_is_no_stale_hit() {
    let scene = scripted();
    scene.write("count.sh", "echo script >> $HOME/ran; echo two > $1\n");
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
          start  script  `count.sh` gives other content
           done  script  [TIME]

          step  time  why
          script  ran  [TIME]  `count.sh` gives other content

        ran 1 step in [TIME]
    "#]]);
    assert_eq!(scene.executed(), "script");
    assert_eq!(scene.result("script.text"), "two\n");
}

#[test]
fn an_upgraded_library_is_no_stale_hit() {
    let scene = scripted();
    scene.write("library/version", "1.1\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "script");
}

#[test]
fn a_file_that_no_key_covers_changes_nothing() {
    let scene = scripted();
    scene.write("notes.txt", "unrelated\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_probe_that_fails_stops_before_anything_runs() {
    let scene = scripted();
    std::fs::remove_file(scene.path("library/version")).unwrap();
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: the probe `cat library/version` of step `script` failed: exit status: 1 cat: library/version: No such file or directory
        hint: run it by hand in the pipeline's folder to see why
    "#]]);
    assert_eq!(scene.executed(), "");
}

#[test]
fn the_environment_is_closed_and_what_is_listed_is_in_the_key() {
    let scene = Scene::new(
        r#"schema = 1

[stage.look]
uses = "command"
with.argv = ["sh", "-c", "echo look >> $HOME/ran; echo ${SECRET:-none} ${MODE:-none} > {out:text}"]
with.env = { MODE = "fast" }
outputs = { text = "text.txt" }
"#,
    );
    let output = scene.command("run p.toml").env("SECRET", "s3cret").output().unwrap();
    scene.ended("run p.toml", output).exits(0);
    assert_eq!(scene.result("look.text"), "none fast\n");
    assert_eq!(scene.executed(), "look");
    scene.edit("fast", "slow");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "look");
}

#[test]
fn a_script_that_names_no_interpreter_is_read_by_the_shell() {
    let scene = Scene::new(
        r#"schema = 1

[stage.script]
uses = "command"
with.argv = ["./count.sh", "{out:text}"]
with.files = ["count.sh"]
outputs = { text = "text.txt" }
"#,
    );
    scene.write("count.sh", "echo one > $1\n");
    let script = scene.path("count.sh");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("script.text"), "one\n");
}

#[test]
fn a_program_cannot_change_its_input_for_others() {
    let scene = Scene::new(
        r#"schema = 1

[stage.make]
uses = "command"
with.argv = ["sh", "-c", "echo original > {out:text}"]
outputs = { text = "text.txt" }

[stage.spoil]
uses = "command"
inputs.text = "make.text"
with.argv = ["sh", "-c", "cat {in:text} > {out:seen}; chmod u+w {in:text}; echo spoilt > {in:text}"]
outputs = { seen = "seen.txt" }

[stage.read]
uses = "command"
inputs.text = "make.text"
inputs.after = "spoil.seen"
with.argv = ["sh", "-c", "cat {in:text} > {out:seen}"]
outputs = { seen = "seen.txt" }
"#,
    );
    scene.plumb("run p.toml");
    assert_eq!(scene.result("make.text"), "original\n");
}

#[test]
fn folders_are_outputs_and_a_path_inside_one_is_an_input() {
    let scene = Scene::new(
        r#"schema = 1

[stage.make]
uses = "command"
with.argv = ["sh", "-c", "mkdir -p {out:model}/deep; echo weights > {out:model}/deep/w.txt; echo $0 > {out:model}/note.txt", "first"]
outputs = { model = "model" }

[stage.use]
uses = "command"
inputs.weights = "make.model/deep/w.txt"
with.argv = ["sh", "-c", "echo use >> $HOME/ran; cat {in:weights} > {out:text}"]
outputs = { text = "text.txt" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("use.text"), "weights\n");
    assert_eq!(scene.executed(), "use");
    scene.edit("\"first\"", "\"second\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "only another part of the folder changed");
}

#[test]
fn numbers_and_truths_are_arguments_as_written() {
    let scene = Scene::new(
        r#"schema = 1

[stage.say]
uses = "command"
with.argv = ["sh", "-c", "echo $0 $1 $2 $N > {out:text}", 3, 0.01, true]
with.env = { N = 7 }
outputs = { text = "text.txt" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("say.text"), "3 0.01 true 7\n");
}
