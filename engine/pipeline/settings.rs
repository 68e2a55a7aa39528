//! Reads the `run` table of a stage. Manner only: nothing here enters a key.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::asking;
use super::table::{self, Complaints, Fields, Item, Text};
use crate::diagnostic::Diagnostic;
use crate::settings::{Gpus, RetryCause, RunSettings, Sandbox, Secret, SecretPlace};

const CAUSES: [(&str, RetryCause); 4] = [
    ("oom", RetryCause::Oom),
    ("preempted", RetryCause::Preempted),
    ("timeout", RetryCause::Timeout),
    ("failed", RetryCause::Failed),
];

/// Reads `run = { … }`. Threads follow `cpu` unless they are given, GPUs follow `device`.
pub fn read(item: Item<'_>, complaints: &mut Complaints) -> RunSettings {
    let Some(mut fields) = Fields::of(item, "`run`", complaints) else { return RunSettings::default() };
    let settings = take(&mut fields, complaints);
    fields.finish("run", complaints);
    settings
}

fn take(fields: &mut Fields<'_>, complaints: &mut Complaints) -> RunSettings {
    let mut settings = RunSettings::default();
    if let Some(cpu) = count(fields, "cpu", 1, complaints) {
        settings.cpu = cpu;
        settings.manner.threads = cpu;
    }
    if let Some(threads) = count(fields, "threads", 1, complaints) {
        settings.manner.threads = threads;
    }
    if let Some(name) = fields.text("device", complaints) {
        settings.manner.device = device(&name, complaints);
        settings.gpu = gpus_of(&settings.manner.device);
    }
    if let Some(item) = fields.take("gpu") {
        settings.gpu = gpus(&item, complaints).unwrap_or(settings.gpu);
    }
    settings.gpu_share = count(fields, "gpu_share", 1, complaints).unwrap_or(settings.gpu_share);
    settings.mem = fields.take("mem").and_then(|item| amount(&item, "mem", complaints));
    settings.disk = fields.take("disk").and_then(|item| amount(&item, "disk", complaints));
    settings.time = fields.text("time", complaints).and_then(|text| time(&text, complaints));
    if let Some(item) = fields.take("retry") {
        retry(item, &mut settings, complaints);
    }
    if let Some(items) = fields.take("secrets").and_then(|item| table::list(item, "`secrets`", complaints)) {
        settings.secrets = items.into_iter().filter_map(|item| secret(item, complaints)).collect();
    }
    settings.sandbox = fields.take("sandbox").and_then(|item| sandbox(item, complaints));
    settings.asking = asking::take(fields, complaints);
    settings
}

pub fn count(fields: &mut Fields<'_>, name: &'static str, least: u64, complaints: &mut Complaints) -> Option<usize> {
    let item = fields.take(name)?;
    table::whole(&item, &format!("`{name}`"), least..100_001, complaints).and_then(|count| usize::try_from(count).ok())
}

fn gpus(item: &Item<'_>, complaints: &mut Complaints) -> Option<Gpus> {
    match item.get_ref() {
        DeValue::Integer(_) => {
            let count = table::whole(item, "`gpu`", 0..100_001, complaints)?;
            usize::try_from(count).ok().map(Gpus::Exactly)
        }
        DeValue::String(text) if text == "auto" => Some(Gpus::IfAny),
        _ => {
            let hint = "write how many, or \"auto\" for one where there is one".to_string();
            complaints.add(Diagnostic::at(item.span(), "`gpu` is no number of GPUs").hint(hint));
            None
        }
    }
}

/// What a device needs, where `gpu` does not say: `cuda:1` is the second of the step's own GPUs.
fn gpus_of(device: &str) -> Gpus {
    let numbered = device.strip_prefix("cuda:").and_then(|number| number.parse::<u16>().ok());
    Gpus::Exactly(numbered.map_or(usize::from(device == "cuda"), |number| usize::from(number) + 1))
}

