//! Ends the processes of running steps when the runner is killed with `kill -9`. The kernel's death signal reaches
//! only the direct child; a launcher's own workers (and their GPUs) and daemons would live on. One small shell per run
//! reads which groups live from a pipe; when the pipe closes, it ends those that are left, and what bears the run's
//! mark in its environment.

use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rustix::process::Pid;

use super::orphans::Mark;

/// `+ ID` and `- ID` lines until the end of the runner; then what is left is killed, again and again while more is
/// found: whoever is just being forked is not listed yet.
const SCRIPT: &str = r#"
live=
while read -r what id; do
    case $what in
    +) live="$live $id" ;;
    -) kept=; for one in $live; do [ "$one" = "$id" ] || kept="$kept $one"; done; live=$kept ;;
    esac
done
for one in $live; do kill -9 "-$one"; done
for round in 1 2 3 4 5 6 7 8; do
    marked=$(grep -lsz "^PLUMB_STEP=$1" /proc/[0-9]*/environ)
    [ "$marked" ] || exit 0
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
                let pipe = shell.stdin.take().map(Mutex::new);
                Some(Self { shell, pipe })
            }
            Err(error) => {
                tracing::warn!("no guardian for the steps' children: {error}");
                None
            }
        }
    }

    /// The pipe's end, for a child that announces itself before it starts anything.
    pub(super) fn pipe(&self) -> Option<RawFd> {
        Some(self.pipe.as_ref()?.lock().ok()?.as_raw_fd())
    }

    /// This group has ended; told before its number can be used again.
    pub(super) fn let_go(&self, group: Pid) {
        if let Some(Ok(mut pipe)) = self.pipe.as_ref().map(Mutex::lock)
            && let Err(error) = pipe.write_all(format!("- {}\n", group.as_raw_nonzero()).as_bytes())
        {
            tracing::debug!("the guardian of the steps' children is gone: {error}");
        }
    }
}

/// Between fork and exec: the child says that its group lives. Only a system call; no allocation, no lock. Short
/// writes to a pipe are whole, whoever else writes.
pub(super) fn announce(pipe: RawFd, group: Pid) {
    let mut line = *b"+           \n";
    let mut rest = group.as_raw_nonzero().get();
    let mut place = line.len() - 2;
    while rest > 0 && place > 1 {
        line[place] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        place -= 1;
    }
    // SAFETY: the runner keeps the pipe open while it has children to start.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    // A guardian that is gone guards nobody; the step runs all the same.
    let _ = rustix::io::write(pipe, &line);
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.shell.wait() {
            tracing::debug!("the guardian of the steps' children was not seen to end: {error}");
        }
    }
}
