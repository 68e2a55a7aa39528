//! Numbers as people read them: durations, sizes, counts, rates, metric values. Text only; knows no terminal.

use std::time::Duration;

/// `3 ms`, `4.2 s`, `2 min 05 s`, `3 h 07 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// The same for seconds; what is no time is nothing.
pub fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `812 B`, `3.4 KiB`, `1.2 GiB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Bytes as people write them: `500MB`, `2GiB`, `1.5T`, `4096`. A unit without `i` counts in thousands.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let lower = unit.to_lowercase();
    let prefix = lower.trim_end_matches('b');
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == prefix.trim_end_matches('i'));
    let base: f64 = if prefix.ends_with('i') { 1024.0 } else { 1000.0 };
    let bytes = number.zip(power).map(|(number, power)| number * base.powi(power as i32));
    let bytes = bytes.filter(|bytes| *bytes >= 0.0 && *bytes < 1e19);
    bytes.map(|bytes| bytes as u64).ok_or_else(|| format!("`{text}` is no size, as `500MB` or `2GiB` are"))
}

/// A span of time as people write it: `90s`, `30m`, `36h`, `14d`, `2w`.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let seconds = match unit {
        "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        "d" => Some(86_400.0),
        "w" => Some(604_800.0),
        _ => None,
    };
    let span = number.zip(seconds).and_then(|(number, unit)| Duration::try_from_secs_f64(number * unit).ok());
    span.ok_or_else(|| format!("`{text}` is no age, as `36h` or `14d` are"))
}

fn split_number(text: &str) -> (Option<f64>, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    (text[..end].parse().ok(), text[end..].trim())
}

/// How long ago, in its largest unit: `12 s`, `5 min`, `3 h`, `40 d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// `1 step`, `2 steps`.
pub fn plural(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

/// Things per second with three significant digits: `0.42/s`, `12.3/s`, `1,204/s`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        slow if slow < 10.0 => format!("{slow:.2}/s"),
        middle if middle < 100.0 => format!("{middle:.1}/s"),
        fast => format!("{}/s", count(fast.round() as u64)),
    }
}

/// A metric in as few characters as tell it: whole numbers whole, others with four significant digits.
pub fn metric(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    match value.abs() {
        tiny if tiny < 1e-3 => format!("{value:.2e}"),
        small if small < 10.0 => format!("{value:.4}"),
        middle if middle < 1000.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_grow_a_unit_at_the_right_place() {
        let told = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        let cases = [0.0, 0.0034, 0.9994, 0.9996, 59.94, 59.96, 125.0, 3599.4, 3600.0, 11_220.0];
        let all: Vec<String> = cases.into_iter().map(told).collect();
        assert_eq!(
            all,
            [
                "0 ms",
                "3 ms",
                "999 ms",
                "1.0 s",
                "59.9 s",
                "1 min 00 s",
                "2 min 05 s",
                "59 min 59 s",
                "1 h 00 min",
                "3 h 07 min"
            ]
        );
    }

    #[test]
    fn sizes_are_binary_and_never_read_1024() {
        let all: Vec<String> = [0, 1023, 1024, 1_048_575, 1 << 40].into_iter().map(size).collect();
        assert_eq!(all, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 TiB"]);
    }

    #[test]
    fn sizes_and_ages_are_read_as_people_write_them() {
        let sizes = ["4096", "500MB", "2GiB", "1.5 k", "1Ti", "0"].map(|text| parse_size(text).unwrap());
        assert_eq!(sizes, [4096, 500_000_000, 2 << 30, 1500, 1 << 40, 0]);
        let ages = ["90s", "30m", "36h", "14d", "2w"].map(|text| parse_age(text).unwrap().as_secs());
        assert_eq!(ages, [90, 1800, 129_600, 1_209_600, 1_209_600]);
        for wrong in ["", "GB", "-5", "1x", "1e99"] {
            assert!(parse_size(wrong).is_err() && parse_age(wrong).is_err(), "{wrong}");
        }
        assert_eq!([age(0), age(59), age(61), age(7200), age(864_000)], ["0 s", "59 s", "1 min", "2 h", "10 d"]);
    }

    #[test]
    fn counts_have_commas_and_nouns_their_plural() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([plural(1, "step"), plural(1200, "step")], ["1 step", "1,200 steps"]);
    }

    #[test]
    fn metrics_and_rates_keep_few_digits() {
        let metrics: Vec<String> = [3.0, 0.0, -0.83125, 12.345, 1234.56, 0.000_012].into_iter().map(metric).collect();
        assert_eq!(metrics, ["3", "0", "-0.8313", "12.35", "1234.6", "1.20e-5"]);
        assert_eq!([rate(0.421), rate(12.34), rate(1204.4)], ["0.42/s", "12.3/s", "1,204/s"]);
    }
}
