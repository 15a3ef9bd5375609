//! Spans of time as people write them: `2s`, `500ms`, `1.5s`, `3m`.

/// Units with their milliseconds; longer ones first where one ends like another.
const UNITS: [(&str, f64); 5] = [
    ("ms", 1.0),
    ("s", 1_000.0),
    ("min", 60_000.0),
    ("m", 60_000.0),
    ("h", 3_600_000.0),
];
/// A year: longer ones are typing mistakes.
const MILLIS_MAX: f64 = 366.0 * 24.0 * 3_600_000.0;

/// Milliseconds; a number without a unit is in seconds. Less than a millisecond is rounded up.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)))
        .unwrap_or((&text, 1_000.0));
    let number = number.trim();
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    if number.is_empty() || !number.chars().all(plain) {
        return None;
    }
    let millis = (number.parse::<f64>().ok()? * unit).ceil();
    // In range, so nothing is cut off.
    (millis <= MILLIS_MAX).then_some(millis as i64)
}

/// In the form of the management API, ISO 8601.
pub fn iso(millis: i64) -> String {
    match (millis / 1000, millis % 1000) {
        (seconds, 0) => format!("PT{seconds}S"),
        (seconds, rest) => {
            let fraction = format!("{rest:03}");
            format!("PT{seconds}.{}S", fraction.trim_end_matches('0'))
        }
    }
}

/// For people: milliseconds below a second, then seconds (rounded up to tenths), minutes, hours and days.
pub fn human(millis: i64) -> String {
    let seconds = millis / 1000;
    match millis.abs() {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 if millis % 1000 == 0 => format!("{seconds} s"),
        1_000..120_000 => {
            let tenths = (millis + 99).div_euclid(100);
            format!("{}.{} s", tenths / 10, (tenths % 10).abs())
        }
        120_000..7_200_000 => format!("{} min", seconds / 60),
        7_200_000..172_800_000 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_units() {
        for (text, millis) in [
            ("2s", 2_000),
            ("2", 2_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("3m", 180_000),
            ("3min", 180_000),
            ("2 H", 7_200_000),
            ("0", 0),
            ("0.0001s", 1),
        ] {
            assert_eq!(parse(text), Some(millis), "{text}");
        }
        for bad in [
            "",
            "s",
            "-1s",
            "1x",
            "1e9s",
            "9999h9",
            "1..5s",
            "99999999h",
            "inf",
            "nan",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_written_for_the_api_and_for_people() {
        assert_eq!(
            (iso(2_000), iso(1_250), iso(7)),
            ("PT2S".into(), "PT1.25S".into(), "PT0.007S".into())
        );
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (2_000, "2 s"),
            (2_340, "2.4 s"),
            (180_000, "3 min"),
            (7_200_000, "2 h"),
            (259_200_000, "3 days"),
        ] {
            assert_eq!(human(millis), text);
        }
    }
}
