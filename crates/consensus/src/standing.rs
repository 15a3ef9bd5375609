//! Whether this member may vote and campaign.
//!
//! A voter that lost its disk has forgotten which entries it once held for a majority. Were it to vote, a member without
//! those entries could win and they would be gone. So an empty folder is "not caught up": until its log has held
//! everything that was committed, the member gives no vote to a member of a grown cluster and does not campaign. While a
//! cluster is young (a few entries) nobody can be told from a newcomer, so everyone votes.

use crate::command::{Entry, LogId, Types, Vote};
use crate::disk::{Disk, blocking};
use crate::error::ConsensusError;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use std::sync::atomic::{AtomicBool, Ordering};

/// Up to this index a log is young: the founding entry, and what the first attempts to lead leave behind.
pub(crate) const YOUNG_LOG_INDEX_MAX: u64 = 8;

pub(crate) struct Standing {
    caught_up: AtomicBool,
}

impl Standing {
    pub fn load(disk: &Disk) -> Result<Self, ConsensusError> {
        Ok(Standing {
            caught_up: AtomicBool::new(disk.is_caught_up()?),
        })
    }

    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// True when a vote may be given to this candidate, as far as standing goes.
    pub fn may_vote(&self, request: &VoteRequest<u64>) -> bool {
        self.is_caught_up()
            || request
                .last_log_id
                .is_none_or(|id| id.index <= YOUNG_LOG_INDEX_MAX)
    }

    /// True when a member whose log ends at `last` may campaign.
    pub fn may_campaign(&self, last: Option<u64>) -> bool {
        self.is_caught_up() || last.is_some_and(|index| index <= YOUNG_LOG_INDEX_MAX)
    }

    /// Notes, on disk, that the log has held everything that was committed.
    pub async fn set_caught_up(&self, disk: Disk) -> Result<(), String> {
        if !self.is_caught_up() {
            blocking(move || disk.save_caught_up())
                .await
                .map_err(|e| e.to_string())?;
            self.caught_up.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// What an append shows, if the follower accepts it.
pub(crate) struct Shown {
    leader: Vote,
    committed: Option<LogId>,
    /// The last entry that the follower then shares with the leader.
    shared: Option<LogId>,
}

impl Shown {
    pub fn by(request: &AppendEntriesRequest<Types>) -> Shown {
        let last = request.entries.last().map(|entry: &Entry| entry.log_id);
        Shown {
            leader: request.vote,
            committed: request.leader_commit,
            shared: last.or(request.prev_log_id),
        }
    }

    /// True when the follower then holds everything that was ever committed.
    ///
    /// Only a leader that has committed an entry of its own term knows all that former leaders committed.
    pub fn is_everything(&self) -> bool {
        match (self.committed, self.shared) {
            (Some(committed), Some(shared)) => {
                committed.leader_id.term == self.leader.leader_id.term
                    && committed.index <= shared.index
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    fn standing(caught_up: bool) -> Standing {
        Standing {
            caught_up: AtomicBool::new(caught_up),
        }
    }

    #[test]
    fn a_member_with_an_empty_folder_votes_only_in_a_young_cluster() {
        let request = |last| VoteRequest::new(Vote::new(5, 2), last);
        let may = |caught_up, last| standing(caught_up).may_vote(&request(last));
        assert!(
            may(false, None)
                && may(false, Some(id(0, 0)))
                && may(false, Some(id(1, YOUNG_LOG_INDEX_MAX)))
        );
        assert!(!may(false, Some(id(1, YOUNG_LOG_INDEX_MAX + 1))));
        assert!(may(true, Some(id(1, 1_000_000))));
    }

    #[test]
    fn a_member_that_lost_its_disk_does_not_campaign_with_half_a_log() {
        assert!(standing(false).may_campaign(Some(0)));
        assert!(!standing(false).may_campaign(None));
        assert!(!standing(false).may_campaign(Some(500)));
        assert!(standing(true).may_campaign(Some(500)));
    }

    #[test]
    fn only_a_leader_that_committed_in_its_own_term_shows_everything() {
        let everything = |term, committed, shared| {
            Shown {
                leader: Vote::new_committed(term, 1),
                committed,
                shared,
            }
            .is_everything()
        };
        assert!(everything(3, Some(id(3, 9)), Some(id(3, 9))));
        assert!(everything(3, Some(id(3, 9)), Some(id(3, 12))));
        assert!(!everything(3, Some(id(3, 9)), Some(id(2, 8))));
        assert!(!everything(3, Some(id(2, 9)), Some(id(3, 10))));
        assert!(!everything(3, None, None));
    }
}
