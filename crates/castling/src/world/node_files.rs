//! A node's keys and certificates as files, and taking them anew when they change.

use super::castling_toml::{Files, Settings};
use super::node::{self, Certificates, Part};
use super::storage_key;
use link::pki::{Identity, ensure_secret, load_roots};
use link::tickets::SharedTickets;
use link::tls::Shown;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Files that a witness does without.
const ONLY_REGIONS: [&str; 1] = ["tickets_key"];
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Loads what a node proves itself with.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn certificates(files: &Files) -> Result<Certificates, String> {
    Ok(Certificates {
        link: Identity::load(&files.link_certificate, &files.link_key).map_err(all_of)?,
        authorities: Arc::new(load_roots(&files.link_authorities).map_err(all_of)?),
        server: Identity::load(&files.server_certificate, &files.server_key).map_err(all_of)?,
    })
}

/// Loads what regions share. A witness shares nothing: it makes a secret for its own sessions.
///
/// # Errors
/// When a file cannot be used. See [`all_there`] for missing ones: a region must not make its own, or it would not understand
/// what the others gave out.
pub fn shared(settings: &Settings) -> Result<Arc<SharedTickets>, String> {
    if settings.is_witness() {
        let mut secret = [0; 32];
        region::fill_random(&mut secret);
        return Ok(SharedTickets::with_system_clock(&secret));
    }
    let files = &settings.files;
    let secret = ensure_secret(&files.tickets_key).map_err(all_of)?;
    Ok(SharedTickets::with_system_clock(&secret))
}

/// The key that seals what the control plane stores on this node.
///
/// # Errors
/// When it cannot be read or made.
pub fn storage(settings: &Settings) -> Result<consensus::StorageKey, String> {
    storage_key::load_or_make(&settings.files.storage_key)
}

/// # Errors
/// Names every file that is missing, with its setting.
pub fn all_there(settings: &Settings) -> Result<(), String> {
    let missing: Vec<String> = settings
        .files
        .all()
        .into_iter()
        .filter(|(setting, _)| !(settings.is_witness() && ONLY_REGIONS.contains(setting)))
        .filter(|(_, path)| !path.exists())
        .map(|(setting, path)| format!("{setting}: {} is missing", path.display()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; `castling init node {} --folder DIR` makes a node's files anew",
        missing.join("\n"),
        settings.node
    ))
}

/// An error with what caused it.
fn all_of(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Takes changed certificates: looks every minute, and when told by `now`. Ends with the sender of `now`.
pub async fn keep_fresh(
    files: Files,
    part: Part,
    shown: Arc<Shown>,
    mut now: watch::Receiver<u64>,
) {
    let mut known = times(&files);
    loop {
        let told = match tokio::time::timeout(LOOK_EVERY, now.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return,
            Err(_) => false,
        };
        let found = times(&files);
        if found == known && !told {
            continue;
        }
        let taken = certificates(&files).and_then(|new| {
            node::renew(&part, &shown, &new)?;
            Ok(node::days_left(&new))
        });
        match taken {
            Ok(days) => {
                tracing::info!(node = %part.me(), days, "took new certificates");
                known = found;
            }
            // Not noted as known: half of a change is looked at again.
            Err(why) => tracing::error!(node = %part.me(), %why, "new certificates cannot be used"),
        }
    }
}

/// When each file was changed last.
fn times(files: &Files) -> Vec<Option<SystemTime>> {
    let changed = |path: &std::path::Path| std::fs::metadata(path).ok()?.modified().ok();
    files.all().iter().map(|(_, path)| changed(path)).collect()
}
