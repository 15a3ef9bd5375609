//! Cloud-to-device messages as a device takes them over HTTPS: `/devices/{id}/messages/deviceBound` (data-plane notes
//! sections 4 and 10.1).

use super::answer::empty;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hub::command::{Ack, C2dCommand, LockOwner, LockedMessage};
use hub::{Command, Reply};
use types::{DeviceId, limits};
use wire::c2d::Delivery;

/// Chooses how long the device holds the lock, in seconds.
const LOCK_TIMEOUT: &str = "iothub-messagelocktimeout";
const LOCK_TIMEOUT_S: std::ops::RangeInclusive<u64> = 5..=300;

/// Locks and hands over the next message; 204 when none waits.
pub(super) async fn receive(call: Call) -> Answer {
    if call.method != Method::GET {
        return Err(Failure::method_not_allowed("GET, POST"));
    }
    let device = call.device(1)?;
    call.authorize_device(&device).await?;
    let lock_s = call.query.number(
        LOCK_TIMEOUT,
        LOCK_TIMEOUT_S,
        limits::C2D_LOCK_MS as u64 / 1000,
    )?;
    let command = C2dCommand::Lock {
        device: device.clone(),
        max: 1,
        owner: LockOwner::Http,
        lock_ms: lock_s as i64 * 1000,
    };
    match call.ask_for(&device, Command::C2d(command)).await? {
        Reply::C2dMessages(messages) => match messages.into_iter().next() {
            Some(message) => delivery(&device, message),
            None => Ok(empty(StatusCode::NO_CONTENT)),
        },
        _ => Err(Failure::unexpected_reply()),
    }
}

/// Completes a message, or rejects it when the query says so.
pub(super) async fn settle(call: Call) -> Answer {
    if call.method != Method::DELETE {
        return Err(Failure::method_not_allowed("DELETE"));
    }
    let reject = call
        .query
        .get("reject")
        .is_some_and(|value| !value.eq_ignore_ascii_case("false"));
    end(call, |device, lock_token| {
        if reject {
            C2dCommand::Reject { device, lock_token }
        } else {
            C2dCommand::Complete { device, lock_token }
        }
    })
    .await
}

/// Gives a message back to its queue.
pub(super) async fn abandon(call: Call) -> Answer {
    if call.method != Method::POST {
        return Err(Failure::method_not_allowed("POST"));
    }
    end(call, |device, lock_token| C2dCommand::Abandon {
        device,
        lock_token,
    })
    .await
}

async fn end(call: Call, command: impl FnOnce(DeviceId, String) -> C2dCommand) -> Answer {
    let device = call.device(1)?;
    call.authorize_device(&device).await?;
    let command = command(device.clone(), call.segment(4).to_owned());
    match call.ask_for(&device, Command::C2d(command)).await? {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        _ => Err(Failure::unexpected_reply()),
    }
}

fn delivery(device: &DeviceId, locked: LockedMessage) -> Answer {
    let message = &locked.message;
    let described = Delivery {
        device,
        message_id: &message.message_id,
        correlation_id: message.correlation_id.as_deref(),
        user_id: message.user_id.as_deref(),
        content_type: message.content_type.as_deref(),
        content_encoding: message.content_encoding.as_deref(),
        expiry: Some(locked.expiry),
        ack: match message.ack {
            Ack::None => None,
            Ack::Positive => Some("positive"),
            Ack::Negative => Some("negative"),
            Ack::Full => Some("full"),
        },
        sequence: locked.sequence,
        enqueued: locked.enqueued,
        delivery_count: locked.delivery_count,
        properties: &message.properties,
    };
    let headers = described.http_headers(&locked.lock_token);
    let mut response = Response::new(Body::from(message.body.clone()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    for (name, value) in headers {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::unexpected_reply())?;
        let value = HeaderValue::from_str(&value).map_err(|_| Failure::unexpected_reply())?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
