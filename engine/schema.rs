//! The JSON Schema (draft 7, which editors read) of pipeline files: completion and a first check while one types. What
//! it cannot say (names that must exist, circles, what an axis's value types to) `plumb plan` tells.

use serde_json::{Map, Value as Json, json};

use crate::stage::{Declaration, InputSpec, Kind, Registry};

/// The schema as text.
pub fn text(registry: &Registry) -> String {
    let mut text = serde_json::to_string_pretty(&pipeline(registry)).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of a pipeline file whose stages use these kinds.
pub fn pipeline(registry: &Registry) -> Json {
    let mut definitions = parts();
    for kind in registry.kinds() {
        add_kind(&**kind, &mut definitions);
    }
    definitions.insert("stage".into(), stage(registry));
    let named = |what: &str| {
        json!({
            "type": "object", "propertyNames": { "pattern": "^[a-z0-9-]+$" }, "additionalProperties": reference(what),
        })
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "plumb pipeline",
        "type": "object",
        "required": ["schema"],
        "additionalProperties": false,
        "properties": {
            "schema": { "const": 1, "description": "Version of this format." },
            "pipeline": reference("pipeline"),
            "params": reference("params"),
            "axes": named("axis"),
            "plan": { "type": "array", "items": reference("plan"),
                "description": "Which combinations of the axes; several plans are united. Without one it is one-off." },
            "source": named("source"),
            "stage": named("stage"),
            "profile": named("profile"),
        },
        "definitions": definitions,
    })
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// The parts that no kind has a say in.
fn parts() -> Map<String, Json> {
    let whole = |least: u64| json!({ "anyOf": [{ "type": "integer", "minimum": least }, reference("param")] });
    let text = || json!({ "anyOf": [{ "type": "string" }, reference("param")] });
    let amount = || json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }, reference("param")] });
    let one_or_list = json!({ "anyOf": [reference("scalar"), { "type": "array", "items": reference("scalar") }] });
    let variable = "^[A-Za-z_][A-Za-z0-9_]*$";
    let combination = json!({ "type": "object", "minProperties": 1, "additionalProperties": one_or_list });
    let parts = json!({
        "scalar": { "type": ["string", "number", "boolean"] },
        "param": { "type": "object", "required": ["param"], "additionalProperties": false,
            "properties": { "param": { "type": "string", "description": "A parameter of `[params]`." } } },
        "given": { "description": "A value that a parameter or an axis gives.",
            "anyOf": [reference("param"), { "type": "object", "required": ["axis"], "additionalProperties": false,
                "properties": { "axis": { "type": "string", "description": "An axis, or `AXIS.FIELD` of its branches." } } }] },
        "pipeline": { "type": "object", "additionalProperties": false, "properties": {
            "name": { "type": "string", "pattern": "^[a-z0-9-]+$" },
            "goal": { "type": "array", "items": { "type": "string" },
                "description": "Stages or branch addresses that `plumb run` builds when told nothing else." },
            "publish": { "type": "object", "additionalProperties": { "type": "string" },
                "description": "Where results are copied: \"FILE\" = \"STAGE.OUTPUT\"." } } },
        "params": { "type": "object", "propertyNames": { "pattern": "^[a-z0-9_]+$" },
            "description": "Scalars and lists that `--set NAME=VALUE` overrides.",
            "additionalProperties": { "type": ["string", "number", "boolean", "array"] } },
        "axis": { "description": "What varies; the first value is the baseline.", "anyOf": [
            { "type": "array", "minItems": 1, "items": { "anyOf": [
                reference("scalar"),
                { "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string", "pattern": "^[a-z0-9-]+$" } } } ] } },
            reference("replicates") ] },
        "replicates": { "type": "object", "required": ["replicate"], "additionalProperties": false,
            "dependencies": { "until": ["max"], "max": ["until"] },
            "properties": {
                "replicate": { "type": "integer", "minimum": 1, "maximum": 1000,
                    "description": "How many; always crossed, never an ablation by itself." },
                "first": { "type": "integer", "minimum": 0, "description": "The first one's number." },
                "until": { "type": "string", "pattern": "^\\s*width\\s*\\(.+\\)\\s*<\\s*[0-9.eE+-]+\\s*$",
                    "description": "Add replicates until this holds, as `width(STAGE.METRIC) < 0.02`." },
                "max": { "type": "integer", "minimum": 3, "description": "Replicates at most." } } },
        "plan": { "type": "object", "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "pattern": "^[a-z0-9-]+$" },
                "mode": { "enum": ["one-off", "cross", "list"],
                    "description": "One change at a time from the baseline; every combination; or those in `runs`." },
                "over": { "type": "object", "additionalProperties": one_or_list,
                    "description": "The axes that vary and their values; `\"*\"` for all." },
                "runs": { "type": "array", "items": { "type": "object", "additionalProperties": reference("scalar") },
                    "description": "The combinations of mode `list`." },
                "skip": { "anyOf": [combination, { "type": "array", "items": combination }],
                    "description": "What is left out: the combinations that have all of a table's values." } },
            "if": { "properties": { "mode": { "const": "list" } }, "required": ["mode"] },
            "then": { "required": ["runs"] } },
        "source": { "type": "object", "additionalProperties": false,
            "oneOf": [{ "required": ["path"] }, { "required": ["glob"] }, { "required": ["url"] }, { "required": ["store"] }],
            "properties": {
                "path": text(), "glob": text(), "url": text(), "store": text(),
                "include": { "type": "array", "items": { "type": "string" } },
                "sha256": { "type": "string" }, "secret": { "type": "string" } } },
        "profile": { "type": "object", "additionalProperties": false, "properties": {
            "params": reference("params"),
            "axes": { "type": "object", "additionalProperties": reference("axis") } } },
        "run": { "type": "object", "description": "How it runs; never in a key.", "additionalProperties": false,
            "properties": {
                "cpu": whole(1), "threads": whole(1), "gpu": { "anyOf": [whole(0), { "const": "auto" }] },
                "gpu_share": whole(1), "mem": amount(), "disk": amount(), "time": text(),
                "device": { "anyOf": [{ "type": "string", "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$" }, reference("param")] },
                "retry": { "type": "object", "additionalProperties": false, "properties": {
                    "max": whole(0), "backoff": text(),
                    "on": { "type": "array", "items": { "enum": ["oom", "preempted", "timeout", "failed"] } } } },
                "secrets": { "type": "array", "items": { "anyOf": [{ "type": "string", "pattern": variable },
                    { "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
                        "name": { "type": "string", "pattern": variable }, "file": { "type": "string" } } }] } },
                "sandbox": { "anyOf": [{ "type": "boolean" },
                    { "type": "object", "additionalProperties": false, "properties": {
                        "mount": { "type": "array", "items": { "type": "string", "pattern": "^(~?/)" } } } }] },
                "endpoint": { "type": "object", "required": ["url"], "additionalProperties": false, "properties": {
                    "url": { "anyOf": [{ "type": "string", "pattern": "^https?://" }, reference("param")] },
                    "api_key": { "type": "string", "pattern": variable },
                    "concurrency": whole(1), "timeout": text(), "max_retries": whole(0),
                    "prompt_price": { "type": "number", "minimum": 0 },
                    "completion_price": { "type": "number", "minimum": 0 } } },
                "max_requests": whole(0), "max_cost": { "type": "number", "minimum": 0 } } },
        "one": { "description": "`STAGE.OUTPUT`, `source.NAME`, or a graft.", "anyOf": [
            { "type": "string", "pattern": "^[^./]+\\.[^./]+(/.+)?$" },
            { "type": "object", "required": ["from"], "additionalProperties": false, "properties": {
                "from": { "type": "string" },
                "at": { "type": "object", "additionalProperties": reference("scalar"),
                    "description": "Axes that are pinned for this input." } } } ] },
        "gather": { "type": "object", "required": ["all", "over"], "additionalProperties": false,
            "description": "A table of branches.",
            "properties": {
                "all": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
                "over": { "type": "array", "items": { "type": "string" }, "description": "The axes that become rows." },
                "missing": { "enum": ["mark", "fail"] },
                "plan": { "type": "string", "description": "Only the branches of this plan." } } },
    });
    match parts {
        Json::Object(parts) => parts,
        _ => Map::new(),
    }
}

