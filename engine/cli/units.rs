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
