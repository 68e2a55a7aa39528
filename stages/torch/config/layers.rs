//! What differs from block to block: which of them see a sliding window, and which rotation turns them.

use serde_json::Value;

use super::family::{Family, Windows};
use super::fields::{Fields, flag_or, integer_or, present};

/// What differs from block to block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// A token sees this many tokens, itself included; `None` sees all earlier ones.
    pub window: Option<i64>,
    /// Which of the rotations.
    pub rope: usize,
}

/// Of every block, from `layer_types` or, where it is missing, by the family's rule.
pub fn layers(document: &Fields, family: Family, count: usize, ropes: usize) -> Result<Vec<Layer>, String> {
    let sliding = sliding(document, family, count)?;
    let window = match integer_or(document, "sliding_window", 4096)? {
        _ if document.get("sliding_window").is_some_and(Value::is_null) => None,
        size if size < 1 => return Err(format!("`sliding_window` is {size}, expected a positive number")),
        size => Some(size),
    };
    let has_windows = family.windows != Windows::Upper || flag_or(document, "use_sliding_window", false)?;
    let window = window.filter(|_| has_windows);
    if window.is_none() && family.windows != Windows::All && sliding.contains(&true) {
        return Err("a layer is of `sliding_attention`, and no `sliding_window` is set".into());
    }
    if family.windows == Windows::None && present(document, "sliding_window").is_some() {
        return Err(format!("`sliding_window` is not a field of {}", family.model_type));
    }
    let layer =
        |sliding: bool| Layer { window: window.filter(|_| sliding), rope: if sliding && ropes > 1 { 1 } else { 0 } };
    Ok(sliding.into_iter().map(layer).collect())
}

// Which layers are local.
fn sliding(document: &Fields, family: Family, count: usize) -> Result<Vec<bool>, String> {
    // Mistral's own code does not look at the types.
    if let Some(types) = present(document, "layer_types").filter(|_| family.windows != Windows::All) {
        return of_types(types, family, count);
    }
    let upper = integer_or(document, "max_window_layers", 28)?;
    let local = match family.windows {
        Windows::None => return Ok(vec![false; count]),
        Windows::All => return Ok(vec![true; count]),
        Windows::Upper => flag_or(document, "use_sliding_window", false)?,
        Windows::Pattern(_) => true,
    };
    let every = match family.windows {
        Windows::Pattern(every) => integer_or(document, "sliding_window_pattern", every)?,
        _ => 1,
    };
    if every < 1 {
        return Err(format!("`sliding_window_pattern` is {every}, expected a positive number"));
    }
    let of = |layer: i64| match family.windows {
        Windows::Pattern(_) => (layer + 1) % every != 0,
        _ => local && layer >= upper,
    };
    Ok((0i64..).take(count).map(of).collect())
}

fn of_types(types: &Value, family: Family, count: usize) -> Result<Vec<bool>, String> {
    let list = types.as_array().filter(|list| list.len() == count);
    let list = list.ok_or_else(|| format!("`layer_types` is no list of `num_hidden_layers` ({count}) names"))?;
    let one = |(layer, kind): (usize, &Value)| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") if family.windows != Windows::None => Ok(true),
        _ => Err(format!("`layer_types[{layer}]` is {kind}: not supported in {}", family.model_type)),
    };
    list.iter().enumerate().map(one).collect()
}
