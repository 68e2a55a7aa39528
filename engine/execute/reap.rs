//! The end of a child: noticed at once, without a thread that waits for it, and what the child took.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::executor::How;
use super::said::Said;

/// Notices the end of a child.
pub(super) struct Waiter {
    child: Pid,
    /// Readable once the child has ended; `None` where the system has no such thing.
    handle: Option<OwnedFd>,
}

/// How often the child is looked at where there is no handle.
const SHORT: Duration = Duration::from_millis(20);

impl Waiter {
    pub(super) fn new(child: Pid) -> Self {
        Self { child, handle: handle(child) }
    }

    /// Waits for the child's end, for something it says, or for so long; says whether it has ended. It is not reaped.
    pub(super) fn has_ended_within(&self, longest: Duration, said: Option<&Said>) -> bool {
        let wait = if self.handle.is_some() { longest } else { SHORT.min(longest) };
        let watched: [Option<BorrowedFd<'_>>; 2] = [self.handle.as_ref().map(AsFd::as_fd), said.and_then(Said::pipe)];
        let mut watched: Vec<PollFd<'_>> =
            watched.into_iter().flatten().map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        // Interrupted or not: what counts is asked next.
        let _ = poll(&mut watched, Some(&wait));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(self.child), options) {
            Ok(ended) => ended.is_some(),
            Err(error) => error != rustix::io::Errno::INTR,
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) fn handle(child: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn handle(_child: Pid) -> Option<OwnedFd> {
    None
}

/// How a child ended and what it took.
pub(super) struct Exit {
    status: i32,
    usage: libc::rusage,
}

/// Takes the child's end from the system; its number is free afterwards.
pub(super) fn reap(child: Pid) -> Option<Exit> {
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the right types; the child is ours and not reaped yet.
        let done = unsafe { libc::wait4(child.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
        if done == child.as_raw_nonzero().get() {
            return Some(Exit { status, usage });
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return None;
        }
    }
}

impl Exit {
    pub(super) fn how(&self) -> How {
        if libc::WIFSIGNALED(self.status) {
            How::Signalled(libc::WTERMSIG(self.status))
        } else {
            How::Exited(libc::WEXITSTATUS(self.status))
        }
    }

    /// Of the child and of the children that it waited for.
    pub(super) fn cpu(&self) -> Duration {
        time(self.usage.ru_utime) + time(self.usage.ru_stime)
    }

    /// Linux counts kibibytes, macOS bytes.
    pub(super) fn peak_memory_bytes(&self) -> u64 {
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        u64::try_from(self.usage.ru_maxrss).unwrap_or(0).saturating_mul(unit)
    }
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
}
