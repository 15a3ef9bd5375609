//! Times as the JSON documents show them: ISO 8601 in UTC, always the same width, so that text order is time order.

use time::OffsetDateTime;
use types::UnixMillis;

/// Shown for what never happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// `2026-01-31T12:00:00.000Z`; times outside the years 1 to 9999 are shown as [`NEVER`].
pub(crate) fn iso(at: UnixMillis) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
        return NEVER.to_owned();
    };
    if at.year() < 1 {
        return NEVER.to_owned();
    }
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// As [`iso`]; [`NEVER`] without a time.
pub(crate) fn iso_or_never(at: Option<UnixMillis>) -> String {
    at.map_or_else(|| NEVER.to_owned(), iso)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(iso(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            iso(UnixMillis(1_700_000_000_123)),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(iso(UnixMillis(-1)), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_outside_the_calendar_are_shown_as_never() {
        for at in [i64::MIN, i64::MAX] {
            assert_eq!(iso(UnixMillis(at)), NEVER);
        }
        assert_eq!(iso_or_never(None), NEVER);
    }
}
