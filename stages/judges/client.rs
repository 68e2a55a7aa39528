//! Asks an OpenAI-compatible endpoint many questions at once: what was answered before comes from the cache, every new
//! answer goes there at once, passing troubles are waited out, and limits end it with nothing lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plumb_engine::answers::Answers;
use plumb_engine::io::Io;
use plumb_engine::settings::{Asking, Endpoint};
use plumb_engine::source::network::install_tls;
use plumb_engine::stage::StageError;
use rayon::prelude::*;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use tokio::task::JoinSet;

use super::pace::{Pace, pause};
use super::question::{Judge, Question};
use super::reply::{Reply, State};

/// What asking took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Questions.
    pub questions: u64,
    /// Those that were answered before.
    pub recalled: u64,
    /// Requests that were sent, repetitions included.
    pub requests: u64,
    /// Tokens of prompts, of new answers.
    pub prompt_tokens: u64,
    /// Tokens of completions, of new answers.
    pub completion_tokens: u64,
    /// By the endpoint's prices, of new answers.
    pub cost: f64,
    /// Questions by what became of them.
    pub states: BTreeMap<State, u64>,
}

/// An endpoint with a judge.
pub struct Asker<'a> {
    judge: &'a Judge,
    io: &'a Io,
    answers: Arc<Answers>,
    asking: Asking,
    /// What it took so far.
    pub usage: Usage,
    /// Who answered, as the first answer told it.
    identity: Option<(Option<String>, Option<String>)>,
}

/// Why one attempt brought no answer.
#[derive(Debug)]
enum Trouble {
    /// It may pass.
    Passing(String),
    /// The service asks for patience.
    TooMany(Option<Duration>),
    /// This question cannot be answered.
    Question(String),
    /// No question can.
    All(StageError),
}

struct Attempt {
    index: usize,
    number: u32,
    outcome: Result<Reply, Trouble>,
}

impl<'a> Asker<'a> {
    /// A judge as the step's `run` table says it is reached.
    pub fn new(judge: &'a Judge, io: &'a Io) -> Result<Self, StageError> {
        let handle = io.answers()?;
        let answers = Arc::new(Answers::open(handle)?);
        Ok(Self { judge, io, answers, asking: handle.asking.clone(), usage: Usage::default(), identity: None })
    }

    /// A reply to every question, in their order.
    pub fn ask(&mut self, questions: &[Question]) -> Result<Vec<Reply>, StageError> {
        let documents: Vec<String> = questions
            .iter()
            .map(|question| question.document(self.judge))
            .collect::<Result<_, _>>()
            .map_err(|error| StageError::new(format!("a question cannot be written: {error}")))?;
        let mut replies: Vec<Option<Reply>> =
            documents.par_iter().map(|document| recall(&self.answers, document)).collect::<Result<_, _>>()?;
        for reply in replies.iter().flatten() {
            self.meet(reply)?;
        }
        let open: Vec<usize> = (0..questions.len()).filter(|index| replies[*index].is_none()).collect();
        self.usage.questions += questions.len() as u64;
        self.usage.recalled += (questions.len() - open.len()) as u64;
        if !open.is_empty() {
            let endpoint = self.endpoint(questions, &open)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(|error| StageError::new(format!("no runtime: {error}")))?;
            runtime.block_on(self.drive(&endpoint, questions, &documents, open, &mut replies))?;
        }
        let replies: Vec<Reply> =
            replies.into_iter().map(|reply| reply.unwrap_or_else(|| Reply::failed("it was not asked"))).collect();
        for reply in &replies {
            *self.usage.states.entry(reply.state).or_default() += 1;
        }
        Ok(replies)
    }

    fn endpoint(&self, questions: &[Question], open: &[usize]) -> Result<Endpoint, StageError> {
        let about = || self.estimate(questions, open);
        let missing = || {
            StageError::new(format!("{}, and `run.endpoint` names no server", about()))
                .hint("write `run.endpoint = { url = \"http://127.0.0.1:8000/v1\" }`")
        };
        let endpoint = self.asking.endpoint.clone().ok_or_else(missing)?;
        if self.asking.max_requests == Some(0) {
            return Err(StageError::new(format!("{}; `run.max_requests` is 0, so none was asked", about()))
                .hint("raise `run.max_requests`, or leave it out, to ask them"));
        }
        self.io.log(about());
        Ok(endpoint)
    }

