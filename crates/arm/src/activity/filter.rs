//! `$filter` of the activity log: conditions joined by `and`.

use super::event;
use crate::failure::{Failure, shown};
use control::access::rights::covers;
use control::model::Activity;
use types::UnixMillis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Timestamp,
    Group,
    Resource,
    Provider,
    Caller,
    Status,
    Correlation,
    Operation,
    /// Every entry stands in the channels that the clients name.
    Channels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    From(UnixMillis),
    Until(UnixMillis),
    Is(Field, String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Filter(Vec<Condition>);

impl Filter {
    /// # Errors
    /// 400 that names what is not understood, and what would be.
    pub fn read(text: &str) -> Result<Filter, Failure> {
        let wrong = |why: String| {
            Failure::bad(
                "InvalidFilterInQueryString",
                format!(
                    "The filter is not understood: {why}. Conditions joined by 'and' are: eventTimestamp ge|le TIME, and with \
                     eq: resourceGroupName, resourceUri, resourceProvider, caller, status, correlationId, operationName, eventChannels."
                ),
            )
        };
        let words = words(text).map_err(&wrong)?;
        let mut conditions = Vec::new();
        let mut rest = words.as_slice();
        while !rest.is_empty() {
            let [name, verb, value, more @ ..] = rest else {
                let last = rest.last().map_or("", |word| word.as_str());
                return Err(wrong(format!(
                    "a condition is not whole at '{}'",
                    shown(last)
                )));
            };
            conditions.push(condition(name, verb, value).map_err(&wrong)?);
            rest = match more {
                [] => more,
                [and, next @ ..] if and.eq_ignore_ascii_case("and") && !next.is_empty() => next,
                [other, ..] => {
                    return Err(wrong(format!(
                        "'{}' stands where 'and' would",
                        shown(other)
                    )));
                }
            };
        }
        Ok(Filter(conditions))
    }

    pub fn passes(&self, entry: &Activity) -> bool {
        self.0.iter().all(|condition| condition.holds(entry))
    }
}

impl Condition {
    fn holds(&self, entry: &Activity) -> bool {
        let (field, wanted) = match self {
            Condition::From(at) => return entry.at >= *at,
            Condition::Until(at) => return entry.at <= *at,
            Condition::Is(field, wanted) => (field, wanted.as_str()),
        };
        let is = |found: &str| found.to_lowercase() == wanted.to_lowercase();
        match field {
            Field::Group => event::group(&entry.resource).is_some_and(is),
            // What is done below a resource is done to it.
            Field::Resource => covers(wanted, &entry.resource),
            Field::Provider => is(event::provider(&entry.action)),
            Field::Caller => is(&entry.by),
            Field::Status => is(event::status(&entry.result)),
            Field::Correlation => entry.origin.correlation.as_deref().is_some_and(is),
            Field::Operation => is(&entry.action),
            Field::Channels | Field::Timestamp => true,
        }
    }
}

fn condition(name: &str, verb: &str, value: &str) -> Result<Condition, String> {
    let field = match name.to_ascii_lowercase().as_str() {
        "eventtimestamp" => Field::Timestamp,
        "resourcegroupname" => Field::Group,
        "resourceuri" | "resourceid" => Field::Resource,
        "resourceprovider" => Field::Provider,
        "caller" => Field::Caller,
        "status" => Field::Status,
        "correlationid" => Field::Correlation,
        "operationname" | "operations" => Field::Operation,
        "eventchannels" => Field::Channels,
        _ => return Err(format!("there is no field '{}'", shown(name))),
    };
    let verb = verb.to_ascii_lowercase();
    if field == Field::Timestamp {
        let at = instant(value).ok_or_else(|| format!("'{}' is no time", shown(value)))?;
        return match verb.as_str() {
            "ge" => Ok(Condition::From(at)),
            "gt" => Ok(Condition::From(at.plus(1))),
            "le" => Ok(Condition::Until(at)),
            "lt" => Ok(Condition::Until(at.plus(-1))),
            _ => Err(format!(
                "'{}' does not go with eventTimestamp",
                shown(&verb)
            )),
        };
    }
    match verb.as_str() {
        "eq" => Ok(Condition::Is(field, value.to_owned())),
        _ => Err(format!(
            "'{}' does not go with {name}: eq does",
            shown(&verb)
        )),
    }
}

/// Words, and texts in quotes (a doubled quote stands for one).
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some(mut quoted) = rest.strip_prefix('\'') else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            words.push(word.to_owned());
            rest = after.trim_start();
            continue;
        };
        let mut word = String::new();
        loop {
            let Some((part, after)) = quoted.split_once('\'') else {
                return Err("a quote is not closed".into());
            };
            word.push_str(part);
            match after.strip_prefix('\'') {
                Some(more) => {
                    word.push('\'');
                    quoted = more;
                }
                None => {
                    rest = after.trim_start();
                    break;
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}

/// A time in ISO 8601: a date, and unless it is the day's beginning a time of day with any fraction, `Z`, an offset or nothing (UTC).
fn instant(text: &str) -> Option<UnixMillis> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    // A plus that came through a form is a space.
    let at = time.find(['Z', 'z', '+', '-', ' ']).unwrap_or(time.len());
    let (clock, zone) = time.split_at_checked(at)?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole = if whole.len() == 5 {
        format!("{whole}:00")
    } else {
        whole.to_owned()
    };
    let utc = control::iso::parse_iso8601(&format!("{date}T{whole}.{millis}Z"))?;
    Some(utc.plus(-offset(zone)?))
}

/// Milliseconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone {
        "" | "Z" | "z" => return Some(0),
        _ => match zone.split_at_checked(1)? {
            ("+" | " ", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        },
    };
    let digits = rest.replace(':', "");
    let number: i64 = digits
        .parse()
        .ok()
        .filter(|_| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    (number / 100 < 24 && number % 100 < 60)
        .then_some(sign * (number / 100 * 60 + number % 100) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Activity {
        Activity {
            at: UnixMillis(1_000),
            by: "O'Neil".into(),
            action: "Microsoft.Devices/IotHubs/write".into(),
            resource: "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Devices/IotHubs/h"
                .into(),
            result: "accepted".into(),
            ..Activity::default()
        }
    }

    #[test]
    fn conditions_are_read_as_the_clients_write_them() {
        for (text, passes) in [
            ("", true),
            (
                "eventTimestamp ge 1970-01-01T00:00:01Z and eventTimestamp le 1970-01-01T00:00:01.0000000Z and resourceGroupName eq 'rg'",
                true,
            ),
            ("eventTimestamp ge '1970-01-01T01:00:01.000001+01:00'", true),
            ("eventTimestamp ge 1970-01-01T01:00:01 01:00", false),
            ("eventTimestamp ge 1970-01-02", false),
            ("eventTimestamp gt 1970-01-01T00:00:01Z", false),
            ("resourceUri eq '/subscriptions/S/resourcegroups/rg'", true),
            ("resourceUri eq '/subscriptions/s/resourceGroups/R'", false),
            (
                "resourceProvider eq 'microsoft.devices' and status eq 'succeeded'",
                true,
            ),
            ("caller eq 'o''neil'", true),
            ("caller eq 'neil'", false),
            ("eventChannels eq 'Admin, Operation'", true),
        ] {
            match Filter::read(text) {
                Ok(filter) => assert_eq!(filter.passes(&entry()), passes, "{text}"),
                Err(failure) => assert!(
                    !passes && failure.message.contains("is no"),
                    "{text}: {}",
                    failure.message
                ),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, why) in [
            ("color eq 'red'", "no field 'color'"),
            ("caller ne 'x'", "'ne' does not go"),
            ("eventTimestamp eq 1970-01-01", "'eq' does not go"),
            ("eventTimestamp ge yesterday", "'yesterday' is no time"),
            ("eventTimestamp ge 1970-13-01", "is no time"),
            ("eventTimestamp ge 1970-01-01T00:00:00+9999", "is no time"),
            ("caller eq 'x", "not closed"),
            ("caller eq", "not whole at 'eq'"),
            ("caller eq 'x' or caller eq 'y'", "'or' stands where"),
            ("caller eq 'x' and", "'and' stands where"),
        ] {
            let failure = Filter::read(text).unwrap_err();
            assert_eq!(failure.code, "InvalidFilterInQueryString");
            assert!(failure.message.contains(why), "{text}: {}", failure.message);
        }
    }
}
