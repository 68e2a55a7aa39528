//! Ctrl-C, a request to terminate, the end of the terminal: caught while something runs that can be stopped. Decides
//! nothing: who runs heeds the stop.

use plumb_engine::error::EngineError;
use plumb_engine::execute::Stop;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::printer::Printer;

/// Requests to end, from now on: none of them ends this process any more.
pub struct Requests {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Requests {
    /// Catches them. Inside a runtime.
    pub fn catch() -> std::io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self { interrupt: interrupt?, terminate: terminate?, hangup: hangup? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// A runtime that asks for this stop at each request to end, as long as it lives.
pub fn heeding(stop: &Stop, printer: &Printer) -> Result<Runtime, EngineError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| EngineError::Bug(format!("no runtime: {error}")))?;
    runtime.spawn(listen(stop.clone(), printer.clone()));
    Ok(runtime)
}

async fn listen(stop: Stop, printer: Printer) {
    let Ok(mut requests) = Requests::catch() else {
        return printer.warning("signals cannot be caught: Ctrl-C kills this run");
    };
    let mut told = "stopping the running steps; Ctrl-C again kills them";
    loop {
        requests.next().await;
        printer.note(told);
        stop.ask();
        told = "killing the running steps";
    }
}
