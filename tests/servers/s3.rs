//! S3 on loopback: moto's server, in a process of its own that ends with the scenario.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::python;

/// A running S3.
pub struct S3 {
    child: Child,
    url: String,
}

impl S3 {
    /// An empty S3 with one bucket.
    pub fn start(bucket: &str) -> S3 {
        let mut child = Command::new(python::programs().join("moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find_map(|line| Some(line.unwrap().split_once("Running on ")?.1.trim().to_owned()));
        let url = said.expect("moto_server tells where it runs");
        // It would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let s3 = S3 { child, url };
        s3.ask("PUT", &format!("/{bucket}"), &[]);
        s3
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts an object.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.ask("PUT", path, bytes);
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) {
        use std::io::{Read as _, Write as _};
        let host = self.url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
