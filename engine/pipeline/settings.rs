//! Reads the `run` table of a stage. Manner only: nothing here enters a key.

use std::time::Duration;

use toml::de::DeValue;

use super::table::{self, Complaints, Fields, Item, Text};
use crate::diagnostic::Diagnostic;
use crate::settings::{RetryCause, RunSettings};

const CAUSES: [(&str, RetryCause); 4] = [
    ("oom", RetryCause::Oom),
    ("preempted", RetryCause::Preempted),
    ("timeout", RetryCause::Timeout),
    ("failed", RetryCause::Failed),
];

/// Reads `run = { … }`. Threads follow `cpu` unless they are given.
pub fn read(item: Item<'_>, complaints: &mut Complaints) -> RunSettings {
    let mut settings = RunSettings::default();
    let Some(mut fields) = Fields::of(item, "`run`", complaints) else { return settings };
    if let Some(cpu) = count(&mut fields, "cpu", 1, complaints) {
        settings.cpu = cpu;
        settings.manner.threads = cpu;
    }
    if let Some(threads) = count(&mut fields, "threads", 1, complaints) {
        settings.manner.threads = threads;
    }
    settings.gpu = count(&mut fields, "gpu", 0, complaints).unwrap_or(settings.gpu);
    settings.mem = fields.take("mem").and_then(|item| memory(&item, complaints));
    settings.time = fields.text("time", complaints).and_then(|text| time(&text, complaints));
    if let Some(name) = fields.text("device", complaints) {
        settings.manner.device = device(&name, complaints);
    }
    if let Some(item) = fields.take("retry") {
        retry(item, &mut settings, complaints);
    }
    fields.finish("run", complaints);
    settings
}

fn count(fields: &mut Fields<'_>, name: &'static str, least: u64, complaints: &mut Complaints) -> Option<usize> {
    let item = fields.take(name)?;
    table::whole(&item, &format!("`{name}`"), least..100_001, complaints).and_then(|count| usize::try_from(count).ok())
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
    fields.finish("retry", complaints);
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
fn memory(item: &Item<'_>, complaints: &mut Complaints) -> Option<u64> {
    if let DeValue::Integer(_) = item.get_ref() {
        return table::whole(item, "`mem`", 1..u64::MAX, complaints);
    }
    let bytes = item.get_ref().as_str().and_then(bytes);
    if bytes.is_none() {
        let hint = "write bytes, or text with a unit: \"64GiB\", \"500MB\"".to_string();
        complaints.add(Diagnostic::at(item.span(), "`mem` is no amount of memory").hint(hint));
    }
    bytes
}

fn bytes(text: &str) -> Option<u64> {
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
fn time(text: &Text<'_>, complaints: &mut Complaints) -> Option<Duration> {
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
}
