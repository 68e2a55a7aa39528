//! What is to be generated, in the order in which it is begun, and what is done. Knows no tensor.

use std::collections::{BTreeMap, VecDeque};

use plumb_engine::stage::StageError;
use plumb_stages::model::{Completion, Request, Watch};

/// Requests and their completions.
pub struct Queue<'a> {
    requests: &'a [Request],
    /// Requests of which no sample was begun; like lengths follow each other, and the longest come first: what is left
    /// at the end is short.
    waiting: VecDeque<usize>,
    /// Samples that ended, of requests that have not.
    ended: BTreeMap<usize, BTreeMap<u64, Completion>>,
    done: Vec<Vec<Completion>>,
    left: usize,
    drawn: u64,
}

impl<'a> Queue<'a> {
    /// Everything waits.
    pub fn new(requests: &'a [Request]) -> Self {
        let mut queue = Self {
            requests,
            waiting: VecDeque::new(),
            ended: BTreeMap::new(),
            done: requests.iter().map(|_| Vec::new()).collect(),
            left: requests.iter().filter(|request| request.samples > 0).count(),
            drawn: 0,
        };
        queue.begin_again();
        queue
    }

    /// Whatever has not ended waits again. Draws are named: it comes out the same.
    pub fn begin_again(&mut self) {
        let unfinished = |index: &usize| self.done[*index].len() < self.requests[*index].samples;
        let mut waiting: Vec<usize> = (0..self.requests.len()).filter(unfinished).collect();
        waiting.sort_by_key(|index| (std::cmp::Reverse(self.requests[*index].prompt.len()), *index));
        self.waiting = waiting.into();
    }

    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// A request by its number.
    pub fn request(&self, index: usize) -> &'a Request {
        &self.requests[index]
    }

    /// The requests that wait.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = usize> {
        self.waiting.iter().copied()
    }

    /// Takes the first ones out whose samples fill these slots, the last of them perhaps with some to spare; at most so
    /// many tokens of prompts in all, but at least one request.
    pub fn take(&mut self, slots: usize, tokens: usize) -> Vec<usize> {
        let (mut taken, mut samples, mut width) = (Vec::new(), 0, 0);
        while let Some(next) = self.waiting.front().copied()
            && samples < slots
        {
            width = width.max(self.requests[next].prompt.len());
            if !taken.is_empty() && width * (taken.len() + 1) > tokens {
                break;
            }
            samples += self.missing(next).count();
            taken.push(next);
            self.waiting.pop_front();
        }
        taken
    }

    /// The samples of a request that have not ended.
    pub fn missing(&self, index: usize) -> impl Iterator<Item = u64> {
        let ended = self.ended.get(&index);
        (0..self.requests[index].samples as u64)
            .filter(move |sample| ended.is_none_or(|ended| !ended.contains_key(sample)))
    }

    /// A sample has ended.
    pub fn end(
        &mut self,
        index: usize,
        sample: u64,
        completion: Completion,
        watch: &mut dyn Watch,
    ) -> Result<(), StageError> {
        let ended = self.ended.entry(index).or_default();
        ended.insert(sample, completion);
        if ended.len() == self.requests[index].samples {
            self.done[index] = self.ended.remove(&index).unwrap_or_default().into_values().collect();
            self.left -= 1;
            watch.ended(index, &self.done[index])?;
        }
        Ok(())
    }

    /// So many more tokens were drawn.
    pub fn drew(&mut self, tokens: u64, watch: &mut dyn Watch) {
        self.drawn += tokens;
        watch.drawn(self.drawn);
    }

    /// All completions, by request and sample.
    pub fn done(self) -> Vec<Vec<Completion>> {
        self.done
    }
}
