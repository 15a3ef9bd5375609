//! The mark in a head that a region is on its way to another history, and its end.

use replication::{Goal, Head, Rewind, Stage};
use types::Lsn;

/// The head of an emptied partition on the way to `goal`.
pub(in super::super) fn emptied(own: &Head, goal: Goal) -> Head {
    Head {
        rewind: Some(Rewind {
            stage: Stage::Copy,
            common: Lsn(0),
            set_aside: own.rewind.map_or(0, |rewind| rewind.set_aside),
            goal,
        }),
        ..Head::default()
    }
}

/// After a record of the other region: true when the goal is reached and holds, an error when it does not hold.
pub(in super::super) fn arrived(head: &mut Head) -> Result<bool, String> {
    let Some(rewind) = head.rewind else {
        return Ok(false);
    };
    let goal = rewind.goal;
    if rewind.stage == Stage::Difference || head.lsn != goal.lsn {
        return Ok(false);
    }
    if (head.crc, head.state) != (goal.crc, goal.state) {
        return Err(format!(
            "at record {} content or history are not the other region's",
            head.lsn
        ));
    }
    head.chain = goal.chain;
    head.rewind = None;
    Ok(true)
}
