//! Keeps a key that signs the management API's tokens in the control plane: the first at once, another when it is due.

use control::Command;
use control::directory::DirectoryCommand;
use region::Plane;
use std::sync::Arc;
use std::time::Duration;
use types::{RegionName, UnixMillis};

/// While there is no key nobody can sign in.
const FIRST_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks after which any region makes a key that is still due: the one whose turn it was is lost.
const PATIENCE_LOOKS: u32 = 5;

/// Makes keys as they are due, until the task is dropped.
pub async fn keep_key(plane: Arc<Plane>, now: impl Fn() -> UnixMillis) {
    let mut overdue = 0;
    loop {
        let (deployed, none, due) = plane.with(|state| {
            (
                !state.deployment.tenant.is_empty(),
                state.directory.keys.is_empty(),
                arm::tokens::key_is_due(state, now()),
            )
        });
        overdue = if deployed && due { overdue + 1 } else { 0 };
        if deployed && due && (my_turn(&plane) || overdue > PATIENCE_LOOKS) {
            match make(&plane).await {
                Ok(()) => overdue = 0,
                Err(why) => tracing::warn!(node = %plane.me(), %why, "no new key signs tokens yet"),
            }
            // Others look at the same moment: what was made is seen before the next look.
            tokio::time::sleep(FIRST_EVERY).await;
            continue;
        }
        tokio::time::sleep(if none { FIRST_EVERY } else { LOOK_EVERY }).await;
    }
}

/// The leader's, or the first region's while a witness leads.
fn my_turn(plane: &Plane) -> bool {
    match plane.leader() {
        Some(leader) if plane.witnesses().contains(&leader) => first(plane) == Some(plane.me()),
        Some(leader) => leader == *plane.me(),
        None => false,
    }
}

fn first(plane: &Plane) -> Option<&RegionName> {
    let mut nodes = plane.nodes().iter();
    nodes.find(|node| !plane.witnesses().contains(node))
}

async fn make(plane: &Plane) -> Result<(), String> {
    let key = tokio::task::spawn_blocking(arm::tokens::new_key)
        .await
        .map_err(|error| error.to_string())??;
    let command = Command::Directory(DirectoryCommand::AddKey(key));
    let by = format!("castling:{}", plane.me());
    match plane.submit(&by, command).await {
        Ok(control::Answer::Refused(refusal)) => Err(refusal.to_string()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.why),
    }
}
