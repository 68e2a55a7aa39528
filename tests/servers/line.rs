//! A line to a server on which things go wrong as a scenario says: each question is passed on, refused, cut or held, and
//! each answer cut, slowed or changed. It can go dead at once with all that is under way, and come back. The server
//! behind it is a real one.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const CHUNK: usize = 16 << 10;

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// By lowercase name.
    pub headers: BTreeMap<String, String>,
    /// How many were asked before, of whatever kind.
    pub number: usize,
}

/// What the line does to one question.
pub enum Act {
    Pass,
    /// Answers in the server's place: a status, the code of an S3 error, further headers.
    Refuse(u16, &'static str, &'static str),
    /// Drops the line after so many bytes of the question's body.
    CutQuestion(usize),
    /// Drops the line after so many bytes of the answer's body.
    CutAnswer(usize),
    /// Changes the answer's body; its length is told as it is then.
    Change(fn(Vec<u8>) -> Vec<u8>),
    /// So long between pieces of the answer.
    Slow(Duration),
    /// Does not answer, and keeps the line until it goes dead.
    Hold,
}

type Rule = Box<dyn FnMut(&Question) -> Act + Send>;

struct State {
    rule: Mutex<Rule>,
    asked: Mutex<Vec<Question>>,
    news: Condvar,
    dead: AtomicBool,
    host: String,
}

/// A line; its threads end with the process.
#[derive(Clone)]
pub struct Line {
    address: String,
    state: Arc<State>,
}

impl Question {
    /// The value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    }

    /// Whether it sends a part of an upload.
    pub fn is_part(&self) -> bool {
        self.method == "PUT" && self.parameter("partNumber").is_some()
    }

    /// Whether it asks for bytes of a blob.
    pub fn is_blob(&self) -> bool {
        self.method == "GET" && self.path.contains("/cas/")
    }
}

impl Line {
    /// To this host and port.
    pub fn to(host: &str) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            rule: Mutex::new(Box::new(|_| Act::Pass)),
            asked: Mutex::default(),
            news: Condvar::new(),
            dead: AtomicBool::new(false),
            host: host.to_owned(),
        };
        let line = Line { address: listener.local_addr().unwrap().to_string(), state: Arc::new(state) };
        let state = line.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                // A client that went away is its own trouble.
                thread::spawn(move || state.serve(stream).unwrap_or_default());
            }
        });
        line
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on questions are treated so.
    pub fn treat(&self, rule: impl FnMut(&Question) -> Act + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    /// Drops everything that is under way, and every question from now on.
    pub fn die(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
        self.state.news.notify_all();
    }

    /// Questions are answered again.
    pub fn revive(&self) {
        self.state.dead.store(false, Ordering::SeqCst);
    }

    /// What was asked since the last call, of a dead line too.
    pub fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }

    /// Waits until so many questions of a kind were asked.
    pub fn wait_for(&self, count: usize, kind: impl Fn(&Question) -> bool) {
        let asked = self.state.asked.lock().unwrap();
        let few = |asked: &mut Vec<Question>| asked.iter().filter(|question| kind(question)).count() < count;
        let waited = self.state.news.wait_timeout_while(asked, Duration::from_secs(120), few).unwrap();
        assert!(!waited.1.timed_out(), "{count} questions of this kind never came");
    }
}

impl State {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let (first, headers) = read_head(&mut reader)?;
        let mut words = first.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let number = self.asked.lock().unwrap().len();
        let question = Question { method, path, headers, number };
        if self.is_dead() {
            self.asked.lock().unwrap().push(question);
            self.news.notify_all();
            return client.shutdown(Shutdown::Both);
        }
        let act = (self.rule.lock().unwrap())(&question);
        self.asked.lock().unwrap().push(question.clone());
        self.news.notify_all();
        let length = question.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let result = match act {
            Act::Refuse(status, code, header) => {
                io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
                refuse(&client, status, code, header)
            }
            Act::Hold => {
                let asked = self.asked.lock().unwrap();
                drop(self.news.wait_while(asked, |_| !self.is_dead()).unwrap());
                Ok(())
            }
            Act::CutQuestion(after) => {
                io::copy(&mut reader.by_ref().take(length.min(after as u64)), &mut io::sink()).map(drop)
            }
            act => self.pass(&client, &mut reader, &question, length, &act),
        };
        let _ = client.shutdown(Shutdown::Both);
        result
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn pass(
        &self,
        mut client: &TcpStream,
        reader: &mut impl Read,
        question: &Question,
        length: u64,
        act: &Act,
    ) -> io::Result<()> {
        let mut server = TcpStream::connect(&self.host)?;
        let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", question.method, question.path);
        for (name, value) in question.headers.iter().filter(|(name, _)| *name != "connection") {
            head += &format!("{name}: {value}\r\n");
        }
        server.write_all(format!("{head}\r\n").as_bytes())?;
        self.copy(&mut reader.take(length), &mut server, None)?;
        let mut answer = BufReader::new(server);
        let (first, headers) = read_head(&mut answer)?;
        let mut body = None;
        if let Act::Change(change) = act {
            let mut bytes = Vec::new();
            answer.read_to_end(&mut bytes)?;
            body = Some(change(bytes));
        }
        let mut head = format!("{first}\r\nconnection: close\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| *name != "connection") {
            match &body {
                Some(body) if name == "content-length" => head += &format!("{name}: {}\r\n", body.len()),
                _ => head += &format!("{name}: {value}\r\n"),
            }
        }
        client.write_all(format!("{head}\r\n").as_bytes())?;
        match (body, act) {
            (Some(body), _) => client.write_all(&body),
            (None, Act::CutAnswer(after)) => self.copy(&mut answer.take(*after as u64), &mut client, None),
            (None, Act::Slow(pause)) => self.copy(&mut answer, &mut client, Some(*pause)),
            (None, _) => self.copy(&mut answer, &mut client, None),
        }
    }

    /// As long as the line lives.
    #[expect(clippy::disallowed_methods, reason = "that it is slow is the fault")]
    fn copy(&self, from: &mut impl Read, to: &mut impl Write, pause: Option<Duration>) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let count = from.read(&mut chunk)?;
            if count == 0 {
                return to.flush();
            }
            if self.is_dead() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            to.write_all(&chunk[..count])?;
            pause.map(thread::sleep).unwrap_or_default();
        }
    }
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<(String, BTreeMap<String, String>)> {
    let mut lines = reader.lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok((first, headers))
}

fn refuse(mut client: &TcpStream, status: u16, code: &str, header: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let head =
        format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes())
}
