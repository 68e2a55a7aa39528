//! `eval.generate`: a policy's answers to tasks. Generates only: scoring is `eval.score`'s matter.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{at_least_one, items, problems_of_drawing, tokens};
use crate::data::hash;
use crate::eval::fewshot;
use crate::jsonl;
use crate::judging::template::{Template, task_prompt};
use crate::model::{Backend, Completion, Dtype, Model, Request, Sampling};
use crate::rows::{Response, Task};
use crate::worker::TORCH;

/// Parameters of `eval.generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How tasks are asked: `boxed` or `miniature`.
    pub template: Template,
    /// Sampled answers a task; 0 leaves them out.
    pub samples: usize,
    /// Also one greedy answer a task.
    pub greedy: bool,
    /// Temperature of the sampled answers.
    pub temperature: f64,
    /// Nucleus; 1 is off.
    pub top_p: f64,
    /// Best tokens to draw from; 0 is off.
    pub top_k: usize,
    /// Tokens less likely than this share of the likeliest one are not drawn; 0 is off.
    pub min_p: f64,
    /// Makes tokens less likely that the prompt or the answer holds (HF's rule); 1 is off.
    pub repetition_penalty: f64,
    /// Texts that end an answer, of which they are no part.
    pub stop: Vec<String>,
    /// Tokens of an answer at most.
    pub max_completion_length: usize,
    /// Only the first so many tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Names every draw.
    pub seed: u64,
    /// GSM8K asked as lm-evaluation-harness does: its plain prompt with so many solved examples of `examples` before
    /// it, and its ends of an answer. Left out, tasks are asked by the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_fewshot: Option<usize>,
    /// Names the choice of examples, which is the harness's own where tasks and examples stand in their files' order
    /// (`data.tasks` with `order = "file"`).
    pub fewshot_seed: u64,
    /// Number format of the passes: `float32` or `bfloat16`.
    pub dtype: Dtype,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            template: Template::default(),
            samples: 0,
            greedy: true,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            max_completion_length: 512,
            limit: None,
            seed: 0,
            num_fewshot: None,
            fewshot_seed: 1234,
            dtype: Dtype::Float32,
        }
    }
}

/// `eval.generate`.
pub struct EvalGenerate;

impl Declare for EvalGenerate {
    const KIND: &'static str = "eval.generate";
    // 2: a response carries its prompt.
    // 3: and how it was drawn.
    // 4: plain prompts begin as the tokenizer begins a text; `strftime_now` of chat templates is defined.
    // 5: continuous batching (the last bits of logits moved); few-shot answers end at their texts.
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "let a policy answer tasks";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder that answers"),
        InputSpec::required("tasks", "tasks"),
        InputSpec::optional("examples", "solved tasks to choose from for `num_fewshot`"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("responses", "responses.jsonl", "one row an answer")];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            at_least_one(&[("max_completion_length", params.max_completion_length as u64)]).collect();
        if params.samples == 0 && !params.greedy {
            problems.push(Problem::new("samples", "0 with `greedy = false` asks for no answer at all"));
        }
        if params.samples > 0 && params.temperature <= 0.0 {
            problems.push(Problem::new("temperature", "sampled answers need a temperature above 0"));
        }
        problems.extend(problems_of_drawing(params.top_p, params.min_p, params.repetition_penalty, &params.stop));
        problems
    }
}

/// Runs `eval.generate` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load(io.input("model")?, params.dtype, io.manner())?;
    let tasks: Vec<Task> =
        jsonl::read_some(io.input("tasks")?)?.into_iter().take(params.limit.unwrap_or(usize::MAX)).collect();
    let asked = prompts(model.as_ref(), &tasks, params, io)?;
    let greedy = Decoding { name: "greedy", samples: usize::from(params.greedy), temperature: 0.0 };
    let sampled = Decoding { name: "sampled", samples: params.samples, temperature: params.temperature };
    let asked: Vec<(&Task, &str)> = tasks.iter().zip(asked.iter().map(String::as_str)).collect();
    let first = greedy.answers(model.as_mut(), &asked, params, io)?;
    let rest = sampled.answers(model.as_mut(), &asked, params, io)?;
    jsonl::write(io.output("responses")?, first.into_iter().zip(rest).flat_map(|(first, rest)| [first, rest]).flatten())
}

