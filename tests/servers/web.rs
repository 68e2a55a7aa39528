//! A web server of one thread a connection, which answers as a scenario's function says and remembers what it was
//! asked. It can cut an answer short, as a bad line does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A question.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// By lowercase name.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Only so many bytes of the body are sent, and the line is cut.
    pub cut: Option<usize>,
}

/// A running server; its thread ends with the process.
#[derive(Clone)]
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers by this function.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap().to_string(), asked: Arc::default() };
        let (asked, answer) = (server.asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (asked.clone(), answer.clone());
                // A client that went away is its own trouble.
                thread::spawn(move || serve(stream, &asked, answer.as_ref()).unwrap_or_default());
            }
        });
        server
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last call: method, path, and the headers that matter.
    pub fn asked(&self) -> Vec<String> {
        let told = |request: Request| {
            let shown = ["range", "if-range", "if-none-match", "authorization"];
            let headers = shown.iter().filter_map(|name| Some(format!(" {name}: {}", request.headers.get(*name)?)));
            format!("{} {}{}", request.method, request.path, headers.collect::<String>())
        };
        std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().map(told).collect()
    }
}

impl Answer {
    /// A status with a sentence.
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: format!("status {status}\n").into_bytes(), cut: None }
    }

    /// With a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Cut after so many bytes.
    pub fn cut(mut self, after: usize) -> Answer {
        self.cut = Some(after);
        self
    }

    /// A file, as a web server serves it: conditions and ranges are honoured.
    pub fn file(request: &Request, bytes: &[u8], etag: &str) -> Answer {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if header("if-none-match") == Some(etag) {
            return Answer { body: Vec::new(), ..Answer::status(304) }.with("ETag", etag);
        }
        let valid = header("if-range").is_none_or(|validator| validator == etag);
        let start = header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let ok = Answer { status: 200, headers: Vec::new(), body: bytes.to_vec(), cut: None }.with("ETag", etag);
        match start.filter(|_| valid) {
            Some(start) if start >= bytes.len() => Answer::status(416),
            Some(start) => Answer { status: 206, body: bytes[start..].to_vec(), ..ok }
                .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
            None => ok,
        }
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request { method, path, headers, body };
    asked.lock().unwrap().push(request.clone());
    let answer = answer(&request);
    let mut text = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if answer.status != 304 && !answer.headers.iter().any(|(name, _)| name == "Content-Length") {
        text += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    let mut stream = stream;
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    if request.method != "HEAD" && answer.status != 304 {
        stream.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())])?;
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Both)
}
