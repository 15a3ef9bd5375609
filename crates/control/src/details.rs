//! What each step of a failover records (docs/formats/report.md). The coordinator builds details with these types only, and
//! [`crate::failover::next_action`] reads them back: what is not recorded did not happen.

use crate::checks::CheckReport;
use crate::divergence::Position;
use crate::model::Operation;
use crate::model::StepName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Epoch, Lsn, PartitionId, RegionName};

/// How far the secondary was behind when the hub was about to be fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmDetail {
    pub lag_records: u64,
    pub lag_ms: i64,
}

/// Where one partition's log ends at the handover, and the digest of its state there, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub partition: PartitionId,
    pub end: Lsn,
    pub digest: String,
}

/// The handover records of all partitions: written by the old primary (fence), and reached by the new one (catch up).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverDetail {
    pub partitions: Vec<Handover>,
}

/// The epoch that begins and its primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDetail {
    pub epoch: Epoch,
    pub primary: RegionName,
}

/// How long the old primary's lease was waited for, in milliseconds. `confirmed`: it said itself that it is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseDetail {
    pub waited_ms: i64,
    #[serde(default)]
    pub confirmed: bool,
}

/// What the new primary found when it opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDetail {
    /// Device sockets open before the fence, and still open now; `None`: not known.
    pub sockets_before: Option<u64>,
    pub sockets_kept: Option<u64>,
    /// Requests that gateways held during the pause.
    pub requests_parked: u64,
    /// Where each partition stood when the new epoch began.
    #[serde(default)]
    pub opened: Vec<Position>,
}

/// That the old primary follows, from the handover record on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReverseDetail {
    pub partitions_following: u16,
}

/// That the old primary serves again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfenceDetail {
    pub partitions_released: u16,
}

/// A detail as it is recorded.
pub fn record(detail: &impl Serialize) -> Value {
    serde_json::to_value(detail).expect("details are plain data with text keys")
}

/// What an ended step recorded, if it has this shape.
pub fn read<T: for<'a> Deserialize<'a>>(operation: &Operation, step: StepName) -> Option<T> {
    let step = operation.step(step).filter(|step| step.ended.is_some())?;
    T::deserialize(&step.detail).ok()
}

/// The check step's outcome: ready, or the failed checks in one text.
pub(crate) fn check_outcome(operation: &Operation) -> Result<(), String> {
    let Some(report) = read::<CheckReport>(operation, StepName::Check) else {
        return Err("the check step recorded no readable result".into());
    };
    if report.ready {
        Ok(())
    } else {
        Err(report.why_not())
    }
}

/// Whether the new primary has reached every handover record with the same digest. `partitions`: how many the hub has.
///
/// # Errors
/// What disagrees, in words; a record that is missing or cannot be read disagrees too.
pub fn handover_agrees(operation: &Operation, partitions: u16) -> Result<(), String> {
    let read = |step: StepName| {
        read::<HandoverDetail>(operation, step)
            .ok_or_else(|| format!("step {} recorded no handover", step.name()))
    };
    let (fenced, reached) = (read(StepName::Fence)?, read(StepName::CatchUp)?);
    for number in 0..partitions {
        let of = |detail: &HandoverDetail, who: &str| {
            let found = detail
                .partitions
                .iter()
                .find(|h| h.partition.0 == number)
                .cloned();
            found.ok_or_else(|| {
                format!("partition {number}: the {who} primary named no handover record")
            })
        };
        let (old, new) = (of(&fenced, "old")?, of(&reached, "new")?);
        if old.end != new.end {
            return Err(format!(
                "partition {number}: the log ends at {}, the new primary is at {}",
                old.end, new.end
            ));
        }
        if old.digest != new.digest {
            return Err(format!(
                "partition {number}: digests differ at {}: {} and {}",
                old.end, old.digest, new.digest
            ));
        }
    }
    Ok(())
}
