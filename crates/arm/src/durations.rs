//! ISO 8601 durations, both ways. Years and months are refused: they have no fixed length.

const UNITS: [(char, i64); 4] = [
    ('W', 604_800_000),
    ('D', 86_400_000),
    ('H', 3_600_000),
    ('M', 60_000),
];
const SECOND_MS: i64 = 1000;

/// Milliseconds of a duration such as `PT1H30M`, `P1DT8H`, `PT0.5S`; `None` if it is none.
pub fn parse(text: &str) -> Option<i64> {
    let rest = text.trim().strip_prefix(['P', 'p'])?;
    let (date, time) = match rest.split_once(['T', 't']) {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = part(date, &UNITS[..2], false)?;
    days.checked_add(part(time, &UNITS[2..], true)?)
}

/// Reads numbers with their units, which must come in this order.
fn part(mut text: &str, units: &[(char, i64)], seconds: bool) -> Option<i64> {
    let mut sum: i64 = 0;
    for (unit, ms) in units {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = text.split_at(digits);
        if !rest.starts_with([*unit, unit.to_ascii_lowercase()]) {
            continue;
        }
        sum = sum.checked_add(number.parse::<i64>().ok()?.checked_mul(*ms)?)?;
        text = &rest[1..];
    }
    if let Some(number) = text.strip_suffix(['S', 's']).filter(|_| seconds) {
        sum = sum.checked_add(seconds_ms(number)?)?;
        text = "";
    }
    text.is_empty().then_some(sum)
}

fn seconds_ms(number: &str) -> Option<i64> {
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    let millis: i64 = padded.get(..3)?.parse().ok()?;
    whole
        .parse::<i64>()
        .ok()?
        .checked_mul(SECOND_MS)?
        .checked_add(millis)
}

/// Writes a duration in its shortest form: 32 hours are `P1DT8H`.
pub fn format(millis: i64) -> String {
    let millis = millis.max(0);
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (hours, minutes, rest) = (rest / 3_600_000, rest / 60_000 % 60, rest % 60_000);
    let mut text = String::from("P");
    if days != 0 {
        text.push_str(&format!("{days}D"));
    }
    if days == 0 || millis % 86_400_000 != 0 {
        text.push('T');
    }
    for (number, unit) in [(hours, 'H'), (minutes, 'M')] {
        if number != 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    match (rest / SECOND_MS, rest % SECOND_MS) {
        (0, 0) if millis == 0 => text.push_str("0S"),
        (0, 0) => {}
        (seconds, 0) => text.push_str(&format!("{seconds}S")),
        (seconds, part) => {
            let fraction = format!("{part:03}");
            text.push_str(&format!("{seconds}.{}S", fraction.trim_end_matches('0')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_their_shortest_form() {
        for (text, millis, shortest) in [
            ("PT1H", 3_600_000, "PT1H"),
            ("PT32H", 115_200_000, "P1DT8H"),
            ("P2D", 172_800_000, "P2D"),
            ("P1W", 604_800_000, "P7D"),
            ("PT90M", 5_400_000, "PT1H30M"),
            ("pt5s", 5_000, "PT5S"),
            ("PT0.25S", 250, "PT0.25S"),
            ("P11DT21H1M1S", 1_026_061_000, "P11DT21H1M1S"),
            ("PT0S", 0, "PT0S"),
        ] {
            assert_eq!(parse(text), Some(millis), "{text}");
            assert_eq!(format(millis), shortest);
            assert_eq!(parse(&format(millis)), Some(millis));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            "P",
            "PT",
            "1H",
            "PT1",
            "P1H",
            "PT1D",
            "P1Y",
            "P1M",
            "PTS",
            "PT.5S",
            "PT1.S",
            "PT1M1H",
            "P-1D",
            "PT1Hx",
            "P99999999999999999999D",
            "PT9223372036854775807H",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
