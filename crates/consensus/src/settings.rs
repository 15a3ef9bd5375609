//! Who the members are and how patient.

use crate::NodeId;
use crate::error::ConsensusError;
use crate::seal::StorageKey;
use crate::standing::YOUNG_LOG_INDEX_MAX;
use openraft::{Config, SnapshotPolicy};
use std::path::PathBuf;
use types::limits;

/// Log entries kept behind a snapshot, for followers that are a little late.
const KEPT_BEHIND_SNAPSHOT: u64 = 100;
const SNAPSHOT_CHUNK_TIMEOUT_MS: u64 = 5_000;

/// How patient members are, in milliseconds; the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// See [`Settings::heartbeat_ms`].
    pub heartbeat_ms: u64,
    /// Lower end of the first voter's election range, and what each further one adds to it.
    pub election_ms: u64,
    pub election_step_ms: u64,
}

/// Width of an election range.
const ELECTION_WIDTH_MS: u64 = 100;

impl Default for Times {
    /// Fit for links with a round trip of 100 ms and disks that flush in 50 ms; commits on faster ones do not wait for them.
    fn default() -> Self {
        Times {
            heartbeat_ms: 300,
            election_ms: 600,
            election_step_ms: 300,
        }
    }
}

impl Times {
    /// The election range of the member at `position`. Learners never campaign; voters keep the range of their position.
    fn range(&self, position: usize) -> (u64, u64) {
        let steps = position.min(limits::VOTERS_MAX) as u64;
        let from = self.election_ms + self.election_step_ms * steps;
        (from, from + ELECTION_WIDTH_MS)
    }

    /// Longest silence of a leader before the most patient of so many members campaigns: openraft waits out its own upper end
    /// (during which it gives no vote either) and then a draw from its range.
    pub fn election_ms_max(&self, members: usize) -> u64 {
        let voters = members.clamp(1, limits::VOTERS_MAX);
        2 * self.range(voters - 1).1
    }

    /// What is wrong with them for a deployment of so many members, whose regions must find a new leader within their lease.
    pub fn mistake(&self, members: usize, lease_ms: u64, renew_ms: u64) -> Option<String> {
        if self.heartbeat_ms == 0 || renew_ms == 0 {
            return Some("heartbeat_ms and lease_renew_ms must not be 0".into());
        }
        if self.election_ms < 2 * self.heartbeat_ms {
            return Some(format!(
                "election_ms ({}) must be at least twice heartbeat_ms ({}): one lost heartbeat is no reason to elect",
                self.election_ms, self.heartbeat_ms
            ));
        }
        if self.election_step_ms <= ELECTION_WIDTH_MS {
            return Some(format!(
                "election_step_ms ({}) must be more than {ELECTION_WIDTH_MS}: members must not campaign at the same time",
                self.election_step_ms
            ));
        }
        if renew_ms.saturating_mul(4) > lease_ms {
            return Some(format!(
                "lease_renew_ms ({renew_ms}) must be at most a quarter of lease_ms ({lease_ms})"
            ));
        }
        let needed = self.election_ms_max(members) + self.heartbeat_ms + renew_ms;
        (needed > lease_ms).then(|| {
            format!(
                "lease_ms ({lease_ms}) must be at least {needed}, or a region would lose its lease while a new leader is elected: the most patient of {members} nodes elects after {} ms; with a heartbeat of {} ms and a renewal every {renew_ms} ms",
                self.election_ms_max(members),
                self.heartbeat_ms
            )
        })
    }
}

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
    /// While it leads, this member gives initial voters that follow without a vote theirs back once they have caught up. For
    /// members that never change their voters otherwise.
    pub restore_votes: bool,
    /// Seals what is stored; without one it is stored as it is.
    pub storage_key: Option<StorageKey>,
}

impl Settings {
    /// The usual settings of member `me` of `all`: heartbeat 300 ms, election ranges 600–700 ms, 900–1000 ms, … by position.
    pub fn for_node(me: NodeId, all: &[NodeId], folder: impl Into<PathBuf>) -> Self {
        Settings::with_times(me, all, folder, Times::default())
    }

    /// The settings of member `me` of `all` with other times.
    pub fn with_times(
        me: NodeId,
        all: &[NodeId],
        folder: impl Into<PathBuf>,
        times: Times,
    ) -> Self {
        let position = all.iter().position(|node| *node == me).unwrap_or(all.len());
        Settings {
            me,
            voters: all.to_vec(),
            folder: folder.into(),
            heartbeat_ms: times.heartbeat_ms,
            election_ms: times.range(position),
            snapshot_every: 500,
            restore_votes: false,
            storage_key: None,
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
    fn the_usual_times_fit_the_usual_lease_whatever_the_number_of_voters() {
        for members in 1..=7 {
            let mistake =
                Times::default().mistake(members, limits::LEASE_MS, limits::LEASE_RENEW_MS);
            assert_eq!(mistake, None, "{members} members");
        }
    }

    #[test]
    fn times_that_do_not_fit_each_other_are_named() {
        let names = |times: Times, lease, renew, what: &str| {
            let mistake = times.mistake(3, lease, renew).unwrap();
            assert!(mistake.contains(what), "{mistake}");
        };
        let usual = Times::default();
        let with = |heartbeat_ms, election_ms, election_step_ms| Times {
            heartbeat_ms,
            election_ms,
            election_step_ms,
        };
        names(with(0, 600, 300), 5_000, 500, "heartbeat_ms");
        names(with(400, 600, 300), 5_000, 500, "twice heartbeat_ms");
        names(with(300, 600, 100), 5_000, 500, "election_step_ms");
        names(usual, 5_000, 2_000, "a quarter of lease_ms");
        names(usual, 3_000, 500, "at least 3400");
        names(with(300, 1_200, 600), 5_000, 500, "at least 5800");
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