    /// What asking the open ones would take.
    fn estimate(&self, questions: &[Question], open: &[usize]) -> String {
        let prompts: u64 = open.iter().map(|index| questions[*index].about_tokens()).sum();
        let completions = open.len() as u64 * u64::from(self.judge.max_completion_length);
        let mut text = format!(
            "{} of {} questions are to be asked: about {prompts} tokens of prompts, at most {completions} of completions",
            open.len(),
            questions.len()
        );
        if let Some(endpoint) = self.asking.endpoint.as_ref().filter(|endpoint| priced(endpoint)) {
            text += &format!(", at most about {:.2} in all", cost(endpoint, prompts, completions));
        }
        text
    }

    async fn drive(
        &mut self,
        endpoint: &Endpoint,
        questions: &[Question],
        documents: &[String],
        open: Vec<usize>,
        replies: &mut [Option<Reply>],
    ) -> Result<(), StageError> {
        let line = Arc::new(Line::new(endpoint, self.io)?);
        let (mut pace, mut waiting) = (Pace::new(endpoint.concurrency), VecDeque::from(open));
        let (total, mut done) = (waiting.len() as u64, 0);
        let mut again: VecDeque<(usize, u32)> = VecDeque::new();
        let (mut way, mut spent) = (JoinSet::new(), None);
        loop {
            while way.len() < pace.allowed() && !(waiting.is_empty() && again.is_empty()) {
                spent = spent.or_else(|| self.spent());
                if spent.is_some() {
                    break;
                }
                let Some((index, number)) = again.pop_front().or_else(|| waiting.pop_front().map(|index| (index, 1)))
                else {
                    break;
                };
                self.usage.requests += 1;
                let rest = pace.rest();
                let body = questions[index].body(self.judge).to_string();
                let (line, answers, document) = (line.clone(), self.answers.clone(), documents[index].clone());
                way.spawn(async move {
                    if let Some(until) = rest {
                        tokio::time::sleep_until(until).await;
                    }
                    if number > 1 {
                        tokio::time::sleep(pause(number - 1)).await;
                    }
                    let outcome = line.ask(body, answers, document).await;
                    Attempt { index, number, outcome }
                });
            }
            let Some(joined) = way.join_next().await else { break };
            let Attempt { index, number, outcome } =
                joined.map_err(|error| StageError::new(format!("a request ended badly: {error}")))?;
            let reply = match outcome {
                Ok(reply) => {
                    pace.went_well();
                    self.pay(endpoint, &reply);
                    self.meet(&reply)?;
                    reply
                }
                Err(Trouble::All(error)) => return Err(error),
                Err(Trouble::Question(cause)) => Reply::failed(cause),
                Err(trouble) => {
                    let cause = match trouble {
                        Trouble::TooMany(wait) => {
                            pace.too_many(wait);
                            "the service says that it is asked too often".to_owned()
                        }
                        Trouble::Passing(cause) | Trouble::Question(cause) => cause,
                        Trouble::All(error) => return Err(error),
                    };
                    if number <= endpoint.max_retries {
                        again.push_back((index, number + 1));
                        continue;
                    }
                    Reply::failed(format!("{cause} ({number} attempts)"))
                }
            };
            replies[index] = Some(reply);
            done += 1;
            self.io.progress(done, Some(total), "requests");
        }
        match spent {
            Some(limit) if done < total => {
                Err(StageError::new(format!("{limit}: {done} of {total} questions were answered"))
                    .hint("what was answered is kept: raise the limit and run again, and only the others are asked"))
            }
            _ => Ok(()),
        }
    }

    fn spent(&self) -> Option<String> {
        let Asking { max_requests, max_cost, .. } = self.asking;
        let requests = max_requests.filter(|most| self.usage.requests >= *most);
        let cost = max_cost.filter(|most| self.usage.cost >= *most);
        requests
            .map(|most| format!("`run.max_requests = {most}` is reached"))
            .or_else(|| cost.map(|most| format!("`run.max_cost = {most}` is reached with {:.4}", self.usage.cost)))
    }

    fn pay(&mut self, endpoint: &Endpoint, reply: &Reply) {
        let super::reply::Usage { prompt_tokens, completion_tokens } = reply.usage;
        self.usage.prompt_tokens += prompt_tokens;
        self.usage.completion_tokens += completion_tokens;
        self.usage.cost += cost(endpoint, prompt_tokens, completion_tokens);
    }

