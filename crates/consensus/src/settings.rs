//! Who the members are and how patient.

use crate::NodeId;
use crate::error::ConsensusError;
use crate::standing::YOUNG_LOG_INDEX_MAX;
use openraft::{Config, SnapshotPolicy};
use std::path::PathBuf;
use types::limits;

const ELECTION_FIRST_MS: u64 = 600;
const ELECTION_STEP_MS: u64 = 500;
const ELECTION_WIDTH_MS: u64 = 100;
/// Log entries kept behind a snapshot, for followers that are a little late.
const KEPT_BEHIND_SNAPSHOT: u64 = 100;
const SNAPSHOT_CHUNK_TIMEOUT_MS: u64 = 5_000;

/// One member's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub me: NodeId,
    /// The initial members: the first [`limits::VOTERS_MAX`] vote, the rest learn.
    pub voters: Vec<NodeId>,
    /// This member's own folder, made when missing.
    pub folder: PathBuf,
    /// How often the leader is heard. An append that is not answered within this time is repeated, so it must exceed the
    /// longest round trip between members plus a disk flush.
    pub heartbeat_ms: u64,
    /// Shortest and longest silence after which this member wants to lead. The ranges of members do not overlap: openraft
    /// 0.9 draws once per process, and two equal draws would split votes for ever.
    pub election_ms: (u64, u64),
    /// Entries applied between two snapshots.
    pub snapshot_every: u64,
}

impl Settings {
    /// The usual settings of member `me` of `all`: heartbeat 100 ms, election ranges 600–700 ms, 1100–1200 ms, … by position.
    pub fn for_node(me: NodeId, all: &[NodeId], folder: impl Into<PathBuf>) -> Self {
        let position = all.iter().position(|node| *node == me).unwrap_or(all.len()) as u64;
        // Learners never campaign; voters keep the range of their position.
        let from = ELECTION_FIRST_MS + ELECTION_STEP_MS * position.min(limits::VOTERS_MAX as u64);
        Settings {
            me,
            voters: all.to_vec(),
            folder: folder.into(),
            heartbeat_ms: 100,
            election_ms: (from, from + ELECTION_WIDTH_MS),
            snapshot_every: 500,
        }
    }

    /// Those of the initial members that vote.
    pub(crate) fn initial_voters(&self) -> &[NodeId] {
        &self.voters[..self.voters.len().min(limits::VOTERS_MAX)]
    }

    pub(crate) fn check(&self) -> Result<(), ConsensusError> {
        let wrong = |why: String| Err(ConsensusError::Settings(why));
        if self.voters.is_empty() {
            return wrong("there are no members".into());
        }
        let distinct: std::collections::BTreeSet<_> = self.voters.iter().collect();
        if distinct.len() != self.voters.len() {
            return wrong("a member stands twice".into());
        }
        if self.heartbeat_ms == 0
            || self.election_ms.0 < 2 * self.heartbeat_ms
            || self.election_ms.0 >= self.election_ms.1
        {
            return wrong(format!(
                "an election range of {}–{} ms does not fit a heartbeat of {} ms",
                self.election_ms.0, self.election_ms.1, self.heartbeat_ms
            ));
        }
        if self.snapshot_every <= YOUNG_LOG_INDEX_MAX {
            return wrong(format!(
                "snapshots must be more than {YOUNG_LOG_INDEX_MAX} entries apart"
            ));
        }
        Ok(())
    }

    pub(crate) fn config(&self, may_campaign: bool) -> Result<Config, ConsensusError> {
        Config {
            cluster_name: "castling".into(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms.0,
            election_timeout_max: self.election_ms.1,
            install_snapshot_timeout: SNAPSHOT_CHUNK_TIMEOUT_MS,
            max_payload_entries: limits::CONSENSUS_ENTRIES_MAX as u64,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            snapshot_max_chunk_size: limits::CONSENSUS_SNAPSHOT_CHUNK_BYTES as u64,
            max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT.min(self.snapshot_every),
            enable_elect: may_campaign,
            ..Config::default()
        }
        .validate()
        .map_err(|e| ConsensusError::Settings(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn election_ranges_of_voters_do_not_overlap_and_are_patient_enough() {
        let all: Vec<NodeId> = (1..=7).collect();
        let ranges: Vec<_> = all
            .iter()
            .map(|me| Settings::for_node(*me, &all, "x").election_ms)
            .collect();
        for pair in ranges[..limits::VOTERS_MAX].windows(2) {
            assert!(pair[0].1 < pair[1].0, "{ranges:?}");
        }
        for me in &all {
            let settings = Settings::for_node(*me, &all, "x");
            settings.check().unwrap();
            settings.config(true).unwrap();
            assert_eq!(settings.initial_voters(), &all[..limits::VOTERS_MAX]);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::for_node(1, &[1, 2, 3], "x");
            change(&mut settings);
            assert!(
                matches!(settings.check(), Err(ConsensusError::Settings(_))),
                "{settings:?}"
            );
        };
        refused(|s| s.voters.clear());
        refused(|s| s.voters.push(1));
        refused(|s| s.heartbeat_ms = 0);
        refused(|s| s.heartbeat_ms = 400);
        refused(|s| s.election_ms = (700, 600));
        refused(|s| s.snapshot_every = 0);
    }
}