/// A stage: its `uses` says which kind's parameters, inputs and outputs it may have. Editors complete from `anyOf`,
/// whose last entry lets everything pass, so that a mistake is told by the kind's own branch and at its place.
fn stage(registry: &Registry) -> Json {
    let names: Vec<String> = registry.kinds().map(|kind| kind.declaration().kind.replace('.', "\\.")).collect();
    let mut hints: Vec<Json> = registry.kinds().map(|kind| reference(&kind_name(kind.declaration()))).collect();
    hints.push(json!({}));
    let mut chosen = json!(true);
    for kind in registry.kinds() {
        let name = kind.declaration().kind.replace('.', "\\.");
        chosen = json!({
            "if": { "properties": { "uses": { "pattern": format!("^{name}(@[0-9]+)?$") } }, "required": ["uses"] },
            "then": reference(&kind_name(kind.declaration())),
            "else": chosen,
        });
    }
    let mut stage = json!({
        "type": "object",
        "required": ["uses"],
        "additionalProperties": false,
        "properties": {
            "uses": { "type": "string", "pattern": format!("^({})(@[0-9]+)?$", names.join("|")),
                "description": "The kind, as `data.pairs`, or `data.pairs@2` to insist on a behaviour version." },
            "inputs": { "type": "object" },
            "with": { "type": "object", "description": "What it means: in the key." },
            "outputs": { "type": ["object", "array"] },
            "salt": { "type": "string", "description": "Another text disowns the earlier results." },
            "run": reference("run"),
        },
        "anyOf": hints,
    });
    for part in ["if", "then", "else"] {
        stage[part] = chosen[part].clone();
    }
    stage
}

