//! Starts a step's program: its environment, its log, and what binds it to the runner.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::executor::{Environment, Launch};
use super::guardian::Guardian;
use super::orphans::MARK;
use super::said::Said;
use crate::plan::facts::close_environment;

/// OpenMP reads it before a worker's `main`. Threads that spin while they wait cost more on a busy machine than they
/// work: a training step of two threads took 21 CPU-seconds against 4.7.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// A program that runs.
pub(super) struct Started {
    pub(super) child: Pid,
    /// What it says, where it has secrets.
    pub(super) said: Option<Said>,
}

/// Starts it, under this mark, and tells the guardian. The system then starts it without a copy of the runner's page
/// tables (`posix_spawn`), which std does only where nothing is left to do between fork and exec: a third of what a
/// trivial step costs.
pub(super) fn spawn(launch: &Launch, guardian: Option<&Guardian>, mark: &str) -> Result<Started, String> {
    let log_failed = |error: std::io::Error| format!("open the log `{}`: {error}", launch.log.display());
    let log = File::options().create(true).append(true).open(&launch.log).map_err(log_failed)?;
    let program = program(launch);
    let mut direct = Command::new(&program);
    direct.arg0(&launch.program);
    let begun = match begin(direct, launch, &log, guardian, mark) {
        // As `execvp` does, and `posix_spawn` does not: who does not say what reads it is read by the shell.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg(&program);
            begin(shell, launch, &log, guardian, mark)
        }
        begun => begun,
    };
    let (child, said) = begun.map_err(|error| format!("start `{}`: {error}", launch.program.display()))?;
    let child = Pid::from_raw(child.id().cast_signed()).ok_or("it has no process number")?;
    guardian.into_iter().for_each(|guardian| guardian.guard(child));
    Ok(Started { child, said })
}

fn begin(
    mut command: Command,
    launch: &Launch,
    log: &File,
    guardian: Option<&Guardian>,
    mark: &str,
) -> std::io::Result<(Child, Option<Said>)> {
    command.args(&launch.arguments).current_dir(&launch.folder).stdin(Stdio::null()).process_group(0);
    surround(&mut command, launch, mark);
    let said = if launch.secrets.values().is_empty() {
        command.stderr(log.try_clone()?).stdout(log.try_clone()?);
        None
    } else {
        Some(listen(&mut command, launch, log.try_clone()?)?)
    };
    if guardian.is_none() {
        die_with_runner(&mut command);
    }
    Ok((command.spawn()?, said))
}

/// Where the program lies that is meant by its name; the name itself if nowhere, so that starting it says so.
fn program(launch: &Launch) -> OsString {
    let listed = match &launch.environment {
        Environment::Closed(listed) => listed.get("PATH").map(OsString::from),
        Environment::Inherited => None,
    };
    let paths = listed.or_else(|| std::env::var_os("PATH"));
    which::which_in(&launch.program, paths, &launch.folder).map_or_else(|_| launch.program.clone(), OsString::from)
}

fn surround(command: &mut Command, launch: &Launch, mark: &str) {
    if let Environment::Closed(listed) = &launch.environment {
        close_environment(command, listed);
    } else if std::env::var_os(WAIT_POLICY).is_none() {
        command.env(WAIT_POLICY, "passive");
    }
    command.env("CUDA_VISIBLE_DEVICES", launch.gpus.join(",")).env(MARK, mark).envs(launch.secrets.values());
}

fn listen(command: &mut Command, launch: &Launch, log: File) -> std::io::Result<Said> {
    let (read, write) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(read.as_fd(), true)?;
    command.stderr(write.try_clone()?).stdout(write);
    Ok(Said::new(read, log, launch.secrets.redactor()))
}

/// Without a guardian, the child itself at least. The signal is tied to the thread that starts the child: the one that
/// follows it to its end.
#[cfg(target_os = "linux")]
fn die_with_runner(command: &mut Command) {
    let runner = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The runner may have died before the call: then nobody would kill the child.
        if rustix::process::getppid() == Some(runner) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure only makes a few system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(bind) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_runner(_command: &mut Command) {}
