//! Feedback about cloud-to-device messages: `/messages/serviceBound/feedback` (data-plane notes section 5.1).

use super::answer::{empty, entity};
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::http::{Method, StatusCode};
use hub::command::FeedbackCommand;
use hub::{Command, Reply};
use types::{ErrorCode, PartitionId};

/// Locks the waiting records of the next partition that has any; 204 when none has.
pub(super) async fn receive(call: Call) -> Answer {
    if call.method != Method::GET {
        return Err(Failure::method_not_allowed("GET"));
    }
    call.authorize(Right::ServiceConnect)?;
    let count = call.hub.settings.partition_count;
    let first = (call.api.next_feedback_turn() % u64::from(count.max(1))) as u16;
    for partition in (first..count).chain(0..first).map(PartitionId) {
        match call
            .ask(partition, Command::Feedback(FeedbackCommand::Lock))
            .await?
        {
            Reply::Feedback(Some(batch)) => {
                return entity(batch.body, &lock_text(partition, &batch.lock_token));
            }
            Reply::Feedback(None) => {}
            _ => return Err(Failure::unexpected_reply()),
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn complete(call: Call) -> Answer {
    if call.method != Method::DELETE {
        return Err(Failure::method_not_allowed("DELETE"));
    }
    settle(call, |lock_token| FeedbackCommand::Complete { lock_token }).await
}

pub(super) async fn abandon(call: Call) -> Answer {
    if call.method != Method::POST {
        return Err(Failure::method_not_allowed("POST"));
    }
    settle(call, |lock_token| FeedbackCommand::Abandon { lock_token }).await
}

async fn settle(call: Call, command: impl FnOnce(String) -> FeedbackCommand) -> Answer {
    call.authorize(Right::ServiceConnect)?;
    let (partition, token) = read_lock(call.segment(3), call.hub.settings.partition_count)?;
    match call
        .ask(partition, Command::Feedback(command(token)))
        .await?
    {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        _ => Err(Failure::unexpected_reply()),
    }
}

/// A lock as clients see it: `{partition}.{token}`.
fn lock_text(partition: PartitionId, token: &str) -> String {
    format!("{partition}.{token}")
}

fn read_lock(text: &str, partition_count: u16) -> Result<(PartitionId, String), Failure> {
    let read = || {
        let (partition, token) = text.split_once('.')?;
        let partition = partition
            .parse()
            .ok()
            .filter(|number| *number < partition_count)?;
        Some((PartitionId(partition), token.to_owned()))
    };
    read().ok_or_else(|| {
        Failure::new(
            ErrorCode::DeviceMessageLockLost,
            "The lock is unknown or no longer held.",
        )
    })
}
