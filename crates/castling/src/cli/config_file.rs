//! `up --config FILE`: lines of `key = value` with the names of the flags. `#` begins a comment. A value may stand in quotes.
//!
//! The file is checked as a whole: every mistake is named with its line.

use super::settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More than any such file needs.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    pub data: Option<PathBuf>,
    pub settings: Settings,
}

impl ConfigFile {
    /// # Errors
    /// All mistakes, each with file and line.
    pub fn read(path: &Path) -> Result<ConfigFile, String> {
        let name = path.display();
        let size = std::fs::metadata(path)
            .map_err(|error| format!("{name}: {error}"))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(format!("{name}: it is larger than 1 MiB"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        ConfigFile::parse(&text).map_err(|mistakes| {
            let lines: Vec<String> = mistakes
                .iter()
                .map(|(line, why)| format!("{name}:{line}: {why}"))
                .collect();
            lines.join("\n")
        })
    }

    /// # Errors
    /// All mistakes with their lines, from 1.
    fn parse(text: &str) -> Result<ConfigFile, Vec<(usize, String)>> {
        let mut file = ConfigFile::default();
        let mut mistakes = Vec::new();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                mistakes.push((number, format!("`{line}` is not `key = value`")));
                continue;
            };
            let key = key.trim();
            if let Some(before) = seen.insert(key, number) {
                mistakes.push((number, format!("`{key}` stands already in line {before}")));
                continue;
            }
            if let Err(why) = value_of(value).and_then(|value| file.set(key, &value)) {
                mistakes.push((number, why));
            }
        }
        if mistakes.is_empty() {
            Ok(file)
        } else {
            Err(mistakes)
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key == "data" {
            self.data = Some(value.into());
            return Ok(());
        }
        match self.settings.set(key, value) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "`{key}` is not a setting; the settings are the long flags of `castling up --help`"
            )),
            Err(why) => Err(format!("{key}: {why}")),
        }
    }
}

/// The value without quotes or the comment behind it.
fn value_of(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .ok_or("the closing quote is missing")?,
        None => text
            .split_once('#')
            .map_or((text, ""), |(value, _)| (value, "")),
    };
    let rest = rest.trim();
    if !rest.is_empty() && !rest.starts_with('#') {
        return Err(format!("`{rest}` stands behind the value"));
    }
    let value = if text.starts_with('"') {
        value
    } else {
        value.trim()
    };
    if value.is_empty() {
        return Err("the value is missing".into());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_flags_say() {
        let text = "# a world\ndata = \"/tmp/w #1\"\n\nbind=127.0.5.1\nregions = westus2,westcentralus # a pair\nfailover-cooldown = 30s\n";
        let file = ConfigFile::parse(text).unwrap();
        assert_eq!(file.data.as_deref(), Some(Path::new("/tmp/w #1")));
        assert_eq!(file.settings.failover_cooldown, Some(30_000));
        assert_eq!(file.settings.regions.unwrap().0.len(), 2);
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = "mqtt-port = x\nnonsense\ncolour = red\nmqtt-port = 1\nbind =\nlog = \"info\nhttps-port = 70000\ndomain = \"a\" b\n";
        let mistakes = ConfigFile::parse(text).unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(mistakes[3].1.contains("line 1"), "{:?}", mistakes[3]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = ConfigFile::read(Path::new("/nonexistent/castling.conf")).unwrap_err();
        assert!(error.contains("/nonexistent/castling.conf"), "{error}");
    }
}
