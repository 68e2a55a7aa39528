//! Each cause's sentence, as `plumb plan` and `plumb why` show it.

use crate::event::Cause;

/// One line, lowercase, without a full stop.
pub fn sentence(cause: &Cause) -> String {
    match cause {
        Cause::NeverRan => "no earlier result of this stage is known".into(),
        Cause::Parameter { name, before: Some(before), now: Some(now) } => format!("`{name}` is {now}, was {before}"),
        Cause::Parameter { name, before: None, now: Some(now) } => format!("`{name}` is {now}, was not set"),
        Cause::Parameter { name, before, .. } => {
            format!("`{name}` is not set, was {}", before.as_deref().unwrap_or("not set"))
        }
        Cause::Input { name, from } => format!("input `{name}` has other content (from `{from}`)"),
        Cause::Source { name } => format!("source `{name}` has other content"),
        Cause::InputAdded { name } => format!("input `{name}` was added"),
        Cause::InputRemoved { name } => format!("input `{name}` was removed"),
        Cause::Kind { before, now } => format!("the stage uses `{now}`, used `{before}`"),
        Cause::Version { before, now } => format!("the stage's behaviour version is {now}, was {before}"),
        Cause::Outputs => "the declared outputs differ".into(),
        Cause::Salt => "`salt` differs".into(),
        Cause::Observed { name } => format!("`{name}` gives other content"),
        Cause::MissingBlob { output } => format!("output `{output}` is missing from the cache, or damaged there"),
        Cause::Realisation { ancestor } => {
            format!("its result was made from another result of `{ancestor}` than this run uses")
        }
        Cause::Fresh => "asked for with `--fresh`".into(),
    }
}
