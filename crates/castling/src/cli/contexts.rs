//! Deployments that this user signed in to: `contexts.json` in the user's settings folder (docs/operations.md, "Signing in").

use super::failure::Failure;
use crate::world::deployment::{private_folder, write_private};
use crate::world::up_file::UpFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

const FORMAT: u32 = 1;
const NAME_CHARS_MAX: usize = 64;

/// The file, mode 0600 because of the credentials in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contexts {
    format: u32,
    /// The one that commands use when nothing else is said.
    pub current: Option<String>,
    pub contexts: BTreeMap<String, Stored>,
}

/// One deployment, and who this user is there.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// As a world's `up.json`, without a secret.
    pub deployment: UpFile,
    pub credential: Credential,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Credential {
    Secret {
        client_id: String,
        secret: String,
    },
    /// PEM with a certificate and its key.
    Certificate {
        client_id: String,
        file: PathBuf,
    },
    User {
        name: String,
        refresh_token: String,
        access_token: String,
        /// Unix seconds.
        until: i64,
    },
}

impl Credential {
    /// Who it stands for, for people to read.
    pub fn who(&self) -> &str {
        match self {
            Credential::Secret { client_id, .. } | Credential::Certificate { client_id, .. } => {
                client_id
            }
            Credential::User { name, .. } => name,
        }
    }
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts {
            format: FORMAT,
            current: None,
            contexts: BTreeMap::new(),
        }
    }
}

impl Contexts {
    /// What is stored; nothing on first use.
    ///
    /// # Errors
    /// When the file cannot be read or is of another version.
    pub fn read() -> Result<Contexts, Failure> {
        let path = folder()?.join("contexts.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Contexts::default());
            }
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", path.display()))),
        };
        let wrong = |why: String| Failure::Failed(format!("{}: {why}", path.display()));
        let found: Contexts =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match found.format {
            FORMAT => Ok(found),
            other => Err(wrong(format!(
                "format {other} is not known to this version"
            ))),
        }
    }

    /// Changes the file while no other command does.
    ///
    /// # Errors
    /// When it cannot be read or written, or `change` fails: then nothing is written.
    pub fn change<T>(
        change: impl FnOnce(&mut Contexts) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let folder = folder()?;
        private_folder(&folder)?;
        let path = folder.join("contexts.lock");
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        let _lock =
            lock.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
        let mut contexts = Contexts::read()?;
        let outcome = change(&mut contexts)?;
        let text = serde_json::to_vec_pretty(&contexts).map_err(Failure::failed)?;
        write_private(&folder.join("contexts.json"), &text)?;
        Ok(outcome)
    }

    /// # Errors
    /// Names those there are.
    pub fn get(&self, name: &str) -> Result<&Stored, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let there = match names.is_empty() {
                true => "there are none; make one with `castling login`".to_owned(),
                false => format!("there are: {}", names.join(", ")),
            };
            Failure::Usage(format!("no context is named `{name}`; {there}"))
        })
    }
}

/// Where a context's authority is kept.
pub fn authority_file(name: &str) -> Result<PathBuf, Failure> {
    Ok(folder()?.join(format!("{name}.pem")))
}

/// A name that may be part of a file's name.
pub fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let good = !text.is_empty()
        && text.len() <= NAME_CHARS_MAX
        && text.chars().all(fits)
        && !text.starts_with('.');
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no name: letters, digits, `.`, `-` and `_`, at most {NAME_CHARS_MAX}"
        )),
    }
}

fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("CASTLING_CONFIG") {
        return Ok(folder.into());
    }
    if let Some(folder) = set("XDG_CONFIG_HOME") {
        return Ok(PathBuf::from(folder).join("castling"));
    }
    match set("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".config").join("castling")),
        None => Err(Failure::Failed(
            "there is no HOME to keep contexts in; name a folder in CASTLING_CONFIG".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_files() {
        for good in ["prod", "hubs.example.org", "a-b_c"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_known_ones() {
        let none = Contexts::default().get("x").err().unwrap();
        assert!(none.lines().concat().contains("castling login"));
    }
}
