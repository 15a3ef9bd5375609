//! What a deployment keeps in its data folder besides the regions' own data.

use super::administrator::Administrator;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use types::RegionName;

/// `deployment.json`: made on first start, mode 0600 because of the secret in it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Deployment {
    pub format: u32,
    /// Keeps two deployments apart on their links.
    pub id: String,
    pub tenant: String,
    pub subscription: String,
    pub client_id: String,
    pub object_id: String,
    pub client_secret: String,
    pub secret_salt: String,
    pub domain: String,
    /// Regions in the order of their numbers in the control plane: never reordered.
    pub regions: Vec<RegionName>,
    /// The control plane was founded.
    pub founded: bool,
    /// The first user; absent in folders from before there were users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administrator: Option<Administrator>,
}

const FORMAT: u32 = 1;

impl Deployment {
    /// Loads the deployment of `folder`, or makes one with fresh ids and a fresh secret.
    ///
    /// # Errors
    /// With a sentence for the operator: unreadable, another version, or other regions than it was made with.
    pub fn load_or_make(
        folder: &Path,
        regions: &[RegionName],
        domain: &str,
    ) -> Result<Deployment, String> {
        private_folder(folder)?;
        let path = Deployment::path(folder);
        if !path.exists() {
            let deployment = Deployment {
                format: FORMAT,
                id: region::random_text(16),
                tenant: guid(),
                subscription: guid(),
                client_id: guid(),
                object_id: guid(),
                client_secret: region::random_text(32),
                secret_salt: region::random_text(16),
                domain: domain.into(),
                regions: regions.to_vec(),
                founded: false,
                administrator: None,
            };
            deployment.save(folder)?;
            return Ok(deployment);
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut known: Deployment =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if known.format != FORMAT {
            return Err(format!(
                "{}: format {} is not known to this version",
                path.display(),
                known.format
            ));
        }
        if known.regions != regions {
            let names: Vec<&str> = known.regions.iter().map(RegionName::as_str).collect();
            return Err(format!(
                "{} was made with --regions {}; start it with these, or choose another folder with --data",
                folder.display(),
                names.join(",")
            ));
        }
        domain.clone_into(&mut known.domain);
        Ok(known)
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join("deployment.json")
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        write_private(&Deployment::path(folder), &text)
    }
}

/// Makes a folder that only its owner may enter.
pub fn private_folder(folder: &Path) -> Result<(), String> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|error| format!("making {}: {error}", folder.display()))
}

/// Replaces a file as a whole, readable by its owner only.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("writing {}: {error}", path.display());
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        // A name alone: the folder this process works in.
        _ => Path::new("."),
    };
    std::fs::File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)
}

/// A random identifier in the usual text form (version 4).
pub fn guid() -> String {
    let mut bytes = [0; 16];
    region::fill_random(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn regions(names: &[&str]) -> Vec<RegionName> {
        names
            .iter()
            .map(|name| RegionName::parse(name).unwrap())
            .collect()
    }

    #[test]
    fn a_deployment_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let made =
            Deployment::load_or_make(folder.path(), &regions(&["a", "b"]), "x.localhost").unwrap();
        let found =
            Deployment::load_or_make(folder.path(), &regions(&["a", "b"]), "y.localhost").unwrap();
        assert_eq!(
            (made.id, made.client_secret),
            (found.id, found.client_secret)
        );
        assert_eq!(found.domain, "y.localhost");
    }

    #[test]
    fn other_regions_than_before_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        Deployment::load_or_make(folder.path(), &regions(&["a", "b"]), "d").unwrap();
        let error = Deployment::load_or_make(folder.path(), &regions(&["b", "a"]), "d")
            .err()
            .unwrap();
        assert!(error.contains("--regions a,b"), "{error}");
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        Deployment::load_or_make(folder.path(), &regions(&["a"]), "d").unwrap();
        let mode = std::fs::metadata(folder.path().join("deployment.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
