//! The chain of hashes through the activity log.

use crate::command::Origin;
use crate::model::Activity;
use crate::naming::hex;
use ring::digest;
use serde::Serialize;
use types::UnixMillis;

/// What the hash of an entry covers, in this order; its JSON has no spaces.
#[derive(Serialize)]
struct Covered<'a> {
    at: UnixMillis,
    by: &'a str,
    action: &'a str,
    resource: &'a str,
    result: &'a str,
    number: u64,
    origin: &'a Origin,
}

/// The hash of an entry: SHA-256, as hex, over the hash before it (its hex text; nothing for the first) and the entry's JSON.
pub fn entry_hash(before: &str, entry: &Activity) -> String {
    let covered = Covered {
        at: entry.at,
        by: &entry.by,
        action: &entry.action,
        resource: &entry.resource,
        result: &entry.result,
        number: entry.number,
        origin: &entry.origin,
    };
    let mut bytes = before.as_bytes().to_vec();
    bytes.extend(serde_json::to_vec(&covered).expect("an entry is plain text and numbers"));
    hex(digest::digest(&digest::SHA256, &bytes).as_ref())
}

/// Whether a run of entries is whole: numbered without gaps, each hash over the entry and the one before. Entries from before
/// there was a chain (number 0) may stand in front. The hash of the first is taken as it is unless it is number 1: what it
/// follows is not among them.
///
/// # Errors
/// Names the first entry that does not fit.
pub fn verify(entries: &[Activity]) -> Result<(), String> {
    let chained = chained(entries)?;
    match chained.split_first() {
        None => Ok(()),
        Some((first, _)) if first.number == 1 => follow("", 0, chained),
        Some((first, rest)) => follow(&first.hash, first.number, rest),
    }
}

/// As [`verify`], with the hash of the entry before the first.
///
/// # Errors
/// As there.
pub fn verify_after(before: &str, entries: &[Activity]) -> Result<(), String> {
    let chained = chained(entries)?;
    match chained.first() {
        None => Ok(()),
        Some(first) => follow(before, first.number - 1, chained),
    }
}

/// The entries without those in front that have no number.
fn chained(entries: &[Activity]) -> Result<&[Activity], String> {
    let old = entries
        .iter()
        .take_while(|entry| entry.number == 0 && entry.hash.is_empty())
        .count();
    let chained = &entries[old..];
    match chained.first() {
        Some(first) if first.number == 0 => Err("an entry has a hash and no number".into()),
        Some(first) if old > 0 && first.number != 1 => Err(format!(
            "entry {} follows entries without a number: 1 is expected",
            first.number
        )),
        _ => Ok(chained),
    }
}

fn follow(before: &str, number: u64, entries: &[Activity]) -> Result<(), String> {
    let (mut before, mut number) = (before, number);
    for entry in entries {
        if entry.number != number + 1 {
            return Err(format!(
                "entry {} follows entry {number}: some are missing or out of order",
                entry.number
            ));
        }
        if entry.hash != entry_hash(before, entry) {
            return Err(format!(
                "entry {} was changed, or what stood before it was",
                entry.number
            ));
        }
        (before, number) = (&entry.hash, entry.number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::testing::*;

    fn log() -> State {
        let mut state = active_hub();
        for n in 0..5 {
            state.apply(&request("", 50 + n, start_failover(1, "west", "op")));
        }
        state
    }

    #[test]
    fn every_entry_has_a_number_and_the_chain_holds() {
        let state = log();
        let numbers: Vec<_> = state.activity.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(verify(&state.activity), Ok(()));
        assert_eq!(verify(&state.activity[3..]), Ok(()));
        assert_eq!(verify(&[]), Ok(()));
    }

    #[test]
    fn whatever_is_changed_left_out_or_put_in_is_found() {
        type Change = fn(&mut Vec<Activity>);
        let changes: [(&str, Change); 9] = [
            ("text", |log| log[3].result = "accepted".into()),
            ("who", |log| log[3].by = "someone else".into()),
            ("when", |log| log[3].at = UnixMillis(1)),
            ("where from", |log| {
                log[3].origin.address = Some("::1".into())
            }),
            ("hash", |log| log[3].hash = "00".repeat(32)),
            ("left out", |log| drop(log.remove(3))),
            ("order", |log| log.swap(3, 4)),
            ("put in", |log| log.insert(3, log[2].clone())),
            ("renumbered", |log| {
                log.remove(3);
                for (at, entry) in log.iter_mut().enumerate() {
                    entry.number = at as u64 + 1;
                }
            }),
        ];
        for (what, change) in changes {
            let mut entries = log().activity;
            change(&mut entries);
            assert!(verify(&entries).is_err(), "{what}");
        }
    }

    #[test]
    fn a_whole_entry_written_anew_breaks_what_follows() {
        let mut entries = log().activity;
        entries[3].result = "accepted".into();
        entries[3].hash = entry_hash(&entries[2].hash, &entries[3]);
        let error = verify(&entries).unwrap_err();
        assert!(
            error.contains(&format!("entry {}", entries[4].number)),
            "{error}"
        );
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        let entry = Activity {
            at: UnixMillis(5),
            by: "app".into(),
            action: "a/write".into(),
            resource: "/".into(),
            result: "accepted".into(),
            number: 1,
            ..Activity::default()
        };
        let text = concat!(
            "abc",
            r#"{"at":5,"by":"app","action":"a/write","resource":"/","result":"accepted","number":1,"#,
            r#""origin":{"object_id":"","address":null,"correlation":null,"agent":null}}"#
        );
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(entry_hash("abc", &entry), hex(hash.as_ref()));
    }

    #[test]
    fn the_chain_of_a_log_without_one_begins_with_the_next_entry() {
        let bytes = include_bytes!("../../tests/fixtures/state-1.json");
        let mut state = State::restore(bytes).unwrap();
        let old = state.activity.len();
        assert!(old > 0 && state.activity.iter().all(|entry| entry.number == 0));
        assert_eq!(verify(&state.activity), Ok(()));
        state.apply(&request("", 99_000, start_failover(1, "west", "op")));
        state.apply(&request("", 99_001, start_failover(1, "west", "op")));
        assert_eq!(state.activity[old].number, 1);
        assert_eq!(verify(&state.activity), Ok(()));
        state.activity[old].by = "other".into();
        assert!(verify(&state.activity).is_err());
    }
}
