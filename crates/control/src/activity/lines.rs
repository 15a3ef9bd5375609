//! The activity log as JSON lines, in files and answers: entries, and lines that say what is missing (docs/formats/activity.md).

use super::chain::entry_hash;
use crate::model::Activity;
use serde::{Deserialize, Serialize};

/// Entries that are not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The number before it; the next entry has the number `before`.
    pub after: u64,
    pub before: u64,
    /// Hash of entry `before - 1`, which the next one follows; empty if it has none.
    pub hash: String,
    pub why: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Gap { gap: Gap },
    Entry(Box<Activity>),
}

impl Line {
    /// The line with its end.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("a line is plain text and numbers");
        text.push('\n');
        text
    }
}

/// Where a log that is read line by line stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Number and hash of the last entry.
    pub number: u64,
    pub hash: String,
}

impl Reader {
    /// Takes the next line.
    ///
    /// # Errors
    /// When it is no line of this log, or does not follow what was read.
    pub fn take(&mut self, line: &str) -> Result<(), String> {
        match serde_json::from_str(line).map_err(|error| format!("no line of the log: {error}"))? {
            Line::Gap { gap } if gap.after != self.number || gap.before == 0 => Err(format!(
                "a gap after entry {} follows entry {}",
                gap.after, self.number
            )),
            Line::Gap { gap } => {
                self.number = gap.before - 1;
                self.hash = gap.hash;
                Ok(())
            }
            Line::Entry(entry) if entry.number != self.number + 1 => Err(format!(
                "entry {} follows entry {}: some are missing or out of order",
                entry.number, self.number
            )),
            Line::Entry(entry) if entry.hash != entry_hash(&self.hash, &entry) => Err(format!(
                "entry {} was changed, or what stood before it was",
                entry.number
            )),
            Line::Entry(entry) => {
                self.number = entry.number;
                self.hash = entry.hash;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_log_of_lines_with_a_gap_is_read_and_a_changed_line_is_found() {
        let state = active_hub();
        let entry = |at: usize| Line::Entry(Box::new(state.activity[at].clone())).text();
        let gap = Gap {
            after: 1,
            before: 3,
            hash: state.activity[1].hash.clone(),
            why: "it was away".into(),
        };
        let lines = [entry(0), Line::Gap { gap }.text(), entry(2), entry(3)];
        let read = |lines: &[String]| {
            let mut reader = Reader::default();
            lines.iter().try_for_each(|line| reader.take(line))?;
            Ok::<_, String>(reader.number)
        };
        assert_eq!(read(&lines), Ok(4));
        for at in 0..lines.len() {
            let mut changed = lines.clone();
            changed[at] = changed[at]
                .replace("\"at\":", "\"at\":1")
                .replace(&state.activity[1].hash, "00");
            assert!(read(&changed).is_err(), "{at}");
        }
        let mut less = lines.to_vec();
        less.remove(1);
        assert!(read(&less).is_err());
        assert!(read(&["{}".into()]).is_err() && read(&["x".into()]).is_err());
    }
}
