//! Where consumer groups stand, a route of our own:
//! `GET|PUT /messages/events/consumerGroups/{g}/partitions/{p}/offset` with `{"next","epoch"}`.
//!
//! `next` is the first sequence number that was not read yet, as a page of events gives it; both are null while nothing is
//! stored. In a PUT, `epoch` is the page's; it may be left out and is then the hub's present one. A position that was read
//! before a forced failover and lies in what that one lost is refused (409901 ConsumerOffsetDiverged): the consumer reads on
//! from the point of divergence. Needs ServiceConnect.

use super::answer::{empty, json_of};
use super::auth::Right;
use super::call::Call;
use super::events;
use super::failure::Failure;
use super::rewind;
use super::route::Answer;
use axum::http::{Method, StatusCode};
use hub::command::{ConsumerCommand, StoredOffset};
use hub::{Command, Reply};
use serde::{Deserialize, Serialize};
use types::{Epoch, ErrorCode, PartitionId, Sequence};

#[derive(Serialize)]
struct Shown {
    next: Option<Sequence>,
    epoch: Option<Epoch>,
}

#[derive(Deserialize)]
struct Asked {
    next: Sequence,
    epoch: Option<Epoch>,
}

pub(super) async fn one(call: Call) -> Answer {
    if !matches!(call.method, Method::GET | Method::PUT) {
        return Err(Failure::method_not_allowed("GET, PUT"));
    }
    call.authorize(Right::ServiceConnect)?;
    let group = events::group(&call, call.segment(3))?.to_owned();
    let partition = events::partition(&call, 5)?;
    if call.method == Method::GET {
        let stored = stored(&call, partition, &group).await?;
        return Ok(json_of(&Shown {
            next: stored.map(|o| o.next),
            epoch: stored.map(|o| o.epoch),
        }));
    }
    let body = call.json().await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            ErrorCode::IotHubFormatError,
            format!("The body is not {{\"next\",\"epoch\"}}: {error}."),
        )
    })?;
    let offset = StoredOffset {
        next: asked.next,
        epoch: asked.epoch.unwrap_or(call.hub.epoch),
    };
    // What this region has not heard of yet does no harm: the position carries its epoch, and who reads on from it is put back.
    if let Some(rewound) = rewind::of(&call.hub.divergences, partition, offset.epoch, offset.next) {
        return Err(Failure::new(
            ErrorCode::ConsumerOffsetDiverged,
            format!(
                "The forced failover to epoch {} lost events from sequence number {} on that were read in epoch {}. Nothing was stored; read on from {}.",
                rewound.epoch, rewound.to, offset.epoch, rewound.to
            ),
        ));
    }
    match call
        .ask(
            partition,
            Command::Consumer(ConsumerCommand::Commit { group, offset }),
        )
        .await?
    {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        _ => Err(Failure::unexpected_reply()),
    }
}

/// The position a consumer group stored.
pub(super) async fn stored(
    call: &Call,
    partition: PartitionId,
    group: &str,
) -> Result<Option<StoredOffset>, Failure> {
    let command = ConsumerCommand::Get {
        group: group.to_owned(),
    };
    match call.ask(partition, Command::Consumer(command)).await? {
        Reply::Offset(offset) => Ok(offset),
        _ => Err(Failure::unexpected_reply()),
    }
}
