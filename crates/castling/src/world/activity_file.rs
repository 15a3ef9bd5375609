//! `activity.jsonl` in a node's folder: every entry of the activity log, appended as it comes and never rewritten
//! (docs/formats/activity.md). The control plane keeps the latest entries only; this file keeps all.

use control::State;
use control::activity::lines::{Gap, Line, Reader};
use control::model::Activity;
use region::Plane;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const NAME: &str = "activity.jsonl";
/// Entries come together: so long they are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// A disk that refuses is asked again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// One line of the file; an entry's fields are bounded far below.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The file, open at its end.
pub struct ActivityFile {
    path: PathBuf,
    file: File,
    at: Reader,
    /// Bytes that are whole lines.
    length: u64,
}

impl ActivityFile {
    /// Opens the file and checks its chain. A line that was not written whole is cut off; a file that was changed is set aside
    /// as `activity-damaged-N.jsonl`, and a new one begins with a line that says so.
    ///
    /// # Errors
    /// With a sentence for the operator, when the file cannot be read or made.
    pub fn open(folder: &Path) -> Result<ActivityFile, String> {
        let path = folder.join(NAME);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut damage = None;
        let (at, length) = match check(&path).map_err(failed)? {
            Checked::Good { at, length } => (at, length),
            Checked::Damaged { line, why } => {
                let aside = set_aside(folder, &path).map_err(failed)?;
                tracing::error!(file = %aside.display(), line, %why, "the activity log's file was changed; it is set aside");
                let name = aside
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                damage = Some(format!(
                    "the file before it does not fit at line {line} ({why}) and is kept as {name}"
                ));
                (Reader::default(), 0)
            }
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        let mut opened = ActivityFile {
            path: path.clone(),
            file,
            at,
            length,
        };
        if let Some(why) = damage {
            let gap = Gap {
                after: 0,
                before: 1,
                hash: String::new(),
                why,
            };
            opened.append(&[Line::Gap { gap }]).map_err(failed)?;
        }
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(opened)
    }

    /// The lines that are to be appended so that the file has what the state has.
    fn missing(&self, state: &State) -> Vec<Line> {
        let entry = |entry: &Activity| Line::Entry(Box::new(entry.clone()));
        let kept = state.activity.iter().filter(|entry| entry.number > 0);
        let Some(first) = kept.clone().next() else {
            return Vec::new();
        };
        // A node that starts applies again what it had applied before.
        if state.activity_number() < self.at.number {
            return Vec::new();
        }
        let before = |number: u64| match number == first.number {
            true => Some(state.activity_before.as_str()),
            false => kept
                .clone()
                .find(|entry| entry.number + 1 == number)
                .map(|entry| entry.hash.as_str()),
        };
        if before(self.at.number + 1) == Some(self.at.hash.as_str()) {
            return kept
                .filter(|kept| kept.number > self.at.number)
                .map(entry)
                .collect();
        }
        let why = match self.at.number + 1 < first.number {
            true => {
                "this node was away for so long that the control plane does not keep these entries any more"
            }
            false => "the control plane lost entries that stand here, and went on without them",
        };
        let gap = Gap {
            after: self.at.number,
            before: first.number,
            hash: state.activity_before.clone(),
            why: why.into(),
        };
        let gap = std::iter::once(Line::Gap { gap });
        gap.chain(kept.map(entry)).collect()
    }

    fn append(&mut self, lines: &[Line]) -> std::io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut at = self.at.clone();
        let mut text = String::new();
        for line in lines {
            let line = line.text();
            at.take(line.trim_end()).map_err(std::io::Error::other)?;
            text.push_str(&line);
        }
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What was written in part must not stand before what comes next.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.at = at;
        self.length += text.len() as u64;
        Ok(())
    }
}

enum Checked {
    Good { at: Reader, length: u64 },
    Damaged { line: usize, why: String },
}

fn check(path: &Path) -> std::io::Result<Checked> {
    let mut at = Reader::default();
    let mut length = 0;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Checked::Good { at, length });
        }
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut bounded = std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
        let read = bounded.read_until(b'\n', &mut bytes)?;
        // What has no end was not acknowledged: a crash in the middle of a write.
        if read < LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
            break;
        }
        let taken = match std::str::from_utf8(&bytes) {
            Ok(text) => at.take(text),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = taken {
            return Ok(Checked::Damaged { line, why });
        }
        length += read as u64;
    }
    Ok(Checked::Good { at, length })
}