fn retry(item: Item<'_>, settings: &mut RunSettings, complaints: &mut Complaints) {
    let Some(mut fields) = Fields::of(item, "`retry`", complaints) else { return };
    let most = fields.take("max").and_then(|item| table::whole(&item, "`max`", 0..101, complaints)).unwrap_or(1);
    settings.retries = u32::try_from(most).unwrap_or(1);
    let causes = fields.take("on").map(|item| table::texts(item, "`on`", complaints));
    settings.retry_on = match causes {
        Some(causes) => causes.iter().filter_map(|name| cause(name, complaints)).collect(),
        None => CAUSES.iter().map(|(_, cause)| *cause).collect(),
    };
    if let Some(backoff) = fields.text("backoff", complaints).and_then(|text| time(&text, complaints)) {
        settings.backoff = backoff;
    }
    fields.finish("retry", complaints);
}

/// `"NAME"`, or `{ name = "NAME", file = "PATH" }`.
fn secret(item: Item<'_>, complaints: &mut Complaints) -> Option<Secret> {
    if let DeValue::String(_) = item.get_ref() {
        let name = table::text(item, "a secret", complaints)?;
        return Some(Secret { name: variable(&name, complaints)?, from: SecretPlace::Environment });
    }
    let mut fields = Fields::of(item, "a secret", complaints)?;
    let span = fields.span.clone();
    let (name, file) = (fields.text("name", complaints), fields.text("file", complaints));
    fields.finish("secret", complaints);
    let Some(name) = name else {
        let hint = "write \"NAME\", or { name = \"NAME\", file = \"PATH\" }".to_string();
        complaints.add(Diagnostic::at(span, "a secret does not say its `name`").hint(hint));
        return None;
    };
    let from = file.map_or(SecretPlace::Environment, |file| SecretPlace::File(PathBuf::from(file.get_ref().as_ref())));
    Some(Secret { name: variable(&name, complaints)?, from })
}

pub fn variable(name: &Text<'_>, complaints: &mut Complaints) -> Option<String> {
    let text = name.get_ref().as_ref();
    let starts_well = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if starts_well && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Some(text.to_string());
    }
    let hint = "letters, digits and `_`, as `OPENAI_API_KEY`; never the secret itself".to_string();
    complaints.add(Diagnostic::at(name.span(), "this is no name of an environment variable").hint(hint));
    None
}

/// `true`, or `{ mount = ["/opt/conda"] }`.
fn sandbox(item: Item<'_>, complaints: &mut Complaints) -> Option<Sandbox> {
    if let DeValue::Boolean(on) = item.get_ref() {
        return on.then(Sandbox::default);
    }
    let mut fields = Fields::of(item, "`sandbox`", complaints)?;
    let mounts = fields.take("mount").map(|item| table::texts(item, "`mount`", complaints)).unwrap_or_default();
    fields.finish("sandbox", complaints);
    let mut sandbox = Sandbox::default();
    for path in mounts {
        if path.get_ref().starts_with('/') || path.get_ref().starts_with("~/") {
            sandbox.mount.push(PathBuf::from(path.get_ref().as_ref()));
        } else {
            complaints.error(path.span(), format!("`{}` is no absolute path", path.get_ref()));
        }
    }
    Some(sandbox)
}

fn cause(name: &Text<'_>, complaints: &mut Complaints) -> Option<RetryCause> {
    let found = CAUSES.iter().find(|(known, _)| known == name.get_ref()).map(|(_, cause)| *cause);
    if found.is_none() {
        complaints.unknown(name.span(), "retry cause", name.get_ref(), CAUSES.iter().map(|(known, _)| *known));
    }
    found
}

fn device(name: &Text<'_>, complaints: &mut Complaints) -> String {
    let device = name.get_ref().as_ref();
    let numbered = device.strip_prefix("cuda:").is_some_and(|number| number.parse::<u16>().is_ok());
    if !numbered && !["auto", "cpu", "cuda"].contains(&device) {
        complaints.unknown(name.span(), "device", device, ["auto", "cpu", "cuda:0"]);
    }
    device.to_string()
}

