//! The last resort when most voters are gone for good: one survivor goes on alone.

use crate::command::{Entry, LogId, Vote};
use crate::disk::Disk;
use crate::error::ConsensusError;
use crate::settings::Settings;
use openraft::{CommittedLeaderId, EntryPayload, Membership};
use std::collections::BTreeSet;

/// How far the term jumps, so that a lost voter that comes back after all is outdone.
const TERM_STEP: u64 = 1_000;

/// Makes the stopped member in `settings.folder` the only voter of its cluster; gives the new term.
///
/// Everything in its log counts as committed. What only the lost voters knew is gone. Others must come back with empty
/// folders and be added by [`Consensus::set_voters`](crate::Consensus::set_voters): a lost voter that still has its
/// folder would keep its old cluster alive.
///
/// # Errors
/// [`ConsensusError`] when the folder cannot be opened or holds no cluster this member votes in; nothing was changed.
pub fn rebuild_from_survivor(settings: &Settings) -> Result<u64, ConsensusError> {
    let (disk, _) = Disk::open(&settings.folder, settings.storage_key.clone())?;
    let no_voter = || {
        ConsensusError::Settings(format!(
            "the folder holds no cluster in which node {} votes",
            settings.me
        ))
    };
    if !disk
        .membership()?
        .membership()
        .voter_ids()
        .any(|voter| voter == settings.me)
    {
        return Err(no_voter());
    }
    let last = disk.last_log_id()?.ok_or_else(no_voter)?;
    let voted = disk.vote()?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term).saturating_add(TERM_STEP);
    let alone = Membership::new(vec![BTreeSet::from([settings.me])], None);
    let entry = Entry {
        log_id: LogId::new(CommittedLeaderId::new(term, settings.me), last.index + 1),
        payload: EntryPayload::Membership(alone),
    };
    disk.rewrite(&entry, &Vote::new(term, settings.me))?;
    Ok(term)
}
