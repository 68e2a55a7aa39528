//! Low-rank adapters (LoRA, arXiv 2106.09685) beside a frozen model's projections, as PEFT has them: what they add to a
//! projection, how they are merged into it, and PEFT's adapter folder, read and written.
//!
//! ```text
//! y = W x + (alpha / r) B A x        A (r, in) drawn from U(-1/√in, 1/√in), B (out, r) zero at first
//! ```
//!
//! While training, W + B A is never formed. Adapters are f32 whatever the model's dtype, and are weights of the
//! transformer like others ([`Part::LoraA`], [`Part::LoraB`], after all the model's own). Differences from PEFT: 1. no
//! dropout; 2. the seven projections of a block only; 3. no `bias`, DoRA, patterns of ranks, or layers left out.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use plumb_stages::model::{self, Target};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::config::Config;
use crate::init;
use crate::weights::{self, Files, Part, Written};

/// A projection of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Module {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

/// Shape of all adapters of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rank.
    pub rank: i64,
    /// `lora_alpha`.
    pub alpha: f64,
    /// Whether alpha is divided by the rank's root, not the rank.
    pub rank_stabilised: bool,
    /// The projections that have one, in order.
    pub modules: Vec<Module>,
}

const EVERY: [(Module, &str); 7] = [
    (Module::Query, "q_proj"),
    (Module::Key, "k_proj"),
    (Module::Value, "v_proj"),
    (Module::Output, "o_proj"),
    (Module::Gate, "gate_proj"),
    (Module::Up, "up_proj"),
    (Module::Down, "down_proj"),
];

impl Module {
    /// Its name in transformers.
    pub fn name(self) -> &'static str {
        EVERY[self as usize].1
    }

    /// Name within its block, and (out, in).
    pub fn place(self, config: &Config) -> (String, [i64; 2]) {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let (parent, shape) = match self {
            Self::Query => ("self_attn", [queries, hidden]),
            Self::Key | Self::Value => ("self_attn", [keys, hidden]),
            Self::Output => ("self_attn", [hidden, queries]),
            Self::Gate | Self::Up => ("mlp", [wide, hidden]),
            Self::Down => ("mlp", [hidden, wide]),
        };
        (format!("{parent}.{}", self.name()), shape)
    }

    /// Those that a fused weight is made of, in its order.
    fn of(part: Part) -> Option<(usize, &'static [Module])> {
        match part {
            Part::Qkv(layer) => Some((layer, &[Self::Query, Self::Key, Self::Value])),
            Part::AttentionOut(layer) => Some((layer, &[Self::Output])),
            Part::GateUp(layer) => Some((layer, &[Self::Gate, Self::Up])),
            Part::Down(layer) => Some((layer, &[Self::Down])),
            _ => None,
        }
    }
}

impl Lora {
    /// As a training stage asks for it; PEFT adapts query and value where nothing is named.
    pub fn of(asked: &model::Lora) -> Self {
        let adapted = |module: &Module| match asked.targets.as_slice() {
            [] => matches!(module, Module::Query | Module::Value),
            named => named.iter().any(|target| *target == Target::AllLinear || target.name() == module.name()),
        };
        let modules = EVERY.iter().map(|(module, _)| *module).filter(adapted).collect();
        Self { rank: asked.rank as i64, alpha: asked.alpha, rank_stabilised: false, modules }
    }

    fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// Reads `adapter_config.json`; what would change the computation and is not followed is refused.
    fn read(path: &Path) -> Result<Self, StageError> {
        let document: Value = jsonl::read_json(path)?;
        let told = |problem: String| StageError::file("read", path, &problem);
        let off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(table) => table.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        for name in REFUSED {
            if !off(&document[name]) {
                return Err(told(format!("`{name}` is {}: it is not supported", document[name])));
            }
        }
        for (name, only) in [("peft_type", "LORA"), ("bias", "none")] {
            if !(document[name].is_null() || document[name] == only) {
                return Err(told(format!("`{name}` is {}: only \"{only}\" is supported", document[name])));
            }
        }
        let rank = document["r"].as_i64().filter(|rank| (1..=i64::from(u16::MAX)).contains(rank));
        let rank = rank.ok_or_else(|| told(format!("`r` is {}, expected a rank", document["r"])))?;
        let alpha = document["lora_alpha"].as_f64();
        let alpha =
            alpha.ok_or_else(|| told(format!("`lora_alpha` is {}, expected a number", document["lora_alpha"])))?;
        let mut modules = modules(&document["target_modules"]).map_err(told)?;
        modules.sort_unstable();
        modules.dedup();
        Ok(Self { rank, alpha, rank_stabilised: document["use_rslora"] == true, modules })
    }

