//! What others say of a result, in words: by whom it was reproduced, who is not counted, and what else was made.

use plumb_cache::{Other, SharedMark, Testimony};

use crate::units;

/// More differences of environments are left to `--json`.
const MOST: usize = 6;

/// `reproduced x2 (alice, you)`; `None` where at most one has made it.
pub fn reproduced(testimony: &Testimony) -> Option<String> {
    let by = &testimony.reproduced_by;
    (by.len() > 1).then(|| format!("reproduced x{} ({})", by.len(), by.join(", ")))
}

/// A line for each thing that is said.
pub fn lines(testimony: &Testimony) -> Vec<String> {
    let mut lines: Vec<String> = reproduced(testimony).into_iter().collect();
    if !testimony.not_counted.is_empty() {
        lines.push(format!(
            "not trusted, and not counted, though the result is the same: {}",
            said(&testimony.not_counted)
        ));
    }
    lines.extend(testimony.marks.iter().map(mark));
    lines.extend(testimony.others.iter().flat_map(other));
    lines
}

/// Of a result that is used.
fn mark(mark: &SharedMark) -> String {
    let SharedMark { by, reason, at, .. } = mark;
    match (mark.taken_back, mark.trusted) {
        (true, _) => format!("disowned by {by} once, and taken back at {at}"),
        (false, true) => format!("disowned by {by}: {reason} ({at}); used, since it was taken back or made again here"),
        (false, false) => format!("disowned by {by}, not trusted: {reason} ({at}); used all the same"),
    }
}

fn said(names: &[String]) -> String {
    names.join(", ")
}

fn other(other: &Other) -> Vec<String> {
    let who = match (other.by.is_empty(), other.not_counted.is_empty()) {
        (false, _) => said(&other.by),
        (true, false) => format!("{}, not trusted", said(&other.not_counted)),
        (true, true) => "somebody".into(),
    };
    let outputs: Vec<String> = other.outputs.iter().map(|name| format!("`{name}`")).collect();
    let mut lines = vec![format!("another result, not used: by {who}; {} differs", outputs.join(", "))];
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let differing = other.environment.iter().take(MOST);
    lines.extend(
        differing.map(|(name, (there, here))| format!("  {name}: {} there, {} here", value(there), value(here))),
    );
    let left = other.environment.len().saturating_sub(MOST);
    if left > 0 {
        lines.push(format!("  … {} more (`--json` has all)", units::plural(left, "difference")));
    }
    lines
}