fn set_aside(folder: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let mut number = 1_u32;
    loop {
        let aside = folder.join(format!("activity-damaged-{number}.jsonl"));
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
        number += 1;
    }
}

/// Appends what comes, until the node stops.
pub async fn keep(mut file: ActivityFile, plane: Arc<Plane>, mut stop: watch::Receiver<bool>) {
    let mut changed = plane.watch();
    loop {
        let stopping = *stop.borrow();
        changed.borrow_and_update();
        let lines = plane.with(|state| file.missing(state));
        let path = file.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let result = file.append(&lines);
            (file, result)
        });
        let Ok((back, result)) = written.await else {
            tracing::error!(file = %path.display(), "the writer of the activity log's file broke off");
            return;
        };
        file = back;
        let pause = match result {
            Ok(()) => GATHER,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "the activity log cannot be written");
                RETRY
            }
        };
        if stopping {
            return;
        }
        tokio::select! {
            _ = tokio::time::sleep(pause) => {}
            gone = stop.changed() => if gone.is_err() { return },
        }
        tokio::select! {
            gone = changed.changed() => if gone.is_err() { return },
            gone = stop.changed() => if gone.is_err() { return },
            // A write that failed is tried again though nothing comes.
            _ = tokio::time::sleep(RETRY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Command, Request};
    use types::UnixMillis;

    fn note(state: &mut State, n: i64) {
        let command = Command::NoteAction {
            action: "a/write".into(),
            resource: "/".into(),
            result: format!("note {n}"),
        };
        state.apply(&Request {
            now: UnixMillis(n),
            by: "tester".into(),
            id: String::new(),
            command,
            origin: Default::default(),
        });
    }

    fn noted(count: i64) -> State {
        let mut state = State::default();
        (1..=count).for_each(|n| note(&mut state, n));
        state
    }

    fn write(folder: &Path, state: &State) -> ActivityFile {
        let mut file = ActivityFile::open(folder).unwrap();
        let lines = file.missing(state);
        file.append(&lines).unwrap();
        file
    }

    fn lines(folder: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(NAME)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn entries_are_appended_once_and_go_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = noted(3);
        write(folder.path(), &state);
        // While it starts, the copy is behind.
        assert_eq!(write(folder.path(), &noted(1)).at.number, 3);
        (4..=5).for_each(|n| note(&mut state, n));
        write(folder.path(), &state);
        let file = write(folder.path(), &state);
        assert_eq!((file.at.number, lines(folder.path()).len()), (5, 5));
    }

    #[test]
    fn a_line_that_was_not_written_whole_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &noted(2));
        let mut torn = OpenOptions::new()
            .append(true)
            .open(folder.path().join(NAME))
            .unwrap();
        torn.write_all(b"{\"at\":3,\"by\"").unwrap();
        assert_eq!(write(folder.path(), &noted(3)).at.number, 3);
        assert_eq!(lines(folder.path()).len(), 3);
    }

    #[test]
    fn what_the_control_plane_keeps_no_more_is_named_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = noted(5);
        state.activity_before = state.activity[2].hash.clone();
        state.activity.drain(..3);
        write(folder.path(), &state);
        let found = lines(folder.path());
        assert!(
            found[0].contains(r#""gap":{"after":0,"before":4"#),
            "{}",
            found[0]
        );
        assert_eq!(found.len(), 3);
        assert_eq!(ActivityFile::open(folder.path()).unwrap().at.number, 5);
    }

    #[test]
    fn a_control_plane_that_went_on_without_entries_is_named_too() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &noted(3));
        let mut other = noted(2);
        (7..=9).for_each(|n| note(&mut other, n));
        write(folder.path(), &other);
        let found = lines(folder.path());
        assert!(found[3].contains("went on without them"), "{}", found[3]);
        assert_eq!(ActivityFile::open(folder.path()).unwrap().at.number, 5);
    }

    #[test]
    fn a_file_that_was_changed_is_set_aside_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let state = noted(3);
        write(folder.path(), &state);
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("note 2", "note 9");
        std::fs::write(&path, text).unwrap();
        write(folder.path(), &state);
        let found = lines(folder.path());
        assert!(
            found[0].contains("line 2") && found[0].contains("activity-damaged-1.jsonl"),
            "{}",
            found[0]
        );
        assert_eq!(found.len(), 4);
        assert!(folder.path().join("activity-damaged-1.jsonl").exists());
    }
}
