//! The one runtime that works on layers: connections live as long as the process, and callers need no runtime.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Bytes are copied and hashed on these, the rest is waiting.
const THREADS: usize = 2;

/// Never dropped: that would wait, which a caller within another runtime must not.
static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

/// How often it is looked whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// Why work came to nothing.
pub(super) enum Broken {
    /// Somebody asked for that; the work is dropped where it stands.
    Stopped,
    /// It panicked, or there is no runtime.
    Failed(String),
}

/// Waits for work, from within another runtime too, until it is done or to be stopped; `meanwhile` is called now and then.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
    stopped: &AtomicBool,
    mut meanwhile: impl FnMut(),
) -> Result<T, Broken> {
    let start = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("layer").enable_all().build();
    let runtime = RUNTIME.get_or_init(|| start().map_err(|error| format!("no runtime: {error}"))).as_ref();
    let (send, receive) = sync_channel(1);
    let task = runtime.map_err(|why| Broken::Failed(why.clone()))?.spawn(async move {
        // Nobody waits any more: nobody misses the answer.
        let _ = send.send(work.await);
    });
    loop {
        match receive.recv_timeout(TICK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Disconnected) => return Err(Broken::Failed("it ended early".to_owned())),
            Err(RecvTimeoutError::Timeout) if stopped.load(Ordering::Relaxed) => {
                task.abort();
                return Err(Broken::Stopped);
            }
            Err(RecvTimeoutError::Timeout) => meanwhile(),
        }
    }
}
