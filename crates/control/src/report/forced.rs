//! What the report of a forced failover says beyond a planned one's: the loss as it was shown, accepted and found.

use crate::checks::CheckReport;
use crate::details::{LeaseDetail, OpenDetail, read};
use crate::divergence::{LostRange, Position, Return};
use crate::iso::iso8601;
use crate::loss::{AcceptedLoss, LossEstimate};
use crate::model::{Hub, Operation, OperationKind, StepName};
use serde_json::{Map, Value, json};

/// Adds the fields of a forced failover; of a planned one it says that nothing is lost.
pub(super) fn add(fields: &mut Map<String, Value>, operation: &Operation, hub: &Hub) {
    let OperationKind::Forced {
        accept,
        shown,
        took_over,
        ..
    } = &operation.kind
    else {
        fields.insert("lost".into(), json!({ "records": 0, "exact": true }));
        return;
    };
    let checked = read::<CheckReport>(operation, StepName::Check).and_then(|report| report.loss);
    let lease = read::<LeaseDetail>(operation, StepName::Lease);
    let opened = read::<OpenDetail>(operation, StepName::Open).unwrap_or_default();
    let estimate = checked.as_ref().unwrap_or(shown);
    let lost = match operation.is_committed() {
        true => json!({
            "records": estimate.records,
            "events": estimate.events,
            "bytes": estimate.bytes,
            "spanMs": estimate.span_ms,
            "worstMs": estimate.worst_ms,
            "exact": false,
        }),
        false => json!({ "records": 0, "exact": true }),
    };
    fields.insert("lost".into(), lost);
    fields.insert("tookOver".into(), json!(took_over));
    fields.insert("lossAccepted".into(), accepted(accept));
    fields.insert("lossShown".into(), estimated(shown));
    let checked = checked.as_ref().map(estimated);
    fields.insert("lossChecked".into(), json!(checked));
    fields.insert("leaseWaitMs".into(), json!(lease.map(|l| l.waited_ms)));
    fields.insert("leaseConfirmed".into(), json!(lease.map(|l| l.confirmed)));
    let positions: Vec<_> = opened.opened.iter().map(position).collect();
    fields.insert("positions".into(), json!(positions));
    fields.insert("returned".into(), Value::Null);
    let parted = hub.divergences.iter().find(|d| d.operation == operation.id);
    if let Some(back) = parted.and_then(|divergence| divergence.returned.as_ref()) {
        put_return(fields, back);
    }
}

/// Adds the exact loss to the report of a forced failover, once its old primary has returned.
pub fn add_return(report: &mut Value, back: &Return) {
    if let Some(fields) = report.as_object_mut() {
        put_return(fields, back);
    }
}

fn put_return(fields: &mut Map<String, Value>, back: &Return) {
    let wiped = back.partitions.is_empty();
    fields.insert(
        "returned".into(),
        json!({ "at": iso8601(back.at), "region": back.region, "withItsData": !wiped }),
    );
    if wiped {
        // What it alone had is gone with its disk: the estimate is all there ever will be.
        return;
    }
    let ranges: Vec<_> = back.partitions.iter().map(range).collect();
    fields.insert(
        "lost".into(),
        json!({
            "records": back.records(),
            "events": back.events(),
            "bytes": back.bytes(),
            "spanMs": back.span_ms(),
            "exact": true,
            "partitions": ranges,
        }),
    );
}

fn accepted(accept: &AcceptedLoss) -> Value {
    json!({
        "all": accept.all,
        "spanMs": accept.span_ms,
        "records": accept.records,
        "text": accept.text(),
    })
}

/// The estimate without its partitions: those of the check stand there.
fn estimated(loss: &LossEstimate) -> Value {
    json!({
        "at": iso8601(loss.at),
        "records": loss.records,
        "events": loss.events,
        "bytes": loss.bytes,
        "devices": loss.devices,
        "devicesCut": loss.devices_cut,
        "kinds": loss.kinds,
        "spanMs": loss.span_ms,
        "ageMs": loss.age_ms,
        "worstMs": loss.worst_ms,
        "unknown": loss.unknown,
    })
}

fn position(at: &Position) -> Value {
    json!({ "partition": at.partition, "lsn": at.lsn, "nextSequence": at.next_sequence })
}

fn range(range: &LostRange) -> Value {
    json!({
        "partition": range.partition,
        "from": range.from,
        "to": range.to,
        "records": range.records,
        "events": range.events,
        "bytes": range.bytes,
        "firstTime": range.first_time.map(iso8601),
        "lastTime": range.last_time.map(iso8601),
    })
}
