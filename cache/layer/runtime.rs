//! The one runtime that works on layers: connections live as long as the process, and callers need no runtime.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use tokio::runtime::{Builder, Runtime};

/// Bytes are copied and hashed on these, the rest is waiting.
const THREADS: usize = 2;

/// Never dropped: that would wait, which a caller within another runtime must not.
static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

/// Waits for work, from within another runtime too; what went wrong with the work itself, where it panicked.
pub(super) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    let start = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("layer").enable_all().build();
    let runtime = RUNTIME.get_or_init(|| start().map_err(|error| format!("no runtime: {error}"))).as_ref();
    let (send, receive) = sync_channel(1);
    runtime.map_err(String::clone)?.spawn(async move {
        // Nobody waits any more: nobody misses the answer.
        let _ = send.send(work.await);
    });
    receive.recv().map_err(|_| "it ended early".to_owned())
}
