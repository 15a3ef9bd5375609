//! Times as people and machines read them: ISO 8601, UTC.

use types::UnixMillis;

const DAY_MS: i64 = 86_400_000;

/// Writes `2026-11-23T03:20:00.000Z`; milliseconds are always there, so a stated time is never earlier than the real one.
pub fn iso8601(at: UnixMillis) -> String {
    let (days, rest) = (at.0.div_euclid(DAY_MS), at.0.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, millis) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads what [`iso8601`] writes, and nothing else.
pub fn parse_iso8601(text: &str) -> Option<UnixMillis> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| {
            digits
                .iter()
                .fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let (second, millis) = (number(17, 19)?, number(20, 23)?);
    // The count of days is the inverse of the writing: found by its own check.
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let from_march = year - i64::from(month <= 2);
    let (era, in_era) = (from_march.div_euclid(400), from_march.rem_euclid(400));
    let days = era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + of_year - 719_468;
    let seconds = (hour * 60 + minute) * 60 + second;
    let at = UnixMillis(days * DAY_MS + seconds * 1000 + millis);
    (iso8601(at) == text).then_some(at)
}

/// Writes a span for people: `1 h`, `24 h`, `90 min`, `2.5 s`.
pub fn span(millis: i64) -> String {
    match millis {
        m if m != 0 && m % 3_600_000 == 0 => format!("{} h", m / 3_600_000),
        m if m != 0 && m % 60_000 == 0 => format!("{} min", m / 60_000),
        m if m.unsigned_abs() >= 1000 => {
            format!("{}.{} s", m / 1000, m.unsigned_abs() % 1000 / 100)
        }
        m => format!("{m} ms"),
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is the last day of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_written_as_everyone_writes_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_404_000_123, "2026-11-23T03:20:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601(UnixMillis(millis)), text);
            if millis >= 0 {
                assert_eq!(parse_iso8601(text), Some(UnixMillis(millis)));
            }
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_read_back() {
        for day in 0..4 * 36_525 {
            let at = UnixMillis(day * DAY_MS + 12_345_678);
            assert_eq!(parse_iso8601(&iso8601(at)), Some(at));
        }
    }

    #[test]
    fn what_is_not_written_so_is_not_read() {
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23T03:20:00Z",
            "2026-11-23T03:20:00.123",
            "2026-11-23T03:20:00.123+",
            "2026-02-30T03:20:00.123Z",
            "2026-13-01T03:20:00.123Z",
            "2026-00-01T03:20:00.123Z",
            "2026-11-23T24:00:00.000Z",
            "2026-11-23T03:60:00.000Z",
            "2026-11-23 03:20:00.123Z",
            "+026-11-23T03:20:00.123Z",
            "2026-11-23T03:20:00.123ZZ",
            "２026-11-23T03:20:00.123Z",
        ] {
            assert_eq!(parse_iso8601(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        assert!(iso8601(UnixMillis(i64::MAX)).ends_with('Z'));
        assert!(iso8601(UnixMillis(i64::MIN)).ends_with('Z'));
    }

    #[test]
    fn spans_are_written_in_the_largest_unit_that_fits() {
        for (millis, text) in [
            (3_600_000, "1 h"),
            (86_400_000, "24 h"),
            (5_400_000, "90 min"),
            (2_500, "2.5 s"),
            (80, "80 ms"),
            (0, "0 ms"),
        ] {
            assert_eq!(span(millis), text);
        }
    }
}
