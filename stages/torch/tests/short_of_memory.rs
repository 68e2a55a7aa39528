//! A generation for which there is too little memory, in a process of its own whose memory is really bounded.

use std::path::Path;

use plumb_engine::io::Manner;
use plumb_stages::model::{Dtype, Model, Request, Sampling, Watch};
use plumb_torch::generate::{Ends, generate_in};
use plumb_torch::language_model::LanguageModel;

#[derive(Default)]
struct Notes(Vec<String>);

impl Watch for Notes {
    fn drawn(&mut self, _tokens: u64) {}

    fn note(&mut self, message: &str) {
        self.0.push(message.to_string());
    }
}

/// Bytes of address space that this process has.
fn held() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[test]
fn with_too_little_memory_half_as_many_go_on_at_a_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama");
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let model = LanguageModel::open(&folder, Dtype::Float32, &manner).expect("opens");
    let request = |stream| Request { prompt: vec![3, 9, 12], samples: 1, stream };
    let requests: Vec<Request> = (0..64).map(request).collect();
    // Room for 40,000 tokens each, of which each writes one or a few.
    let long =
        Sampling { temperature: 1.0, max_new_tokens: 40_000, stop: vec!["t".into()], seed: 1, ..Sampling::default() };
    let ends = Ends { eos: model.eos_token_ids(), tokenizer: model.tokenizer() };
    let mut notes = Notes::default();
    let generate = |notes: &mut Notes| generate_in(model.transformer(), &ends, &requests, &long, 64, notes);
    let short = Sampling { max_new_tokens: 4, ..long.clone() };
    let expected =
        generate_in(model.transformer(), &ends, &requests, &short, 64, &mut Notes::default()).expect("generates");

    // Sixty-four slots of 50,000 columns take 614 MB.
    let most = held() + (260 << 20);
    let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: sets this process's own soft limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let drawn = generate(&mut notes).expect("generates");
    assert_eq!(drawn, expected);
    assert_eq!(notes.0.len(), 2, "{:?}", notes.0);
    assert_eq!(notes.0[1], "memory ran out: going on with at most 16 sequences at a time");
}
