//! A prompt with all its answers, of which some are right, and the pairs that are made of it. Never says which judge
//! looks at it.

use serde::{Deserialize, Serialize};

use crate::data::pairs::Placement;
use crate::data::{hash, placement};
use crate::rows::{Message, Origin, Pair, Side};

/// One answer of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Whether it is a right one.
    pub right: bool,
    /// Who wrote it, where the benchmark says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
}

/// A benchmark's item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Unique within its benchmark.
    pub id: String,
    /// The dialogue up to and including the last user turn.
    pub conversations: Vec<Message>,
    /// In the benchmark's order.
    pub answers: Vec<Answer>,
    /// The comparisons that the benchmark asks for: (place of a right, place of a wrong answer).
    pub comparisons: Vec<(usize, usize)>,
    /// The gold judgment, where the benchmark has one. Letters name the first two answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gt_judgment: Option<String>,
    /// Provenance.
    pub source: Origin,
    /// Items of one prompt share it.
    pub prompt_id: String,
    /// Slices beside the subset, as `hard` or `code`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What a judge was asked about a whole group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Which of all answers is best: `[[A]]`, `[[B]]`, ….
    Choose,
    /// How good one answer is, from 1 to 10.
    Rate,
}

/// A judge's answer about a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupJudgment {
    /// The group.
    pub id: String,
    /// What was asked.
    pub task: Task,
    /// Places of the answers in the order they were shown: the letter A stood for the first.
    pub shown: Vec<usize>,
    /// Raw text; `null` where the call failed.
    pub model_judgment: Option<String>,
}

impl Group {
    /// A group of right and of wrong answers, every right one to be compared with every wrong one.
    pub fn of_lists(id: String, prompt: Vec<Message>, right: Vec<String>, wrong: Vec<String>, source: Origin) -> Self {
        let (good, all) = (right.len(), right.len() + wrong.len());
        let answer = |(place, text): (usize, String)| Answer { text, right: place < good, model: String::new() };
        let answers = right.into_iter().chain(wrong).enumerate().map(answer).collect();
        let comparisons = (0..good).flat_map(|right| (good..all).map(move |wrong| (right, wrong))).collect();
        let prompt_id = prompt_id(&prompt);
        let (gt_judgment, tags) = (None, Vec::new());
        Self { id, conversations: prompt, answers, comparisons, gt_judgment, source, prompt_id, tags }
    }

    /// A group of the two answers of a pair, in their places.
    pub fn of_pair(pair: Pair) -> Self {
        let answer = |text, side| Answer { text, right: pair.gt_label == side, model: String::new() };
        let comparison = if pair.gt_label == Side::A { (0, 1) } else { (1, 0) };
        Self {
            answers: vec![answer(pair.response_a, Side::A), answer(pair.response_b, Side::B)],
            comparisons: vec![comparison],
            id: pair.id,
            conversations: pair.conversations,
            gt_judgment: pair.gt_judgment,
            source: pair.source,
            prompt_id: pair.prompt_id,
            tags: Vec::new(),
        }
    }

    /// The id of a comparison's pair: the group's own where there is but one.
    pub fn pair_id(&self, (right, wrong): (usize, usize)) -> String {
        match self.comparisons.len() {
            1 => self.id.clone(),
            _ => format!("{}#{right}-{wrong}", self.id),
        }
    }

    /// The pairs, placed.
    pub fn pairs(&self, placed: Placement, seed: u64) -> impl Iterator<Item = Pair> {
        self.comparisons.iter().map(move |comparison| {
            let pair = self.pair(*comparison);
            match placed {
                Placement::Hash if placement::exchanges(&pair.id, seed) => placement::swap(&pair),
                _ => pair,
            }
        })
    }

    // The answer that stands first in the group is A.
    fn pair(&self, (right, wrong): (usize, usize)) -> Pair {
        let (first, second) = (right.min(wrong), right.max(wrong));
        Pair {
            id: self.pair_id((right, wrong)),
            conversations: self.conversations.clone(),
            response_a: self.answers[first].text.clone(),
            response_b: self.answers[second].text.clone(),
            gt_label: if right == first { Side::A } else { Side::B },
            gt_judgment: self.gt_judgment.clone(),
            source: self.source.clone(),
            prompt_id: self.prompt_id.clone(),
            swapped: false,
            cue: None,
        }
    }

    /// Leaves one comparison, drawn by hash.
    pub fn keep_one(&mut self, seed: u64) {
        let share = hash::share(&["among", &seed.to_string(), &self.id]);
        let place = (share * self.comparisons.len() as f64) as usize;
        self.comparisons = self.comparisons.get(place).copied().into_iter().collect();
    }
}

/// What equal dialogues share.
pub fn prompt_id(dialogue: &[Message]) -> String {
    let text: Vec<&str> = dialogue.iter().flat_map(|turn| [turn.role.as_str(), turn.content.as_str()]).collect();
    format!("{:016x}", hash::number(&text))
}