fn kind_name(declaration: &Declaration) -> String {
    format!("kind.{}", declaration.kind)
}

fn add_kind(kind: &dyn Kind, definitions: &mut Map<String, Json>) {
    let declaration = kind.declaration();
    let name = kind_name(declaration);
    let mut with = kind.schema().to_value();
    if let Some(Json::Object(inner)) = with.as_object_mut().and_then(|with| with.remove("$defs")) {
        for (inner_name, mut inner) in inner {
            admit(&mut inner, &name);
            definitions.insert(format!("{name}.{inner_name}"), inner);
        }
    }
    admit(&mut with, &name);
    if declaration.open {
        admit_words(&mut with);
    }
    let needs_with = with.get("required").and_then(Json::as_array).is_some_and(|required| !required.is_empty());
    let needs_inputs = !declaration.open && declaration.inputs.iter().any(|input| input.required);
    let mut required = vec!["uses"];
    required.extend(needs_with.then_some("with"));
    required.extend(needs_inputs.then_some("inputs"));
    required.extend(declaration.open.then_some("outputs"));
    let stage = json!({
        "required": required,
        "properties": { "inputs": inputs(declaration), "with": with, "outputs": outputs(declaration) },
    });
    definitions.insert(name, stage);
}

fn inputs(declaration: &Declaration) -> Json {
    if declaration.open {
        let any = json!({ "anyOf": [reference("one"), reference("gather")] });
        return json!({ "type": "object", "propertyNames": { "pattern": "^[a-z0-9_]+$" }, "additionalProperties": any });
    }
    let one = |spec: &InputSpec| {
        let form = reference(if spec.gathers { "gather" } else { "one" });
        (spec.name.to_string(), json!({ "allOf": [form], "description": spec.about }))
    };
    let required: Vec<&str> = declaration.inputs.iter().filter(|spec| spec.required).map(|spec| spec.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": declaration.inputs.iter().map(one).collect::<Map<_, _>>(),
    })
}

fn outputs(declaration: &Declaration) -> Json {
    if !declaration.open {
        return json!(false);
    }
    json!({
        "description": "NAME = \"FILE\", or a list of files that are their own names.",
        "anyOf": [
            { "type": "object", "minProperties": 1, "additionalProperties": { "type": "string" } },
            { "type": "array", "minItems": 1, "items": { "type": "string" } },
        ],
    })
}

/// Rewrites a schema of parameters in place: inner references point to this document, and every value may also be given
/// by a parameter or an axis.
fn admit(schema: &mut Json, kind: &str) {
    match schema {
        Json::Array(all) => all.iter_mut().for_each(|one| admit(one, kind)),
        Json::Object(fields) => {
            fields.remove("$schema");
            fields.remove("title");
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), field) {
                    ("$ref", Json::String(path)) => *path = path.replace("#/$defs/", &format!("#/definitions/{kind}.")),
                    ("properties", Json::Object(properties)) => {
                        properties.values_mut().for_each(|one| admit_given(one, kind));
                    }
                    ("items" | "additionalProperties", one @ Json::Object(_)) => admit_given(one, kind),
                    ("default" | "const" | "enum" | "required", _) => {}
                    (_, field) => admit(field, kind),
                }
            }
        }
        _ => {}
    }
}

fn admit_given(schema: &mut Json, kind: &str) {
    admit(schema, kind);
    // A tag that says which table this is must be there to be read.
    if schema.get("const").is_some() {
        return;
    }
    let description = schema.as_object_mut().and_then(|fields| fields.remove("description"));
    let default = schema.get("default").cloned();
    let inner = schema.take();
    *schema = json!({ "anyOf": [inner, reference("given")] });
    for (name, value) in [("description", description), ("default", default)] {
        if let Some(value) = value {
            schema[name] = value;
        }
    }
}

/// A program's words may be numbers and truths, passed as written.
fn admit_words(with: &mut Json) {
    let word = || json!({ "anyOf": [reference("scalar"), reference("given")] });
    if let Some(argv) = with.pointer_mut("/properties/argv/anyOf/0") {
        argv["items"] = word();
    }
    if let Some(env) = with.pointer_mut("/properties/env/anyOf/0") {
        env["additionalProperties"] = word();
    }
}