/// Bytes: a whole number, or text with a unit.
fn amount(item: &Item<'_>, name: &str, complaints: &mut Complaints) -> Option<u64> {
    if let DeValue::Integer(_) = item.get_ref() {
        return table::whole(item, &format!("`{name}`"), 1..u64::MAX, complaints);
    }
    let bytes = item.get_ref().as_str().and_then(bytes);
    if bytes.is_none() {
        let hint = "write bytes, or text with a unit: \"64GiB\", \"500MB\"".to_string();
        let what = if name == "mem" { "memory" } else { "space" };
        complaints.add(Diagnostic::at(item.span(), format!("`{name}` is no amount of {what}")).hint(hint));
    }
    bytes
}

/// Bytes as text with an optional unit.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit: u64 = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// `6h`, `90m`, `1h30m`, `45s`, `2d`.
pub fn time(text: &Text<'_>, complaints: &mut Complaints) -> Option<Duration> {
    let seconds = seconds(text.get_ref());
    if seconds.is_none() {
        let hint = "write \"6h\", \"90m\", \"1h30m\" or \"45s\"".to_string();
        complaints.add(Diagnostic::at(text.span(), format!("`{}` is no time", text.get_ref())).hint(hint));
    }
    seconds.map(Duration::from_secs)
}

fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let unit = match rest.as_bytes()[digits] {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(rest[..digits].parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn amounts_of_memory_and_time_are_read_with_their_units() {
        assert_eq!(bytes("64GiB"), Some(64 << 30));
        assert_eq!(bytes("500 MB"), Some(500_000_000));
        assert_eq!(bytes("12"), Some(12));
        assert_eq!([bytes("GiB"), bytes("-1GiB"), bytes("1.5GiB"), bytes("99999999999TiB"), bytes("1é")], [None; 5]);
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("2d"), Some(172_800));
        assert_eq!([seconds(""), seconds("h"), seconds("10"), seconds("0s"), seconds("5é")], [None; 5]);
    }

    fn table(text: &str) -> Item<'_> {
        let table = toml::de::DeTable::parse(text).unwrap();
        toml::Spanned::new(table.span(), DeValue::Table(table.into_inner()))
    }

    #[test]
    fn the_keys_that_are_read_are_those_that_are_documented() {
        let mut complaints = Complaints::default();
        let mut fields = Fields::of(table(""), "`run`", &mut complaints).unwrap();
        take(&mut fields, &mut complaints);
        assert_eq!(BTreeSet::from_iter(fields.taken), crate::settings::KEYS.iter().map(|key| key.name).collect());
    }

    #[test]
    fn every_key_of_the_schema_is_read() {
        let registry = crate::pipeline::fake_kinds::registry();
        let schema = crate::schema::pipeline(&registry);
        let run = &schema["definitions"]["run"]["properties"];
        let names = |of: &serde_json::Value| -> BTreeSet<String> { of.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(names(run), crate::settings::KEYS.iter().map(|key| key.name.to_string()).collect());
        let tables = [
            ("retry = { KEY = 1 }", &run["retry"]["properties"]),
            ("secrets = [{ KEY = 1 }]", &run["secrets"]["items"]["anyOf"][1]["properties"]),
            ("sandbox = { KEY = 1 }", &run["sandbox"]["anyOf"][1]["properties"]),
            ("endpoint = { KEY = 1 }", &run["endpoint"]["properties"]),
        ];
        for (text, properties) in tables {
            for name in names(properties).into_iter().chain(["unknown".to_string()]) {
                let mut complaints = Complaints::default();
                read(table(&text.replace("KEY", &name)), &mut complaints);
                let told = format!("{:?}", complaints.all);
                assert_eq!(told.contains(&format!("key `{name}`")), name == "unknown", "{text} {name}: {told}");
            }
        }
    }
}
