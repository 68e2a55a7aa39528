//! `eval.generate`: a policy's answers to tasks. Generates only: scoring is `eval.score`'s matter.

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{at_least_one, tokens};
use crate::data::hash;
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
    /// Tokens of an answer at most.
    pub max_completion_length: usize,
    /// Only the first so many tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Names every draw.
    pub seed: u64,
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
            max_completion_length: 512,
            limit: None,
            seed: 0,
            dtype: Dtype::Float32,
        }
    }
}

/// `eval.generate`.
pub struct EvalGenerate;

impl Declare for EvalGenerate {
    const KIND: &'static str = "eval.generate";
    // 2: a response carries its prompt.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "let a policy answer tasks";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] =
        &[InputSpec::required("model", "the model folder that answers"), InputSpec::required("tasks", "tasks")];
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
        problems
    }
}

/// Runs `eval.generate` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let mut model = backend.load(io.input("model")?, params.dtype, io.manner())?;
    let tasks: Vec<Task> =
        jsonl::read(io.input("tasks")?)?.into_iter().take(params.limit.unwrap_or(usize::MAX)).collect();
    let greedy = usize::from(params.greedy);
    let first = answers(model.as_mut(), &tasks, greedy, 0.0, params, io)?;
    let rest = answers(model.as_mut(), &tasks, params.samples, params.temperature, params, io)?;
    let mut rows = Vec::new();
    for (task, (greedy, sampled)) in tasks.iter().zip(first.iter().zip(&rest)) {
        let prompt = task_prompt(params.template, task, model.chat_template())?;
        rows.extend(responses(model.as_ref(), task, &prompt, greedy, "greedy")?);
        rows.extend(responses(model.as_ref(), task, &prompt, sampled, "sampled")?);
    }
    jsonl::write(io.output("responses")?, &rows)
}

fn answers(
    model: &mut dyn Model,
    tasks: &[Task],
    samples: usize,
    temperature: f64,
    params: &Params,
    io: &Io,
) -> Result<Vec<Vec<Completion>>, StageError> {
    if samples == 0 {
        return Ok(vec![Vec::new(); tasks.len()]);
    }
    let request = |task: &Task| {
        let text = task_prompt(params.template, task, model.chat_template())?;
        Ok(Request { prompt: tokens::encode(model, &text)?, samples, stream: hash::number(&[&task.id]) })
    };
    let requests = tasks.iter().map(request).collect::<Result<Vec<_>, StageError>>()?;
    let sampling = Sampling {
        temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        max_new_tokens: params.max_completion_length,
        seed: params.seed,
    };
    model.generate(&requests, &sampling, &mut |drawn| io.progress(drawn, None, "tokens"))
}

fn responses(
    model: &dyn Model,
    task: &Task,
    prompt: &str,
    completions: &[Completion],
    decoding: &str,
) -> Result<Vec<Response>, StageError> {
    let response = |(sample, completion): (usize, &Completion)| {
        Ok(Response {
            task: task.clone(),
            sample,
            decoding: decoding.into(),
            text: tokens::decode(model, completion)?,
            tokens: completion.tokens.len(),
            finished: completion.finished,
            prompt: prompt.to_string(),
        })
    };
    completions.iter().enumerate().map(response).collect()
}
