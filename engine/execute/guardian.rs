//! Ends the processes of running steps when the runner is killed with `kill -9`. The kernel's death signal would reach
//! only the direct child; a launcher's own workers (and their GPUs) and daemons would live on. One small shell per run
//! reads which groups live from a pipe; when the pipe closes, it ends those that are left, and what bears the run's
//! mark in its environment: a child, too, that was started and not told of yet.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rustix::process::Pid;

use super::orphans::Mark;
use super::strays;

/// `+ ID` and `- ID` lines until the end of the runner; then what is left is killed, again and again until twice nothing
/// more is found: whoever is just being started bears no mark yet.
const SCRIPT: &str = r#"
live=
while read -r what id; do
    case $what in
    +) live="$live $id" ;;
    -) kept=; for one in $live; do [ "$one" = "$id" ] || kept="$kept $one"; done; live=$kept ;;
    esac
done
for one in $live; do kill -9 "-$one"; done
none=0
for round in 1 2 3 4 5 6 7 8 9; do
    marked=$(grep -lsz "^PLUMB_STEP=$1" /proc/[0-9]*/environ)
    if [ -z "$marked" ]; then
        none=$((none + 1))
        [ $none = 1 ] || exit 0
        sleep 0.05 2> /dev/null || sleep 1
    fi
    for one in $marked; do one=${one#/proc/}; kill -9 "${one%/environ}"; done
done
"#;

/// The shell, and the pipe to it.
#[derive(Debug)]
pub(super) struct Guardian {
    shell: Child,
    pipe: Option<Mutex<ChildStdin>>,
}

impl Guardian {
    /// Starts the shell; without one, only direct children die with the runner.
    pub(super) fn start(mark: &Mark) -> Option<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "guardian", mark.run()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // In a group of its own, so that Ctrl-C leaves it alone.
        let started = command.env_clear().current_dir("/").process_group(0).spawn();
        match started {
            Ok(mut shell) => {
                strays::is_own(shell.id());
                let pipe = shell.stdin.take().map(Mutex::new);
                Some(Self { shell, pipe })
            }
            Err(error) => {
                tracing::warn!("no guardian for the steps' children: {error}");
                None
            }
        }
    }

    /// This group lives now.
    pub(super) fn guard(&self, group: Pid) {
        self.tell('+', group);
    }

    /// This group has ended; told before its number can be used again.
    pub(super) fn let_go(&self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&self, what: char, group: Pid) {
        if let Some(Ok(mut pipe)) = self.pipe.as_ref().map(Mutex::lock)
            && let Err(error) = pipe.write_all(format!("{what} {}\n", group.as_raw_nonzero()).as_bytes())
        {
            tracing::debug!("the guardian of the steps' children is gone: {error}");
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.shell.wait() {
            tracing::debug!("the guardian of the steps' children was not seen to end: {error}");
        }
    }
}
