//! Each cause's sentence, as `plumb plan` and `plumb why` show it.

use crate::event::Cause;

/// Characters of a digest that tell it from any other of the same pipeline.
const SHOWN: usize = 12;

/// One line, lowercase, without a full stop.
pub fn sentence(cause: &Cause) -> String {
    match cause {
        Cause::NeverRan => "no earlier result of this stage is known".into(),
        Cause::Parameter { name, before, now } => change(name, before.as_deref(), now.as_deref()),
        Cause::Axis { axis, name, before, now } => {
            format!("{} (from axis `{axis}`)", change(name, before.as_deref(), now.as_deref()))
        }
        Cause::Input { name, from } => format!("input `{name}` has other content (from `{from}`)"),
        Cause::Source { name, before: Some(before), now: Some(now) } => {
            format!("source `{name}` has other content ({}, was {})", short(now), short(before))
        }
        Cause::Source { name, .. } => format!("source `{name}` has other content"),
        Cause::InputAdded { name } => format!("input `{name}` was added"),
        Cause::InputRemoved { name } => format!("input `{name}` was removed"),
        Cause::Kind { before, now } => format!("the stage uses `{now}`, used `{before}`"),
        Cause::Version { before, now } => format!("the stage's behaviour version is {now}, was {before}"),
        Cause::Outputs => "the declared outputs differ".into(),
        Cause::Salt => "`salt` differs".into(),
        Cause::Observed { name } => format!("`{name}` gives other content"),
        Cause::MissingBlob { output } => format!("output `{output}` is missing from the cache, or damaged there"),
        Cause::LayerLost { layer, output } => format!("the layer `{layer}` turned out not to have output `{output}`"),
        Cause::Untrusted { layer, signer: Some(signer), ancestor: None } => {
            format!("in `{layer}`, signed by {signer}: not trusted")
        }
        Cause::Untrusted { layer, signer: Some(signer), ancestor: Some(ancestor) } => {
            format!("in `{layer}`, made from `{ancestor}`, which {signer} signed: not trusted")
        }
        Cause::Untrusted { layer, signer: None, .. } => {
            format!("in `{layer}`, where nobody who is trusted says what it was made from: not trusted")
        }
        Cause::Collected { at } => format!("its result was taken out of the cache by `gc` or `verify` at {at}"),
        Cause::Disowned { ancestor, reason, by, at } => {
            let said = said(reason, by, at);
            match ancestor {
                None => format!("its result is disowned{said}"),
                Some(ancestor) => format!("its result was made from the disowned result of `{ancestor}`{said}"),
            }
        }
        Cause::StrictCode { before: Some(before), now: Some(now) } => {
            format!(
                "the code of its kind differs ({}, was {}) and `--strict-code` counts it",
                short(now),
                short(before)
            )
        }
        Cause::StrictCode { before: None, .. } => {
            "`--strict-code` asks for a result that says which code made it, and the earlier one does not".into()
        }
        Cause::StrictCode { now: None, .. } => {
            "the earlier result was made under `--strict-code`, this plan is not".into()
        }
        Cause::Realisation { ancestor } => {
            format!("its result was made from another result of `{ancestor}` than this run uses")
        }
        Cause::Fresh => "asked for with `--fresh`".into(),
    }
}

/// `: leaked labels (ada@lab, 2026-11-23T09:00:00Z)`, or as much of it as is known.
fn said(reason: &str, by: &str, at: &str) -> String {
    let who: Vec<&str> = [by, at].into_iter().filter(|part| !part.is_empty()).collect();
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if who.is_empty() { reason } else { format!("{reason} ({})", who.join(", ")) }
}

fn change(name: &str, before: Option<&str>, now: Option<&str>) -> String {
    match (before, now) {
        (Some(before), Some(now)) => format!("`{name}` is {now}, was {before}"),
        (None, Some(now)) => format!("`{name}` is {now}, was not set"),
        (before, None) => format!("`{name}` is not set, was {}", before.unwrap_or("not set")),
    }
}

/// `file:0123456789ab` of a whole identity.
fn short(identity: &str) -> String {
    let (kind, digest) = identity.split_once(':').map_or(("", identity), |(kind, digest)| (kind, digest));
    let digest: String = digest.chars().take(SHOWN).collect();
    if kind.is_empty() { digest } else { format!("{kind}:{digest}") }
}
