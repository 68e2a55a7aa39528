//! The first step at which two trainings parted: by the rows of their chains, which tell each step.

use plumb_cache::{ActionRecord, Store};
use serde_json::Value;

use crate::protocol::CHAIN;

/// The step of the first row that differs; `None` where a side tells no steps, or all rows agree.
pub(super) fn first_diverging(store: &Store, before: &ActionRecord, again: &ActionRecord) -> Option<u64> {
    parted(&rows(&text(store, before)?)?, &rows(&text(store, again)?)?)
}

fn text(store: &Store, record: &ActionRecord) -> Option<String> {
    let output = record.outputs.values().find(|output| output.file == CHAIN)?;
    String::from_utf8(store.read(&output.artifact).ok()?).ok()
}

fn rows(text: &str) -> Option<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

// Where one ends before the other, it is the step that only the other made.
fn parted(before: &[Value], again: &[Value]) -> Option<u64> {
    let first = before.iter().zip(again).position(|(before, again)| before != again);
    let first = first.unwrap_or(before.len().min(again.len()));
    let step = |rows: &[Value]| rows.get(first)?.get("step")?.as_u64();
    // Rows may be some steps apart, on each side others: the step is known to have gone well up to the row before.
    step(before).into_iter().chain(step(again)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, again: &str, expected: Option<u64>) {
        let parted = |one: &str, other: &str| parted(&rows(one).unwrap(), &rows(other).unwrap());
        assert_eq!(parted(before, again), expected);
        assert_eq!(parted(again, before), expected, "either way round");
    }

    #[test]
    fn the_first_row_that_differs_names_the_step() {
        let row = |step: u64, chain: &str| format!("{{\"step\":{step},\"chain\":\"{chain}\"}}\n");
        let of = |steps: &[(u64, &str)]| steps.iter().map(|(step, chain)| row(*step, chain)).collect::<String>();
        let whole = of(&[(1, "a"), (2, "b"), (3, "c")]);
        check(&whole, &whole, None);
        check(&whole, &of(&[(1, "a"), (2, "x"), (3, "y")]), Some(2));
        check(&whole, &of(&[(1, "x"), (2, "y"), (3, "z")]), Some(1));
        check(&whole, &of(&[(1, "a"), (2, "b")]), Some(3));
        check(&whole, "", Some(1));
        check("", "", None);
        // Told every ten steps, or once at another step: the earlier of the two rows is where to look.
        check(&of(&[(10, "a"), (20, "b")]), &of(&[(10, "a"), (15, "b")]), Some(15));
        check("{\"loss\": 1}\n", "{\"loss\": 2}\n", None);
    }

    #[test]
    fn what_is_no_chain_tells_no_step() {
        assert_eq!(rows("{\"step\": 1}\nnot JSON\n"), None);
    }
}
