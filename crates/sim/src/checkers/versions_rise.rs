//! I5: versions and etags never go back, unless a forced failover gave up what they counted: then the epoch is another one.

use super::losses::Losses;
use super::questions::{Question, Questions};
use crate::history::{Asked, Got, OpId};
use std::collections::BTreeMap;

/// What a client saw of something that only rises.
struct Seen<'a> {
    op: OpId,
    question: &'a Question,
    version: u64,
    /// How often history was cut off before it was decided.
    cuts: usize,
    /// Equal versions have equal etags.
    etag: Option<&'a str>,
}

pub fn check(questions: &Questions, losses: &Losses) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<Seen<'_>>> = BTreeMap::new();
    for (op, question) in questions {
        let cuts = question
            .decided
            .map_or(0, |decided| losses.cuts(decided.epoch));
        let mut see = |name: String, version: u64, etag| {
            all.entry(name).or_default().push(Seen {
                op: *op,
                question,
                version,
                cuts,
                etag,
            })
        };
        match (&question.asked, question.got()) {
            (
                Asked::GetTwin { device } | Asked::SetDesired { device, .. },
                Some(Got::Twin(seen)),
            ) => {
                see(format!("twin of {device}"), seen.version, Some(&seen.etag));
                see(format!("desired of {device}"), seen.desired_version, None);
                see(format!("reported of {device}"), seen.reported_version, None);
            }
            (Asked::SetReported { device, .. }, Some(Got::Version(version))) => {
                see(format!("reported of {device}"), *version, None)
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, mut seen) in all {
        // What was seen before a cut says nothing of what comes after it.
        seen.sort_by_key(|one| (one.cuts, one.op));
        for same in seen.chunk_by(|one, two| one.cuts == two.cuts) {
            found.extend(falls(&name, same));
        }
    }
    found
}

/// Whoever asks after another's answer sees no older version.
fn falls(name: &str, seen: &[Seen<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let mut etags: BTreeMap<u64, &str> = BTreeMap::new();
    for one in seen {
        if let Some(etag) = one.etag {
            let known = *etags.entry(one.version).or_insert(etag);
            if known != etag {
                found.push(format!(
                    "{name}: version {} has etags {known} and {etag} (question {})",
                    one.version, one.op
                ));
            }
        }
    }
    let mut ended: Vec<(usize, u64, OpId)> = seen
        .iter()
        .filter_map(|one| Some((one.question.answered()?, one.version, one.op)))
        .collect();
    ended.sort();
    let mut begun: Vec<&Seen<'_>> = seen.iter().collect();
    begun.sort_by_key(|one| one.question.invoked);
    let mut newest = (0, 0);
    let mut before = ended.into_iter().peekable();
    for one in begun {
        while let Some((_, version, op)) =
            before.next_if(|(place, ..)| *place < one.question.invoked)
        {
            newest = newest.max((version, op));
        }
        if one.version < newest.0 {
            found.push(format!(
                "{name}: question {} saw version {}, after question {} saw {}",
                one.op, one.version, newest.1, newest.0
            ));
        }
    }
    found
}
