//! GSM8K asked as lm-evaluation-harness 0.4.13 asks it (task `gsm8k` version 3, no chat template): its prompt, its
//! choice of examples to the last draw, and the texts at which it stops. Asks no model.

use plumb_engine::stage::StageError;
use rand_mt::Mt;

use crate::rows::{Checker, Task};

/// Where an answer ends.
pub const UNTIL: [&str; 3] = ["Question:", "</s>", "<|im_end|>"];

/// The prompt of each task, with `count` examples that are drawn task after task, as the harness does.
pub fn prompts(tasks: &[Task], examples: &[Task], count: usize, seed: u64) -> Result<Vec<String>, StageError> {
    if count > examples.len() {
        let message = format!("`num_fewshot` is {count}, but `examples` holds {} tasks", examples.len());
        return Err(
            StageError::new(message).hint("give the stage `inputs.examples`, as `data.tasks` makes of train.jsonl")
        );
    }
    let examples = examples.iter().map(solved).collect::<Result<Vec<_>, _>>()?;
    let mut random = PythonRandom::new(seed);
    let prompt = |task: &Task| {
        let shots: String = random.sample(examples.len(), count).into_iter().map(|at| examples[at].as_str()).collect();
        Ok(shots + &question(task)?)
    };
    tasks.iter().map(prompt).collect()
}

fn solved(task: &Task) -> Result<String, StageError> {
    let solution = task.target.as_str().ok_or_else(|| strange(task, "expected a solution as its target"))?;
    Ok(format!("{} {solution}\n\n", question(task)?))
}

fn question(task: &Task) -> Result<String, StageError> {
    match (task.checker, &task.conversations[..]) {
        (Some(Checker::Gsm8k), [asked]) => Ok(format!("Question: {}\nAnswer:", asked.content)),
        _ => Err(strange(task, "`num_fewshot` is known for GSM8K's questions only")),
    }
}

fn strange(task: &Task, problem: &str) -> StageError {
    StageError::new(format!("task `{}`: {problem}", task.id)).hint("make tasks with `data.tasks`, format `gsm8k`")
}

/// Python's `random.Random`, as far as the harness draws from it.
struct PythonRandom(Mt);

impl PythonRandom {
    // Python seeds by the number's 32-bit digits, the lowest first, at least one.
    fn new(seed: u64) -> Self {
        let digits = [seed as u32, (seed >> 32) as u32];
        let length = if digits[1] == 0 { 1 } else { 2 };
        Self(Mt::new_with_key(digits[..length].iter().copied()))
    }

    // `randbelow`: as many bits as `count` has, drawn until they are below it.
    fn below(&mut self, count: usize) -> usize {
        let bits = usize::BITS - count.leading_zeros();
        loop {
            let drawn = (self.0.next_u32() >> (32 - bits)) as usize;
            if drawn < count {
                return drawn;
            }
        }
    }

