//! Batched generation: a sequence that ends leaves its slot to the next one. A prompt is computed once for all its
//! samples, and what all prompts begin with is computed once for all of them. How many slots there are is what memory
//! allows; where it turns out not to, the sequences under way begin again in half as many. Which tokens are drawn is
//! `sampling.rs`'s matter.
//!
//! What is drawn does not depend on the slots, up to rounding: a logit computed in another batch differs by its last bits
//! (a few 1e-6 in f32, 1e-2 in bf16), and a draw only where it lies that close to the border of two tokens.

mod prefill;
mod queue;
mod slots;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use plumb_engine::stage::StageError;
use plumb_stages::model::{Completion, Request, Sampling, Watch};
use tch::no_grad_guard;
use tokenizers::Tokenizer;

use self::queue::Queue;
use self::slots::Slots;
use crate::cache::Cache;
use crate::memory;
use crate::transformer::Transformer;

/// Slots at most: on a CPU more rows in a step make it no faster a token.
const MOST_ON_CPU: i64 = 64;
const MOST: i64 = 512;
/// What is taken for keys and values where nobody says how much memory is free.
const WITHOUT_KNOWING: u64 = 512 << 20;
/// And at most on a CPU, whose memory others use too.
const ENOUGH_ON_CPU: u64 = 4 << 30;

/// Who ends a completion.
pub struct Ends<'a> {
    /// Tokens that do.
    pub eos: &'a [u32],
    /// For texts that do.
    pub tokenizer: &'a Tokenizer,
}

/// Completions of every request, in order.
pub fn generate(
    model: &Transformer,
    ends: &Ends,
    requests: &[Request],
    sampling: &Sampling,
    watch: &mut dyn Watch,
) -> Result<Vec<Vec<Completion>>, StageError> {
    generate_in(model, ends, requests, sampling, slots_that_fit(model, requests, sampling), watch)
}

/// The same in at most so many slots.
pub fn generate_in(
    model: &Transformer,
    ends: &Ends,
    requests: &[Request],
    sampling: &Sampling,
    mut most: i64,
    watch: &mut dyn Watch,
) -> Result<Vec<Vec<Completion>>, StageError> {
    let _guard = no_grad_guard();
    let mut queue = Queue::new(requests);
    while !queue.is_empty() {
        // Not a closure over `model` alone: what ended before the panic stays in the queue.
        let ran = catch_unwind(AssertUnwindSafe(|| Slots::new(model, ends, sampling, most).run(&mut queue, watch)));
        match ran {
            Ok(ran) => ran?,
            Err(panic) if most > 1 && memory::ran_out(text_of(&panic)) => {
                most /= 2;
                queue.begin_again();
                watch.note(&format!("memory ran out: going on with at most {most} sequences at a time"));
            }
            Err(panic) => resume_unwind(panic),
        }
    }
    Ok(queue.done())
}

fn text_of(panic: &Box<dyn std::any::Any + Send>) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

/// Slots for which there is memory: half of what is free, for keys and values are not all that a step needs.
fn slots_that_fit(model: &Transformer, requests: &[Request], sampling: &Sampling) -> i64 {
    let free = memory::available(model.device).map_or(WITHOUT_KNOWING, |bytes| bytes / 2);
    let (free, most) = if model.device.is_cuda() { (free, MOST) } else { (free.min(ENOUGH_ON_CPU), MOST_ON_CPU) };
    let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
    let slot = slots::capacity(longest, sampling) * Cache::bytes_of_a_column(model);
    (i64::try_from(free).unwrap_or(i64::MAX) / slot.max(1)).clamp(1, most)
}
