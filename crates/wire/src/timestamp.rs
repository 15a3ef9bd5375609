//! Times as the protocols write them: ISO 8601 in bodies and bags, RFC 1123 in the HTTP `Date` header.

use time::{Date, Month, OffsetDateTime, Time};
use types::UnixMillis;

/// How a time that never happened is written (data-plane notes section 5.3).
pub const NEVER: &str = "0001-01-01T00:00:00Z";

const MILLIS_MIN: i64 = -62_135_596_800_000;
const MILLIS_MAX: i64 = 253_402_300_799_999;

/// Writes `2026-11-23T03:04:05.678Z`; times outside the years 1–9999 become the nearest that can be written.
pub fn iso(at: UnixMillis) -> String {
    let at = utc(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// Writes a time, or [`NEVER`].
pub fn iso_or_never(at: Option<UnixMillis>) -> String {
    at.map_or_else(|| NEVER.to_owned(), iso)
}

/// Writes `Mon, 23 Nov 2026 03:04:05 GMT`.
pub fn http_date(at: UnixMillis) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let at = utc(at);
    let weekday = at.weekday().to_string();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        at.day(),
        MONTHS[usize::from(u8::from(at.month()) - 1)],
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// Writes `11/23/2026 03:04:05`, the form inside tracking texts of error bodies.
pub(crate) fn tracking(at: UnixMillis) -> String {
    let at = utc(at);
    format!(
        "{:02}/{:02}/{:04} {:02}:{:02}:{:02}",
        u8::from(at.month()),
        at.day(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn utc(at: UnixMillis) -> OffsetDateTime {
    let nanos = i128::from(at.0.clamp(MILLIS_MIN, MILLIS_MAX)) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("clamped to the years 1 to 9999")
}

/// Reads an ISO 8601 time: `T` or a blank between date and time, seconds and their fraction optional, offset `Z`, `+hh:mm`,
/// `+hhmm`, `+hh` or none (then UTC); a date alone is its midnight. `None` for anything else.
pub fn parse_iso(text: &str) -> Option<UnixMillis> {
    let text = text.trim();
    let mut digits = Digits(text.as_bytes());
    let date = {
        let year = digits.number(4)?;
        digits.skip(b'-')?;
        let month = Month::try_from(u8::try_from(digits.number(2)?).ok()?).ok()?;
        digits.skip(b'-')?;
        Date::from_calendar_date(year, month, u8::try_from(digits.number(2)?).ok()?).ok()?
    };
    if digits.0.is_empty() {
        return millis(date, Time::MIDNIGHT, 0, 0);
    }
    digits
        .skip(b'T')
        .or_else(|| digits.skip(b't'))
        .or_else(|| digits.skip(b' '))?;
    let hour = digits.number(2)?;
    digits.skip(b':')?;
    let minute = digits.number(2)?;
    let (mut second, mut fraction) = (0, 0);
    if digits.skip(b':').is_some() {
        second = digits.number(2)?;
        if digits.skip(b'.').is_some() {
            fraction = digits.fraction_ms()?;
        }
    }
    let time = Time::from_hms(
        u8::try_from(hour).ok()?,
        u8::try_from(minute).ok()?,
        u8::try_from(second).ok()?,
    )
    .ok()?;
    let offset_minutes = digits.offset_minutes()?;
    millis(date, time, fraction, offset_minutes)
}

fn millis(date: Date, time: Time, fraction_ms: i64, offset_minutes: i64) -> Option<UnixMillis> {
    let seconds = date.with_time(time).assume_utc().unix_timestamp();
    Some(UnixMillis(
        seconds
            .checked_sub(offset_minutes * 60)?
            .checked_mul(1000)?
            .checked_add(fraction_ms)?,
    ))
}

/// What is left to read.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn skip(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == byte).then(|| self.0 = rest)
    }

    fn number(&mut self, length: usize) -> Option<i32> {
        let (digits, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        digits.iter().try_fold(0, |sum, d| {
            d.is_ascii_digit().then(|| sum * 10 + i32::from(d - b'0'))
        })
    }

    /// One or more digits after the point, cut to milliseconds.
    fn fraction_ms(&mut self) -> Option<i64> {
        let length = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let digit = |index: usize| digits.get(index).map_or(0, |d| i64::from(d - b'0'));
        (length > 0).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
    }

    fn offset_minutes(&mut self) -> Option<i64> {
        let sign = match self.0 {
            [] | [b'Z'] | [b'z'] => return Some(0),
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.0 = &self.0[1..];
        let hours = i64::from(self.number(2)?);
        let _ = self.skip(b':');
        let minutes = if self.0.is_empty() {
            0
        } else {
            i64::from(self.number(2)?)
        };
        (self.0.is_empty() && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: UnixMillis = UnixMillis(1_795_403_045_678);

    #[test]
    fn times_are_written_as_documented() {
        assert_eq!(iso(AT), "2026-11-23T03:04:05.678Z");
        assert_eq!(iso(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(http_date(AT), "Mon, 23 Nov 2026 03:04:05 GMT");
        assert_eq!(tracking(AT), "11/23/2026 03:04:05");
        assert_eq!(iso_or_never(None), NEVER);
        assert_eq!(iso(UnixMillis(i64::MAX)), "9999-12-31T23:59:59.999Z");
        assert_eq!(iso(UnixMillis(i64::MIN)), "0001-01-01T00:00:00.000Z");
    }

    #[test]
    fn offsets_and_fractions_are_read_leniently() {
        for same in [
            "2026-11-23T03:04:05.678Z",
            "2026-11-23 03:04:05.678",
            "2026-11-23T03:04:05.6789999Z",
            "2026-11-23t04:04:05.678+01:00",
            "2026-11-22T22:04:05.678-0500",
            " 2026-11-23T05:04:05.678+02 ",
        ] {
            assert_eq!(parse_iso(same), Some(AT), "{same}");
        }
        assert_eq!(parse_iso("1970-01-01"), Some(UnixMillis(0)));
        assert_eq!(parse_iso("1970-01-01T00:01"), Some(UnixMillis(60_000)));
        assert_eq!(parse_iso("1969-12-31T23:59:59.5Z"), Some(UnixMillis(-500)));
        assert_eq!(parse_iso(NEVER), Some(UnixMillis(MILLIS_MIN)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "2026-11-23T",
            "2026-11-23T24:00:00Z",
            "2026-11-23T03:04:05.Z",
            "2026-11-23T03:04:05Q",
            "2026-11-23T03:04:05+1",
            "2026-11-23T03:04:05+25:00",
            "2026-11-23T03:04:05Z!",
            "+026-11-23",
        ] {
            assert_eq!(parse_iso(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn written_times_are_read_back(at in MILLIS_MIN..=MILLIS_MAX) {
            prop_assert_eq!(parse_iso(&iso(UnixMillis(at))), Some(UnixMillis(at)));
        }

        #[test]
        fn reading_never_panics(text in "\\PC*", close in "[0-9TtZ:.+ -]{0,30}") {
            let _ = parse_iso(&text);
            let _ = parse_iso(&close);
        }
    }
}
