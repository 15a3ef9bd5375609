//! Telemetry from devices: `POST /devices/{id}/messages/events` (data-plane notes section 4).

use super::answer::empty;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::http::{Method, StatusCode, header};
use bytes::Bytes;
use hub::command::{Message, TelemetryCommand};
use hub::{Command, Reply};
use types::{ErrorCode, limits};
use wire::d2c_http;

/// Stores one message, or a batch all or nothing; the answer comes when it is durable.
pub(super) async fn send(call: Call) -> Answer {
    if call.method != Method::POST {
        return Err(Failure::method_not_allowed("POST"));
    }
    let device = call.device(1)?;
    let origin = call.authorize_device(&device).await?;
    let messages = if is_batch(&call) {
        batch(&call).await?
    } else {
        vec![single(&call).await?]
    };
    let hub = call.hub.settings.id;
    let messages = crate::routing::kept(&*call.api.backend, hub, &device, messages);
    let command = TelemetryCommand::Send {
        device: device.clone(),
        connection: None,
        origin,
        messages,
    };
    match call.ask_for(&device, Command::Telemetry(command)).await? {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        _ => Err(Failure::unexpected_reply()),
    }
}

fn is_batch(call: &Call) -> bool {
    let content_type = call
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(d2c_http::BATCH_CONTENT_TYPE)
}

async fn single(call: &Call) -> Result<Message, Failure> {
    let bag = {
        let headers = call.message_headers()?;
        let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
        d2c_http::bag_from_headers(headers).map_err(types::Reject::from)?
    };
    let body = call.body(limits::D2C_MESSAGE_BYTES_MAX).await?;
    let message = Message {
        bag: Bytes::from(bag),
        body,
    };
    check_size(std::slice::from_ref(&message))?;
    Ok(message)
}

async fn batch(call: &Call) -> Result<Vec<Message>, Failure> {
    let body = call.json().await?;
    let parsed = d2c_http::parse_batch(&body).map_err(types::Reject::from)?;
    if parsed.is_empty() {
        return Err(Failure::new(
            ErrorCode::NullMessage,
            "The batch holds no message.",
        ));
    }
    if parsed.len() > limits::HTTP_BATCH_MESSAGES_MAX {
        let text = format!(
            "A batch holds at most {} messages.",
            limits::HTTP_BATCH_MESSAGES_MAX
        );
        return Err(Failure::new(ErrorCode::MessageTooLarge, text));
    }
    let messages: Vec<Message> = parsed
        .into_iter()
        .map(|message| Message {
            bag: Bytes::from(message.bag),
            body: Bytes::from(message.body),
        })
        .collect();
    check_size(&messages)?;
    Ok(messages)
}

/// One limit for a message and for a batch, properties included (data-plane notes section 12.1).
fn check_size(messages: &[Message]) -> Result<(), Failure> {
    let size: usize = messages
        .iter()
        .map(|message| message.bag.len() + message.body.len())
        .sum();
    if size <= limits::D2C_MESSAGE_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "{size} bytes of telemetry exceed the limit of {} bytes.",
        limits::D2C_MESSAGE_BYTES_MAX
    );
    Err(Failure::new(ErrorCode::MessageTooLarge, text))
}