fn prompts(model: &dyn Model, tasks: &[Task], params: &Params, io: &Io) -> Result<Vec<String>, StageError> {
    let Some(count) = params.num_fewshot else {
        return tasks.iter().map(|task| task_prompt(params.template, task, model.chat_template())).collect();
    };
    let examples: Vec<Task> = io.optional_input("examples").map_or(Ok(Vec::new()), jsonl::read)?;
    fewshot::prompts(tasks, &examples, count, params.fewshot_seed)
}

/// One way of drawing answers.
struct Decoding {
    name: &'static str,
    samples: usize,
    temperature: f64,
}

impl Decoding {
    // By task.
    fn answers(
        &self,
        model: &mut dyn Model,
        asked: &[(&Task, &str)],
        params: &Params,
        io: &Io,
    ) -> Result<Vec<Vec<Response>>, StageError> {
        if self.samples == 0 {
            return Ok(vec![Vec::new(); asked.len()]);
        }
        let request = |(task, prompt): &(&Task, &str)| {
            let (prompt, stream) = (tokens::encode(model, prompt)?, hash::number(&[&task.id]));
            Ok(Request { prompt, samples: self.samples, stream })
        };
        let requests = asked.iter().map(request).collect::<Result<Vec<_>, StageError>>()?;
        let stop = ends(params);
        for (request, (task, _)) in requests.iter().zip(asked) {
            tokens::check_context(model, &task.id, request.prompt.len() + params.max_completion_length)?;
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: params.top_p,
            top_k: params.top_k,
            min_p: params.min_p,
            repetition_penalty: params.repetition_penalty,
            stop: stop.clone(),
            max_new_tokens: params.max_completion_length,
            seed: params.seed,
        };
        let drawn = items::generate(model, &requests, &sampling, io, self.name)?;
        let gen_kwargs = self.gen_kwargs(params);
        let responses = |(completions, (task, prompt)): (&Vec<Completion>, &(&Task, &str))| {
            let response = |(sample, completion): (usize, &Completion)| {
                let whole = tokens::decode(model, completion)?;
                let cut = tokens::before(&whole, &stop).map(str::to_string);
                Ok(Response {
                    task: (*task).clone(),
                    sample,
                    decoding: self.name.into(),
                    finished: completion.finished || cut.is_some(),
                    text: cut.unwrap_or(whole),
                    tokens: completion.tokens.len(),
                    prompt: (*prompt).to_string(),
                    gen_kwargs: gen_kwargs.clone(),
                    num_fewshot: params.num_fewshot.unwrap_or_default(),
                })
            };
            completions.iter().enumerate().map(response).collect()
        };
        drawn.iter().zip(asked).map(responses).collect()
    }

    // As lm-eval writes them beside a prompt.
    fn gen_kwargs(&self, params: &Params) -> Value {
        let mut told = json!({
            "do_sample": self.temperature > 0.0,
            "max_gen_toks": params.max_completion_length,
            "temperature": self.temperature,
            "until": ends(params),
        });
        if self.temperature > 0.0 {
            told["top_k"] = json!(params.top_k);
            told["top_p"] = json!(params.top_p);
            if params.min_p > 0.0 {
                told["min_p"] = json!(params.min_p);
            }
        }
        if params.repetition_penalty != 1.0 {
            told["repetition_penalty"] = json!(params.repetition_penalty);
        }
        told
    }
}

// Those of the few-shot prompt first.
fn ends(params: &Params) -> Vec<String> {
    let until: &[&str] = if params.num_fewshot.is_some() { &fewshot::UNTIL } else { &[] };
    until.iter().map(ToString::to_string).chain(params.stop.iter().cloned()).collect()
}
