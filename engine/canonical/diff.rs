//! The fields in which two canonical values differ: what `plumb why` tells. Never decides what a difference means.

use std::collections::BTreeSet;

use super::Value;

/// Dotted path, the canonical text before, the canonical text now; `None` where the field is absent.
pub type Difference = (String, Option<String>, Option<String>);

/// Every differing leaf, in the order of the names.
pub fn diff(before: &Value, now: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect("", Some(before), Some(now), &mut found);
    found
}

fn collect(path: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, now) {
        (Some(before), Some(now)) if before == now => {}
        (Some(Value::Map(before)), Some(Value::Map(now))) => {
            let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
            for name in names {
                collect(&member(path, name), before.get(name), now.get(name), found);
            }
        }
        (Some(Value::List(before)), Some(Value::List(now))) => {
            for index in 0..before.len().max(now.len()) {
                collect(&format!("{path}[{index}]"), before.get(index), now.get(index), found);
            }
        }
        _ => found.push((path.to_string(), before.map(Value::canonical), now.map(Value::canonical))),
    }
}

/// The path of a field of a map.
pub fn member(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || "_-".contains(letter));
    let name = if plain { name.to_string() } else { Value::Text(name.into()).canonical() };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(before: &str, now: &str, expect: Expect) {
        let text = |side: Option<String>| side.unwrap_or_else(|| "absent".into());
        let lines: Vec<String> = diff(&Value::parse(before).unwrap(), &Value::parse(now).unwrap())
            .into_iter()
            .map(|(path, before, now)| format!("{path}: {} -> {}", text(before), text(now)))
            .collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn every_differing_leaf_is_told_with_its_path() {
        check(
            r#"{"with":{"steps":4,"reward":{"wrong":-1.0},"old":true},"argv":["a","b"],"same":1}"#,
            r#"{"with":{"steps":5,"reward":{"wrong":0.0},"a b":1},"argv":["a","c","d"],"same":1}"#,
            expect![[r#"
                argv[1]: "b" -> "c"
                argv[2]: absent -> "d"
                with."a b": absent -> 1
                with.old: true -> absent
                with.reward.wrong: -1.0 -> 0.0
                with.steps: 4 -> 5"#]],
        );
    }

    #[test]
    fn a_whole_number_and_a_float_differ() {
        check("1", "1.0", expect![[": 1 -> 1.0"]]);
    }
}