    fn document(&self, config: &Config) -> Value {
        json!({
            "peft_type": "LORA",
            "task_type": if config.scores { "SEQ_CLS" } else { "CAUSAL_LM" },
            "base_model_name_or_path": null,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "use_rslora": self.rank_stabilised,
            "target_modules": self.modules.iter().map(|module| module.name()).collect::<Vec<_>>(),
            "modules_to_save": config.scores.then_some(["score"]),
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "inference_mode": true,
        })
    }
}

// Fields of an adapter's configuration that must be off.
const REFUSED: [&str; 14] = [
    "alpha_pattern",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];

fn modules(targets: &Value) -> Result<Vec<Module>, String> {
    let known = |target: &Value| EVERY.iter().find(|(_, name)| target == name).map(|(module, _)| *module);
    let refuse = |target: &Value| format!("`target_modules` holds {target}: expected names of a block's projections");
    match targets {
        Value::String(all) if all == "all-linear" => Ok(EVERY.iter().map(|(module, _)| *module).collect()),
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(|target| known(target).ok_or_else(|| refuse(target))).collect()
        }
        other => Err(refuse(other)),
    }
}

/// The adapters' parts, in order.
pub fn parts(config: &Config) -> Vec<Part> {
    let modules = config.lora.iter().flat_map(|lora| &lora.modules);
    let of = |layer: usize| modules.clone().flat_map(move |one| [Part::LoraA(layer, *one), Part::LoraB(layer, *one)]);
    (0..config.num_hidden_layers).flat_map(of).collect()
}

/// Name in PEFT's file and shape of one half of an adapter.
pub fn source(config: &Config, layer: usize, module: Module, half: &str) -> (String, Vec<i64>) {
    let (name, [rows, columns]) = module.place(config);
    let rank = config.lora.as_ref().map_or(0, |lora| lora.rank);
    let shape = if half == "A" { vec![rank, columns] } else { vec![rows, rank] };
    (format!("{PREFIX}model.layers.{layer}.{name}.lora_{half}.weight"), shape)
}

/// What is added to one fused projection.
pub struct Adapted {
    /// Of each member: its rows, and where its A and B are among the weights.
    members: Vec<(i64, Option<[usize; 2]>)>,
    scale: f64,
}

/// By the place of the fused weight among the weights.
pub fn adapted(config: &Config) -> BTreeMap<usize, Adapted> {
    let Some(lora) = &config.lora else { return BTreeMap::new() };
    let parts = weights::parts(config);
    let first = parts.len() - self::parts(config).len();
    let place = |layer: usize, module: Module| {
        let own = lora.modules.iter().position(|one| *one == module)?;
        let a = first + 2 * (layer * lora.modules.len() + own);
        Some([a, a + 1])
    };
    let of = |(weight, part): (usize, &Part)| {
        let (layer, modules) = Module::of(*part)?;
        let member = |module: &Module| (module.place(config).1[0], place(layer, *module));
        let members: Vec<_> = modules.iter().map(member).collect();
        let any = members.iter().any(|(_, adapters)| adapters.is_some());
        any.then(|| (weight, Adapted { members, scale: lora.scale() }))
    };
    parts.iter().enumerate().filter_map(of).collect()
}

impl Adapted {
    /// (…, in) -> (…, out), in the input's dtype.
    pub fn of(&self, weights: &[Tensor], input: &Tensor) -> Tensor {
        let wide = input.to_kind(Kind::Float);
        let added = |(rows, adapters): &(i64, Option<[usize; 2]>)| match adapters {
            Some([a, b]) => wide.linear(&weights[*a], None::<&Tensor>).linear(&weights[*b], None::<&Tensor>),
            None => {
                let mut size = wide.size();
                size.pop();
                size.push(*rows);
                Tensor::zeros(size, (Kind::Float, wide.device()))
            }
        };
        let added: Vec<Tensor> = self.members.iter().map(added).collect();
        (Tensor::cat(&added, -1) * self.scale).to_kind(input.kind())
    }

