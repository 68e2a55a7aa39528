//! S3 on loopback: moto's server, in a process of its own that ends with the scenario.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::line::Line;
use super::python;
use super::web::{Answer, Request, Server};

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

    /// A way to this S3 on which things go wrong.
    pub fn line(&self) -> Line {
        Line::to(self.url.trim_start_matches("http://"))
    }

    /// Puts an object.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.ask("PUT", path, bytes);
    }

    /// Takes an object away.
    pub fn remove(&self, path: &str) {
        let answer = self.answer("DELETE", path, "", &[]);
        assert!(answer.starts_with("HTTP/1.1 204"), "{path}: {answer}");
    }

    /// Puts an object that the server keeps under a key of its own.
    pub fn put_encrypted(&self, path: &str, bytes: &[u8]) {
        self.ask_with("PUT", path, "x-amz-server-side-encryption: aws:kms\r\n", bytes);
    }

    /// A way to this S3 on which the last byte of a long answer is another one.
    pub fn lying_line(&self, longer_than: usize) -> Server {
        let host = self.url.trim_start_matches("http://").to_owned();
        Server::start(move |request| {
            let mut answer = forward(&host, request);
            if answer.body.len() > longer_than {
                *answer.body.last_mut().unwrap() ^= 1;
            }
            answer
        })
    }

    /// A way to this S3 on which the first long answer is cut after so many bytes.
    pub fn bad_line(&self, after: usize) -> Server {
        let host = self.url.trim_start_matches("http://").to_owned();
        let cut = AtomicBool::new(false);
        Server::start(move |request| {
            let answer = forward(&host, request);
            match answer.body.len() > after && !cut.swap(true, Ordering::SeqCst) {
                true => answer.cut(after),
                false => answer,
            }
        })
    }

    /// What it answers to a question that changes nothing.
    pub fn look(&self, path: &str) -> String {
        self.ask("GET", path, &[])
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> String {
        self.ask_with(method, path, "", body)
    }

    fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let answer = self.answer(method, path, headers, body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        answer
    }

    fn answer(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn forward(host: &str, request: &Request) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.path);
    for (name, value) in request.headers.iter().filter(|(name, _)| *name != "connection") {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).filter(|(name, _)| *name != "Connection");
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: answer[end + 4..].to_vec(), cut: None }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
