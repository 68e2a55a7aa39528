//! `run.sandbox = true`: a command stage under bubblewrap. `tests/all` installs it; elsewhere these are skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use expect_test::expect;

use crate::harness::Scene;

/// One step that runs `$0` as a script in a sandbox.
const BOX: &str = r#"schema = 1
[source.data]
path = "data.txt"
[stage.boxed]
uses = "command"
inputs.data = "source.data"
with.argv = ["sh", "boxed.sh", "{in:data}", "{out:text}"]
with.files = ["boxed.sh"]
outputs = { text = "text.txt" }
run.sandbox = true
"#;

fn boxed(script: &str) -> Option<Scene> {
    let trial = Command::new("bwrap").args(["--unshare-all", "--ro-bind", "/", "/", "true"]).output();
    if !trial.is_ok_and(|trial| trial.status.success()) {
        eprintln!("skipped: bubblewrap cannot make a sandbox here; `apt-get install bubblewrap` installs it");
        return None;
    }
    let scene = Scene::new(BOX);
    scene.write("data.txt", "declared\n");
    scene.write("secret.txt", "undeclared\n");
    scene.write("boxed.sh", script);
    Some(scene)
}

#[test]
fn a_sandboxed_step_reads_its_inputs_and_writes_its_outputs() {
    let Some(scene) = boxed("cat $1 > $2; echo state > $PLUMB_STATE/mark && cat $PLUMB_STATE/mark >> $2") else {
        return;
    };
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("boxed.text"), "declared\nstate\n");
}

#[test]
fn an_undeclared_read_fails_in_the_sandbox_and_not_outside() {
    let Some(scene) = boxed("cat UNDECLARED > $2") else { return };
    let secret = scene.path("secret.txt").display().to_string();
    scene.write("boxed.sh", &format!("cat {secret} > $2"));
    let failed = scene.plumb("run p.toml").exits(1);
    assert!(failed.stderr.contains("No such file or directory"), "{}", failed.stderr);
    scene.edit("run.sandbox = true", "");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("boxed.text"), "undeclared\n");
}

#[test]
fn a_declared_mount_is_there_and_read_only() {
    let Some(scene) = boxed("") else { return };
    let secret = scene.path("secret.txt").display().to_string();
    scene.write("boxed.sh", &format!("cat {secret} > $2; echo spoilt > {secret} || true"));
    scene.edit("run.sandbox = true", &format!("run.sandbox = {{ mount = [\"{secret}\"] }}"));
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("boxed.text"), "undeclared\n");
    assert_eq!(scene.read("secret.txt"), "undeclared\n");
}

#[test]
fn there_is_no_network_no_home_and_no_other_process_in_the_sandbox() {
    let script = "{ grep -c : /proc/net/dev; ls -A $HOME | wc -l; ls -d /proc/[0-9]* | wc -l; } > $2\n\
                  echo x > $1 2>/dev/null && echo spoilt >> $2; true";
    let Some(scene) = boxed(script) else { return };
    scene.write("home/private", "x");
    scene.plumb("run p.toml").exits(0);
    let told = scene.result("boxed.text");
    let lines: Vec<&str> = told.lines().collect();
    // The loopback device alone, an empty home, and the few processes of the sandbox itself; the input is read-only.
    assert_eq!((lines[0], lines[1], lines.len()), ("1", "0", 3), "{told}");
    assert!(lines[2].parse::<usize>().unwrap() < 8, "{told}");
}

#[test]
fn the_sandbox_is_manner_and_no_key() {
    let Some(scene) = boxed("echo boxed >> $PLUMB_STATE/ran; cat $1 > $2") else { return };
    scene.plumb("run p.toml").exits(0);
    scene.edit("run.sandbox = true", "");
    let again = scene.plumb("run p.toml --json").exits(0).json_lines();
    assert!(again.iter().all(|event| event["what"] != "started"));
}

#[test]
fn a_missing_bubblewrap_names_its_package() {
    let scene = Scene::new(BOX);
    scene.write("data.txt", "declared\n");
    scene.write("boxed.sh", "cat $1 > $2");
    fs::create_dir(scene.path("empty")).unwrap();
    let output = scene.command("run p.toml").env("PATH", scene.path("empty")).output().unwrap();
    scene.ended("run p.toml", output).exits(2).says(expect![[r#"
        ---
        error: stage `boxed`: `run.sandbox` needs `bwrap`, which cannot be started: No such file or directory (os error 2)
        hint: install the package `bubblewrap` (`apt-get install bubblewrap`), or take `run.sandbox` away
    "#]]);
}

#[test]
fn a_system_that_forbids_sandboxes_is_told_so() {
    // What a kernel without user namespaces does, as this very kernel does it where none are left to make.
    let Some(scene) = boxed("cat $1 > $2") else { return };
    fs::set_permissions(scene.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let plumb = env!("CARGO_BIN_EXE_plumb");
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all {plumb} run p.toml"
    );
    let output = scene.command("run p.toml");
    let mut forbidden = Command::new("unshare");
    forbidden.args(["--user", "--map-root-user", "sh", "-c", &script]).current_dir(scene.root()).env_clear();
    forbidden.envs(output.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = scene.ended("run p.toml (no user namespaces)", forbidden.output().unwrap());
    if told.stderr.contains("unshare:") || told.stderr.contains("setpriv") || told.stderr.contains("sh: ") {
        eprintln!("skipped: user namespaces cannot be forbidden here: {}", told.stderr);
        return;
    }
    let told = told.exits(2);
    assert!(
        told.stderr.contains("error: stage `boxed`: this system lets nobody make a sandbox: bwrap:"),
        "{}",
        told.stderr
    );
    assert!(told.stderr.contains("hint: let users make user namespaces"), "{}", told.stderr);
}

#[test]
fn a_kind_of_the_house_takes_no_sandbox() {
    let scene = Scene::new("schema = 1\n[stage.world]\nuses = \"data.miniature\"\nrun.sandbox = true\n");
    let told = scene.plumb("run p.toml").exits(2);
    assert!(told.stderr.contains("`run.sandbox` is for `command` stages"), "{}", told.stderr);
}