    /// The fused weight with its adapters in it, f32; `product` multiplies two matrices.
    pub fn merged(
        &self,
        weight: &Tensor,
        weights: &dyn Fn(usize) -> Tensor,
        product: fn(&Tensor, &Tensor) -> Tensor,
    ) -> Tensor {
        let delta = |(rows, adapters): &(i64, Option<[usize; 2]>)| match adapters {
            Some([a, b]) => product(&weights(*b), &weights(*a)),
            None => Tensor::zeros([*rows, weight.size()[1]], (Kind::Float, weight.device())),
        };
        let delta: Vec<Tensor> = self.members.iter().map(delta).collect();
        weight + Tensor::cat(&delta, 0).to_device(weight.device()) * self.scale
    }
}

/// B A, by libtorch's own product: its last bits depend on the machine.
pub fn fast(b: &Tensor, a: &Tensor) -> Tensor {
    b.mm(a)
}

/// B A with the same bits on every machine: each step multiplies and adds element by element. `model.import` is `exact`.
pub fn exact(b: &Tensor, a: &Tensor) -> Tensor {
    let whole = Tensor::zeros([b.size()[0], a.size()[1]], (Kind::Float, b.device()));
    let outer = |rank: i64| b.narrow(1, rank, 1) * a.narrow(0, rank, 1);
    (0..a.size()[0]).fold(whole, |whole, rank| whole + outer(rank))
}

/// Fresh adapters, in the order of their parts.
pub fn drawn(config: &Config, seed: u64) -> Vec<Tensor> {
    let draw = |(number, part): (u64, Part)| {
        let shape = part.sources(config).remove(0).1;
        match part {
            Part::LoraA(..) => init::kaiming(seed, number, &shape),
            _ => Tensor::zeros(shape.as_slice(), (Kind::Float, tch::Device::Cpu)),
        }
    };
    (0..).zip(parts(config)).map(draw).collect()
}

/// Writes what was learnt as a folder that PEFT opens; `weights` are in the order of the model's parts.
pub fn write(folder: &Path, config: &Config, weights: &dyn Fn(usize) -> Tensor) -> Result<(), StageError> {
    let Some(lora) = &config.lora else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| StageError::file("create", folder, &error))?;
    let mut named = BTreeMap::new();
    for (place, part) in weights::parts(config).into_iter().enumerate() {
        let name = match part {
            Part::LoraA(..) | Part::LoraB(..) => part.sources(config).remove(0).0,
            Part::Score => format!("{PREFIX}score.weight"),
            _ => continue,
        };
        named.insert(name, Written::of(&part.split(config, &weights(place))[0]));
    }
    weights::write(&folder.join("adapter_model.safetensors"), &named)?;
    jsonl::write_json(&folder.join("adapter_config.json"), &lora.document(config))
}

/// What PEFT puts before the names of the model it adapts.
pub const PREFIX: &str = "base_model.model.";

/// Merges a PEFT adapter into the weights of a model folder, which is written anew in one file.
pub fn merge(folder: &Path, adapter: &Path) -> Result<(), StageError> {
    let base = Config::read(folder)?;
    let config = base.with_lora(Lora::read(&adapter.join("adapter_config.json"))?);
    let (files, own) = (Files::open(folder)?, Files::of(&adapter.join("adapter_model.safetensors"))?);
    let parts = weights::parts(&config);
    let first = parts.len() - self::parts(&config).len();
    let adapters = parts[first..].iter().map(|part| own.part(&config, *part)).collect::<Result<Vec<_>, _>>()?;
    let adapted = adapted(&config);
    let merged = parts[..first].iter().enumerate().map(|(place, part)| {
        let weight = files.part(&base, *part)?;
        let held = |place: usize| adapters[place - first].shallow_clone();
        Ok(adapted.get(&place).map_or_else(|| weight.shallow_clone(), |adapted| adapted.merged(&weight, &held, exact)))
    });
    let merged = merged.collect::<Result<Vec<Tensor>, StageError>>()?;
    // Copies of inputs may be read-only: they are replaced.
    let names: Vec<String> = files.names().chain(["config.json".to_string()]).collect();
    drop(files);
    for name in names {
        let old = folder.join(&name);
        std::fs::remove_file(&old).map_err(|error| StageError::file("remove", &old, &error))?;
    }
    base.write(folder)?;
    weights::write(&folder.join("model.safetensors"), &weights::to_hf(&base, &merged))
}
