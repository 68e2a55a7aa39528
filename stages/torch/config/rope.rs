//! Rotary positions as `config.json` has them, in transformers' old spelling (`rope_theta`, `rope_scaling`,
//! `rope_local_base_freq`) and in its new one (`rope_parameters`, by layer type where they differ).

use serde_json::{Value, json};

use super::family::Family;
use super::fields::{Fields, number_or, only, present};

/// How fast the pairs of a head turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// What is done to them for longer texts.
    pub scaling: Scaling,
}

/// A change of the frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// None.
    Default,
    /// All are divided.
    Linear {
        /// By this.
        factor: f64,
    },
    /// Llama 3.1: slow ones are divided, fast ones kept, those between blended.
    Llama3 {
        /// Divisor of the slow ones.
        factor: f64,
        /// A pair is slow that turns less often than this over the original context.
        low: f64,
        /// A pair is fast that turns more often than this over the original context.
        high: f64,
        /// Context the model was first made for.
        original: f64,
    },
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The rotations of a model: one for all layers, or one for full and one for sliding attention.
pub fn ropes(document: &Fields, family: Family, positions: i64) -> Result<Vec<Rope>, String> {
    let parameters = table(document, "rope_parameters")?;
    let scaling = table(document, "rope_scaling")?;
    let theta = number_or(document, "rope_theta", family.rope_theta)?;
    let read = |name: &str, own: Option<&Fields>, theta| Rope::read(name, own, theta, (document, positions));
    let nested = parameters.filter(|table| table.contains_key(FULL) || table.contains_key(SLIDING));
    if !family.two_ropes && nested.is_none() {
        let (name, own) = scaling.map_or(("rope_parameters", parameters), |own| ("rope_scaling", Some(own)));
        let theta = number_or(parameters.unwrap_or(document), "rope_theta", theta)?;
        return Ok(vec![read(name, own, theta)?]);
    }
    if family.two_ropes && nested.is_none() && parameters.is_some() {
        return Err(format!("`rope_parameters` of {} go by layer type: `{FULL}`, `{SLIDING}`", family.model_type));
    }
    let of = |name: &str| nested.map(|nested| table(nested, name)).transpose().map(Option::flatten);
    // In the old spelling a scaling is of the full layers alone.
    let full = match (of(FULL)?, scaling) {
        (_, Some(scaling)) => read("rope_scaling", Some(scaling), theta)?,
        (own, None) => read(FULL, own, theta)?,
    };
    let local = if family.two_ropes { number_or(document, "rope_local_base_freq", 10_000.0)? } else { theta };
    Ok(vec![full, read(SLIDING, of(SLIDING)?, local)?])
}

impl Rope {
    fn read(
        name: &str,
        own: Option<&Fields>,
        theta: f64,
        (document, positions): (&Fields, i64),
    ) -> Result<Self, String> {
        let Some(own) = own else { return Ok(Self { theta, scaling: Scaling::Default }) };
        let told = |problem: String| format!("`{name}`: {problem}");
        let theta = number_or(own, "rope_theta", theta).map_err(told)?;
        only(own, "partial_rotary_factor", &json!(1.0)).map_err(told)?;
        let kind = present(own, "rope_type").or(present(own, "type"));
        let (scaling, known): (_, &[&str]) = match kind.map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("default") => (Scaling::Default, &[]),
            Some("linear") => (Scaling::Linear { factor: above_zero(own, "factor").map_err(told)? }, &["factor"]),
            Some("llama3") => (
                Self::llama3(own, document, positions).map_err(told)?,
                &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
            ),
            _ => {
                let found = kind.map(Value::to_string).unwrap_or_default();
                return Err(told(format!(
                    "`rope_type` is {found}: only \"default\", \"linear\" and \"llama3\" are supported"
                )));
            }
        };
        let common = ["rope_theta", "rope_type", "type", "partial_rotary_factor"];
        let unknown = own.iter().find(|(name, value)| {
            !value.is_null() && !common.contains(&name.as_str()) && !known.contains(&name.as_str())
        });
        match unknown {
            None => Ok(Self { theta, scaling }),
            Some((field, value)) => Err(told(format!("`{field}` is {value}: not a field of this `rope_type`"))),
        }
    }

    fn llama3(own: &Fields, document: &Fields, positions: i64) -> Result<Scaling, String> {
        let original = number_or(own, "original_max_position_embeddings", positions as f64)?;
        let original = number_or(document, "original_max_position_embeddings", original)?;
        let (low, high) = (above_zero(own, "low_freq_factor")?, above_zero(own, "high_freq_factor")?);
        if high <= low {
            return Err(format!("`high_freq_factor` is {high}, expected more than `low_freq_factor`, {low}"));
        }
        Ok(Scaling::Llama3 { factor: above_zero(own, "factor")?, low, high, original })
    }
}

fn table<'a>(document: &'a Fields, name: &str) -> Result<Option<&'a Fields>, String> {
    let typed = |value: &'a Value| value.as_object().ok_or_else(|| format!("`{name}` is {value}, expected a table"));
    // An empty table says nothing.
    Ok(present(document, name).map(typed).transpose()?.filter(|table| !table.is_empty()))
}

fn above_zero(own: &Fields, name: &str) -> Result<f64, String> {
    let found = number_or(own, name, 0.0)?;
    if found > 0.0 { Ok(found) } else { Err(format!("`{name}` is {found} or missing, expected a number above 0")) }
}
