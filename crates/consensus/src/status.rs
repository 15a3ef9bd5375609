//! What a member knows of itself and its leader.

use crate::NodeId;
use openraft::{EmptyNode, RaftMetrics, ServerState};

/// A member's view of the cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub me: NodeId,
    /// Whom this member takes for the leader. A leader that is cut off takes itself for it until it hears otherwise.
    pub leader: Option<NodeId>,
    pub is_leader: bool,
    pub term: u64,
    /// Index of the last entry the machine has applied; 0 while there is none.
    pub last_applied: u64,
    /// In order; empty before the cluster was founded.
    pub voters: Vec<NodeId>,
    /// Members that follow without a vote, in order.
    pub learners: Vec<NodeId>,
    /// Why this member stopped for good (its disk failed); it must be restarted.
    pub failed: Option<String>,
}

impl Status {
    pub(crate) fn of(metrics: &RaftMetrics<NodeId, EmptyNode>) -> Status {
        let membership = metrics.membership_config.membership();
        let mut voters: Vec<NodeId> = membership.voter_ids().collect();
        voters.sort_unstable();
        voters.dedup();
        let mut learners: Vec<NodeId> = membership.learner_ids().collect();
        learners.sort_unstable();
        Status {
            me: metrics.id,
            leader: metrics.current_leader,
            is_leader: metrics.state == ServerState::Leader,
            term: metrics.current_term,
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            voters,
            learners,
            failed: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string),
        }
    }
}
