//! Putting a message into a device's queue.

use super::message::{self, Header};
use super::queue::Queue;
use super::{Work, token};
use crate::command::C2dMessage;
use crate::{Decision, Refused, Reply, keys, registry};
use types::{DeviceId, ErrorCode, Reject, UnixMillis, limits};

pub(super) fn decide(
    mut work: Work<'_>,
    device: &DeviceId,
    message: &C2dMessage,
) -> Result<Decision, Refused> {
    check_sizes(message)?;
    check_id("message id", &message.message_id)?;
    check_id(
        "correlation id",
        message.correlation_id.as_deref().unwrap_or_default(),
    )?;
    let expiry = check_expiry(&work, message.expiry)?;
    let Some(identity) = registry::identity(work.view, device)? else {
        return Err(Reject::new(ErrorCode::DeviceNotFound, "the device is not registered").into());
    };

    let before = Queue::load(work.view, device)?;
    let mut queue = before.clone();
    let step = queue.refresh(work.now(), work.deliveries_max(), None);
    if queue.messages.len() >= limits::C2D_QUEUE_DEPTH_MAX {
        let text = format!(
            "{} messages wait for the device already",
            limits::C2D_QUEUE_DEPTH_MAX
        );
        return Err(Reject::new(ErrorCode::DeviceMaximumQueueDepthExceeded, text).into());
    }
    let sequence = queue.push(expiry, message.ack);
    work.change(
        device,
        &before,
        &queue,
        super::Step {
            ended: step.ended,
            freed: true,
        },
    )?;

    let message_id = match message.message_id.as_str() {
        "" => token::new_guid(work.context),
        given => given.to_owned(),
    };
    let header = Header {
        message_id: message_id.clone(),
        enqueued: work.now(),
        expiry,
        generation: identity.generation,
        ack: message.ack,
        correlation_id: message.correlation_id.clone(),
        user_id: message.user_id.clone(),
        content_type: message.content_type.clone(),
        content_encoding: message.content_encoding.clone(),
        properties: message.properties.clone(),
    };
    work.decision.writes.put(
        keys::c2d_message(device, sequence),
        message::encode(&header, &message.body),
    );
    Ok(work.finish(Reply::C2dQueued {
        message_id,
        sequence,
    })?)
}

fn check_sizes(message: &C2dMessage) -> Result<(), Reject> {
    if message.body.len() > limits::C2D_MESSAGE_BYTES_MAX {
        let (size, max) = (message.body.len(), limits::C2D_MESSAGE_BYTES_MAX);
        return Err(Reject::new(
            ErrorCode::MessageTooLarge,
            format!("a body of {size} bytes exceeds the limit of {max} bytes"),
        ));
    }
    let texts = [
        &message.correlation_id,
        &message.user_id,
        &message.content_type,
        &message.content_encoding,
    ];
    let system =
        message.message_id.len() + texts.into_iter().flatten().map(String::len).sum::<usize>();
    // Each pair also costs its two separators, so that empty pairs are bounded too.
    let application: usize = message
        .properties
        .iter()
        .map(|(key, value)| key.len() + value.len() + 2)
        .sum();
    if system + application > limits::C2D_PROPERTIES_BYTES_MAX {
        let (size, max) = (system + application, limits::C2D_PROPERTIES_BYTES_MAX);
        let text = format!("properties of {size} bytes exceed the limit of {max} bytes");
        return Err(Reject::new(ErrorCode::MessageTooLarge, text));
    }
    Ok(())
}

/// Message and correlation ids: data-plane notes section 3.5.
fn check_id(what: &str, id: &str) -> Result<(), Reject> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@;$'".contains(&byte);
    if id.len() > limits::MESSAGE_ID_CHARS_MAX || !id.bytes().all(allowed) {
        let text = format!(
            "the {what} must have at most 128 characters of A-Z a-z 0-9 and - : . + % _ # * ? ! ( ) , = @ ; $ '"
        );
        return Err(Reject::new(ErrorCode::ArgumentInvalid, text));
    }
    Ok(())
}

fn check_expiry(work: &Work<'_>, given: Option<UnixMillis>) -> Result<UnixMillis, Reject> {
    let now = work.now();
    let Some(expiry) = given else {
        return Ok(now.plus(work.context.settings.cloud_to_device.default_ttl_ms.max(1)));
    };
    let invalid = |text| Err(Reject::new(ErrorCode::InvalidMessageExpiryTime, text));
    if expiry <= now {
        invalid("the expiry time lies in the past")
    } else if expiry.since(now) > limits::C2D_TTL_MAX_MS {
        invalid("the expiry time is more than two days ahead")
    } else {
        Ok(expiry)
    }
}
