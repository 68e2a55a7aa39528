//! A way to a server that can be closed: what a client says is held, until it is opened again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A way to a server on which whatever matches is held while it is closed.
#[derive(Clone)]
pub struct Gate {
    url: String,
    /// Whether it is closed, and how often something was held.
    state: Arc<(Mutex<(bool, usize)>, Condvar)>,
}

impl Gate {
    /// A way on which what a client says is held if it begins so.
    pub fn to(server: &str, held: &'static [&'static str]) -> Gate {
        let (host, listener) =
            (server.trim_start_matches("http://").to_owned(), TcpListener::bind("127.0.0.1:0").unwrap());
        let gate = Gate { url: format!("http://{}", listener.local_addr().unwrap()), state: Arc::default() };
        let own = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&host) else { continue };
                let (up, down) = (own.clone(), own.clone());
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || up.pump(&mut from, &mut to, held));
                let (mut from, mut to) = (server, client);
                thread::spawn(move || down.pump(&mut from, &mut to, &[]));
            }
        });
        gate
    }

    fn pump(&self, from: &mut TcpStream, to: &mut TcpStream, held: &[&str]) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]);
            if held.iter().any(|what| text.starts_with(what)) {
                self.pass();
            }
            if to.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn pass(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        if state.0 {
            state.1 += 1;
        }
        changed.notify_all();
        drop(changed.wait_while(state, |state| state.0).unwrap());
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on it holds.
    pub fn close(&self) {
        *self.state.0.lock().unwrap() = (true, 0);
    }

    /// Lets go of what it holds, and holds no more.
    pub fn open(&self) {
        self.state.0.lock().unwrap().0 = false;
        self.state.1.notify_all();
    }

    /// Waits until something is held.
    /// Waits until something is held that was not before it was closed.
    pub fn wait(&self) {
        let (state, changed) = &*self.state;
        let _held = changed.wait_while(state.lock().unwrap(), |state| state.1 == 0).unwrap();
    }
}
