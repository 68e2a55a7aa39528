//! Generation on the small random llama of make_llama.py: whatever the slots, the order and the company, the same tokens.

use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use plumb_stages::model::{Completion, Dtype, Model, Request, Sampling, Sequence, Watch};
use plumb_torch::generate::{Ends, generate_in};
use plumb_torch::language_model::LanguageModel;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn open() -> LanguageModel {
    LanguageModel::open(&folder(), Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }).expect("opens")
}

/// What a generation told.
#[derive(Default)]
struct Heard {
    drawn: u64,
    ended: Vec<usize>,
}

impl Watch for Heard {
    fn drawn(&mut self, tokens: u64) {
        self.drawn = tokens;
    }

    fn ended(&mut self, request: usize, _completions: &[Completion]) -> Result<(), StageError> {
        self.ended.push(request);
        Ok(())
    }
}

fn generated(
    model: &LanguageModel,
    requests: &[Request],
    sampling: &Sampling,
    slots: i64,
) -> (Vec<Vec<Completion>>, Heard) {
    let mut heard = Heard::default();
    let ends = Ends { eos: model.eos_token_ids(), tokenizer: model.tokenizer() };
    let drawn = generate_in(model.transformer(), &ends, requests, sampling, slots, &mut heard).expect("generates");
    (drawn, heard)
}

/// Prompts of all lengths, in no order.
fn requests() -> Vec<Request> {
    let prompt = |length: u32| (0..length).map(|at| 3 + (at * 7 + length) % 40).collect();
    let lengths = [4u32, 19, 2, 11, 30, 7, 1, 23];
    (0u64..).zip(lengths).map(|(stream, length)| Request { prompt: prompt(length), samples: 3, stream }).collect()
}

/// The same after one long beginning.
fn with_a_common_beginning() -> Vec<Request> {
    let beginning: Vec<u32> = (0..20).map(|at| 5 + at % 30).collect();
    let longer = |request: Request| Request { prompt: [beginning.clone(), request.prompt].concat(), ..request };
    requests().into_iter().map(longer).collect()
}

fn sampled() -> Sampling {
    Sampling { temperature: 0.8, max_new_tokens: 14, seed: 9, ..Sampling::default() }
}

fn agree(one: &[Vec<Completion>], other: &[Vec<Completion>]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().flatten().zip(other.iter().flatten()) {
        assert_eq!((&one.tokens, one.finished), (&other.tokens, other.finished));
        assert!(one.logprobs.iter().zip(&other.logprobs).all(|(one, other)| (one - other).abs() < 1e-4));
    }
}

#[test]
fn slots_order_and_company_change_no_draw() {
    let model = open();
    for requests in [requests(), with_a_common_beginning()] {
        for sampling in [sampled(), Sampling { temperature: 0.0, ..sampled() }, Sampling { top_p: 0.8, ..sampled() }] {
            let (all, heard) = generated(&model, &requests, &sampling, 64);
            assert_eq!(heard.drawn, all.iter().flatten().map(|completion| completion.tokens.len() as u64).sum::<u64>());
            for slots in [1, 2, 5, 7] {
                let (few, heard) = generated(&model, &requests, &sampling, slots);
                agree(&few, &all);
                let mut ended = heard.ended;
                ended.sort_unstable();
                assert_eq!(ended, (0..requests.len()).collect::<Vec<_>>(), "each once");
            }
            let backwards: Vec<Request> = requests.iter().rev().cloned().collect();
            let (mut turned, _) = generated(&model, &backwards, &sampling, 5);
            turned.reverse();
            agree(&turned, &all);
        }
    }
}

#[test]
fn a_drawn_token_is_as_likely_as_the_whole_sequence_says() {
    let mut model = open();
    let requests = with_a_common_beginning();
    let (drawn, _) = generated(&model, &requests, &sampled(), 5);
    for (request, completion) in
        requests.iter().zip(&drawn).flat_map(|(request, all)| all.iter().map(move |one| (request, one)))
    {
        let sequence = Sequence { prompt: request.prompt.clone(), completion: completion.tokens.clone() };
        let scored = &model.log_probabilities(&[sequence], 0.8).expect("scores")[0];
        assert!(scored.iter().zip(&completion.logprobs).all(|(one, other)| (one - other).abs() < 2e-4));
    }
}

#[test]
fn a_text_ends_a_completion_and_so_does_the_last_token_that_is_allowed() {
    let model = open();
    let (free, _) = generated(&model, &requests(), &sampled(), 8);
    let text = |completion: &Completion| model.tokenizer().decode(&completion.tokens, true).expect("a text");
    // Two words of a completion, so that the end lies across tokens.
    let long = free.iter().flatten().find(|completion| completion.tokens.len() > 6).expect("a long one");
    let words: Vec<String> = text(long).split(' ').map(str::to_string).collect();
    let stop = format!("{} {}", words[2], words[3]);
    let (ended, _) = generated(&model, &requests(), &Sampling { stop: vec![stop.clone()], ..sampled() }, 8);
    let mut seen = 0;
    for (free, ended) in free.iter().flatten().zip(ended.iter().flatten()) {
        assert_eq!(ended.tokens, free.tokens[..ended.tokens.len()], "nothing else changes");
        if text(free).contains(&stop) {
            assert!(ended.finished && text(ended).ends_with(&stop), "{}", text(ended));
            seen += 1;
        } else {
            assert_eq!((&ended.tokens, ended.finished), (&free.tokens, free.finished));
        }
    }
    assert!(seen > 0);
}

#[test]
fn a_penalty_for_repetition_makes_repetition_rarer() {
    let model = open();
    let repeated = |penalty: f64| {
        let sampling = Sampling { repetition_penalty: penalty, max_new_tokens: 30, ..Sampling::default() };
        let (drawn, _) = generated(&model, &requests(), &sampling, 3);
        let again = |request: &Request, completion: &Completion| {
            let all = [&request.prompt[..], &completion.tokens[..]].concat();
            (request.prompt.len()..all.len()).filter(|at| all[..*at].contains(&all[*at])).count()
        };
        requests().iter().zip(&drawn).map(|(request, all)| again(request, &all[0])).sum::<usize>()
    };
    assert!(repeated(5.0) * 2 < repeated(1.0), "{} {}", repeated(5.0), repeated(1.0));
}
