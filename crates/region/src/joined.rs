//! Which hubs a region may not lead because their data was lost with its folder.
//!
//! A region whose folder is new while the control plane calls it a hub's primary would lead with nothing, and everything
//! acknowledged would be gone. So on its first start ever it notes those hubs, and takes no part in them until they
//! have moved to another epoch: a forced failover makes the other region primary, and this one follows it from nothing.

use control::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use types::{Epoch, HubId, RegionName, UnixMillis};

const FORMAT: u32 = 1;

/// `joined.json` in the region's folder.
#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    lost: Vec<(HubId, Epoch)>,
    /// When the folder was made; absent: it was before this was noted.
    #[serde(default)]
    began: UnixMillis,
}

/// What is known of this folder's past.
pub(crate) struct Joined {
    path: PathBuf,
    /// `None`: the folder is new, and the control plane was not read yet.
    lost: Option<BTreeMap<HubId, Epoch>>,
    began: UnixMillis,
}

impl Joined {
    /// Reads what was noted; a folder that holds partitions and no note was made by a version that noted nothing.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn load(folder: &Path, holds_data: bool) -> Result<Joined, String> {
        let path = folder.join("joined.json");
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let mut began = UnixMillis(0);
        let lost = match std::fs::read(&path) {
            Ok(bytes) => {
                let file: File = serde_json::from_slice(&bytes).map_err(|why| failed(&why))?;
                if file.format != FORMAT {
                    return Err(failed(&format!(
                        "format {} is not known to this version",
                        file.format
                    )));
                }
                began = file.began;
                Some(file.lost.into_iter().collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                holds_data.then(BTreeMap::new)
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Joined { path, lost, began })
    }

    /// Notes, once, which hubs the control plane gives to this region though it has nothing of them.
    ///
    /// # Errors
    /// When the note cannot be written: the region must not lead before it is.
    pub fn note(&mut self, state: &State, me: &RegionName, now: UnixMillis) -> Result<(), String> {
        if self.lost.is_some() {
            return Ok(());
        }
        let lost: Vec<(HubId, Epoch)> = state
            .hubs
            .values()
            .filter(|hub| hub.primary == *me && hub.state != control::HubState::Activating)
            .map(|hub| (hub.id, hub.epoch))
            .collect();
        let file = File {
            format: FORMAT,
            lost: lost.clone(),
            began: now,
        };
        let bytes = serde_json::to_vec(&file).expect("numbers always serialise");
        write(&self.path, &bytes).map_err(|why| format!("{}: {why}", self.path.display()))?;
        for (hub, epoch) in &lost {
            tracing::error!(%hub, %epoch, "this region's folder is new, but it is this hub's primary: its data here is lost. Fail the hub over to its secondary (castling hub failover start HUB --forced)");
        }
        self.lost = Some(lost.into_iter().collect());
        self.began = now;
        Ok(())
    }

    /// When the folder was made; 0: not known.
    pub fn began(&self) -> UnixMillis {
        self.began
    }

    /// Whether this region has lost what it should lead at this epoch.
    pub fn lost(&self, hub: HubId, epoch: Epoch) -> bool {
        let lost = self.lost.as_ref().and_then(|lost| lost.get(&hub));
        lost == Some(&epoch)
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
