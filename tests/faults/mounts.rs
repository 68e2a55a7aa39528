//! Mounts of a scene's own: a user and mount namespace in which the scene is root, so that it takes no right to fill a
//! small disk or to make one read-only. They go away with it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::Scene;

/// The namespace; every command of the scene is started in it.
pub struct Mounts<'a> {
    scene: &'a Scene,
    holder: Child,
}

impl<'a> Mounts<'a> {
    /// `None`, and a word about it, where the system lets nobody make one.
    pub fn of(scene: &'a Scene) -> Option<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", "echo made; read end"]);
        let holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let made = holder.ok().and_then(|mut holder| {
            let mut line = String::new();
            BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
            (line == "made\n").then_some(holder)
        });
        let Some(holder) = made else {
            eprintln!("skipped: no mount namespace can be made here");
            return None;
        };
        let target = holder.id().to_string();
        let enter = ["nsenter", "--target", &target, "--user", "--mount", "--preserve-credentials"];
        let there = ["sh", "-c", "cd \"$0\" && exec \"$@\"", scene.root().to_str().unwrap()];
        scene.start_through(enter.iter().chain(&there).copied());
        Some(Self { scene, holder })
    }

    /// Runs a program of the system in there, which must end well.
    #[track_caller]
    pub fn run(&self, line: &str) {
        let output = self.scene.other(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