    /// All answers of a step come from one model in one configuration.
    fn meet(&mut self, reply: &Reply) -> Result<(), StageError> {
        let Some((model, fingerprint)) = reply.identity() else { return Ok(()) };
        let identity = (model.map(str::to_owned), fingerprint.map(str::to_owned));
        match &self.identity {
            None => self.identity = Some(identity),
            Some(first) if *first != identity => {
                let told = |(model, fingerprint): &(Option<String>, Option<String>)| {
                    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "not told".into());
                    format!("model {}, system_fingerprint {}", word(model), word(fingerprint))
                };
                let message = format!("the judge changed: first {}, now {}", told(first), told(&identity));
                return Err(StageError::new(message).hint(
                    "judgments of two judges are no benchmark: give `judge.revision` another name to ask all again",
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn recall(answers: &Answers, document: &str) -> Result<Option<Reply>, StageError> {
    let kept = answers.recall(document)?;
    // An answer of another layout is asked again.
    Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn priced(endpoint: &Endpoint) -> bool {
    endpoint.prompt_price > 0.0 || endpoint.completion_price > 0.0
}

fn cost(endpoint: &Endpoint, prompts: u64, completions: u64) -> f64 {
    (prompts as f64 * endpoint.prompt_price + completions as f64 * endpoint.completion_price) / 1e6
}

/// The way to one server.
struct Line {
    client: Client,
    url: String,
    key: Option<HeaderValue>,
}

impl Line {
    fn new(endpoint: &Endpoint, io: &Io) -> Result<Self, StageError> {
        install_tls();
        let client = Client::builder().timeout(endpoint.timeout).connect_timeout(Duration::from_secs(10)).build();
        let client = client.map_err(|error| StageError::new(format!("no network client: {error}")))?;
        let key = endpoint.api_key.as_deref().map(|name| io.secret(name)).transpose()?;
        let key = key.map(|key| HeaderValue::from_str(&format!("Bearer {}", key.trim()))).transpose();
        let mut key = key.map_err(|_| StageError::new("the API key holds signs that no header may hold"))?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        Ok(Self { client, url: format!("{}/chat/completions", endpoint.url), key })
    }

    /// One attempt; its answer is in the cache before anybody hears of it.
    async fn ask(&self, body: String, answers: Arc<Answers>, document: String) -> Result<Reply, Trouble> {
        let begun = Instant::now();
        let mut request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let response = self.accepted(response).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        let reply = Reply::read(&bytes).map_err(Trouble::Passing)?;
        if reply.state == State::Empty {
            return Err(Trouble::Passing("the answer is empty".into()));
        }
        let text = serde_json::to_vec(&reply).map_err(|error| Trouble::Passing(error.to_string()))?;
        let seconds = begun.elapsed().as_secs_f64();
        let kept = tokio::task::spawn_blocking(move || answers.keep(&document, &text, seconds)).await;
        kept.map_err(|error| Trouble::All(StageError::new(format!("an answer was not kept: {error}"))))?
            .map_err(Trouble::All)?;
        Ok(reply)
    }

    fn broken(&self, error: &reqwest::Error) -> Trouble {
        let mut why = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        if error.is_builder() {
            return Trouble::All(StageError::new(format!("`{}` is no address to ask: {why}", self.url)));
        }
        let kind = if error.is_timeout() { "took too long" } else { "broke off" };
        Trouble::Passing(format!("the request {kind}: {why}"))
    }

    async fn accepted(&self, response: Response) -> Result<Response, Trouble> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let said = response.text().await.unwrap_or_default();
        let said: String = said.chars().take(300).collect();
        let told = format!("`{}` answers {status}: {}", self.url, said.trim());
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => Trouble::TooMany(wait.map(Duration::from_secs)),
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => Trouble::TooMany(wait.map(Duration::from_secs)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Trouble::Passing(told),
            _ if status.is_server_error() => Trouble::Passing(told),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::All(StageError::new(told).hint(
                "name a secret that holds a key: `run.secrets = [\"NAME\"]` and `run.endpoint.api_key = \"NAME\"`",
            )),
            StatusCode::NOT_FOUND => Trouble::All(
                StageError::new(told).hint("check `run.endpoint.url` (it ends in `/v1`) and `judge.model`"),
            ),
            _ => Trouble::Question(told),
        })
    }
}