    // `sample(range(among), count)`: from a shrinking pool where that is smaller than a set of the chosen.
    fn sample(&mut self, among: usize, count: usize) -> Vec<usize> {
        let mut set = 4;
        while set < 3 * count {
            set *= 4;
        }
        if among <= 21 + if count > 5 { set } else { 0 } {
            let mut pool: Vec<usize> = (0..among).collect();
            return (0..count).map(|_| pool.swap_remove(self.below(pool.len()))).collect();
        }
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let drawn = self.below(among);
            if !chosen.contains(&drawn) {
                chosen.push(drawn);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::testing::shared;

    fn check(among: usize, count: usize, seed: u64, expected: [&[usize]; 3]) {
        let mut random = PythonRandom::new(seed);
        assert_eq!(expected.map(|_| random.sample(among, count)), expected, "{count} of {among}, seed {seed}");
    }

    #[test]
    fn examples_are_drawn_as_the_harness_draws_them() {
        // Recorded of lm_eval 0.4.13: three calls of one ContextSampler's `sample`.
        check(10, 3, 1234, [&[7, 1, 0], &[1, 0, 9], &[1, 5, 3]]);
        check(21, 5, 1234, [&[14, 3, 0, 2, 1], &[2, 3, 11, 7, 0], &[0, 20, 11, 15, 14]]);
        check(22, 5, 1234, [&[14, 3, 0, 2, 18], &[1, 21, 2, 3, 11], &[7, 0, 11, 20, 19]]);
        check(
            7473,
            5,
            1234,
            [&[6374, 3610, 957, 61, 742], &[7462, 6610, 4769, 286, 5501], &[5677, 687, 806, 6279, 2905]],
        );
        let eight: [&[usize]; 3] =
            [&[49, 97, 53, 5, 33, 65, 62, 51], &[38, 61, 45, 74, 27, 64, 17, 36], &[17, 96, 12, 79, 32, 68, 90, 77]];
        check(100, 8, 0, eight);
        check(300, 2, (1 << 40) + 7, [&[292, 243], &[128, 64], &[264, 192]]);
    }

    fn task(id: usize, question: &str, solution: &str) -> Task {
        serde_json::from_value(json!({"id": id.to_string(), "domain": "gsm8k", "checker": "gsm8k",
            "conversations": [{"role": "user", "content": question}], "target": solution}))
        .expect("a task")
    }

    #[test]
    fn a_prompt_is_the_harnesss() {
        let examples = [task(0, "1+1?", "It is 2.\n#### 2"), task(1, "2+2?", "It is 4.\n#### 4")];
        let asked = [task(2, "3+3?", "#### 6")];
        assert_eq!(prompts(&asked, &[], 0, 1234).expect("a prompt"), ["Question: 3+3?\nAnswer:"]);
        let found = prompts(&asked, &examples, 1, 1234).expect("a prompt");
        let shots = examples.each_ref().map(|one| solved(one).expect("a solution"));
        assert!(shots.iter().any(|shot| found == [format!("{shot}Question: 3+3?\nAnswer:")]), "{found:?}");
        assert_eq!(shots[0], "Question: 1+1?\nAnswer: It is 2.\n#### 2\n\n");
        let error = prompts(&asked, &examples, 3, 1234).expect_err("too few");
        assert_eq!(error.message, "`num_fewshot` is 3, but `examples` holds 2 tasks");
        let other = Task { checker: Some(Checker::Ifeval), ..task(3, "q", "a") };
        let error = prompts(&[other], &[], 0, 1234).expect_err("no prompt is known");
        assert_eq!(error.message, "task `3`: `num_fewshot` is known for GSM8K's questions only");
    }

    #[test]
    fn real_prompts_hash_as_the_harnesss_do() {
        let (Some(train), Some(test)) = (shared("gsm8k/train.jsonl"), shared("gsm8k/test.jsonl")) else { return };
        let read = |path: &std::path::Path, most: usize| -> Vec<Task> {
            let rows: Vec<serde_json::Value> = crate::jsonl::read(path).expect("rows");
            let text = |row: &serde_json::Value, name: &str| row[name].as_str().expect("text").to_string();
            let of = |(id, row): (usize, &serde_json::Value)| {
                task(id, &text(row, "question"), &format!("{}\n#### {}", text(row, "solution"), text(row, "answer")))
            };
            rows.iter().take(most).enumerate().map(of).collect()
        };
        let found = prompts(&read(&test, 2), &read(&train, usize::MAX), 5, 1234).expect("prompts");
        let hash = |text: &String| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Of lm_eval 0.4.13's ContextSampler and hash_string over the same two files.
        assert_eq!(
            found.iter().map(hash).collect::<Vec<_>>(),
            [
                "648b5a9d71ae1181a1c9875880af8c03f1e4645225cbf1916335ef0352752f5c",
                "be46d425c48cdd9b5475a759ddb223af568abc58c8e09ad87cd7349e97c9d7bf"
            ]
        );
    }
}
