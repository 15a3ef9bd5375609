//! What services do with a device's queue of cloud-to-device messages.
//!
//! Sending over HTTPS is a route of our own (Azure has it over AMQP only): `POST /devices/{id}/messages/deviceBound` with the
//! body of the message and the headers that the device will see: `iothub-messageid`, `iothub-correlationid`, `iothub-userid`,
//! `iothub-contenttype`, `iothub-contentencoding`, `iothub-expiry` (ISO 8601), `iothub-ack` (none, positive, negative, full)
//! and `iothub-app-*`. It needs ServiceConnect and answers 201 with `{"messageId","sequenceNumber"}` once the message is
//! durable.

use super::answer::{json, json_of, to_json};
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::header_names::APPLICATION_PREFIX;
use super::route::Answer;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use hub::command::{Ack, C2dCommand, C2dMessage};
use hub::{Command, Reply};
use serde::Serialize;
use types::{ErrorCode, limits};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queued {
    message_id: String,
    sequence_number: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Purged {
    total_messages_purged: usize,
    device_id: String,
    module_id: Option<String>,
}

/// Puts a message into the device's queue.
pub(super) async fn send(call: Call) -> Answer {
    call.authorize(Right::ServiceConnect)?;
    let device = call.device(1)?;
    let mut message = message(&call)?;
    message.body = call.body(limits::C2D_MESSAGE_BYTES_MAX).await?;
    let command = C2dCommand::Send {
        device: device.clone(),
        message,
    };
    match call.ask_for(&device, Command::C2d(command)).await? {
        Reply::C2dQueued {
            message_id,
            sequence,
        } => {
            let queued = Queued {
                message_id,
                sequence_number: sequence,
            };
            Ok(json(StatusCode::CREATED, Body::from(to_json(&queued))))
        }
        _ => Err(Failure::unexpected_reply()),
    }
}

/// Empties the device's queue: `DELETE /devices/{id}/commands`.
pub(super) async fn purge(call: Call) -> Answer {
    if call.method != Method::DELETE {
        return Err(Failure::method_not_allowed("DELETE"));
    }
    call.authorize(Right::ServiceConnect)?;
    let device = call.device(1)?;
    match call
        .ask_for(
            &device,
            Command::C2d(C2dCommand::Purge {
                device: device.clone(),
            }),
        )
        .await?
    {
        Reply::Purged { count } => Ok(json_of(&Purged {
            total_messages_purged: count,
            device_id: device.to_string(),
            module_id: None,
        })),
        _ => Err(Failure::unexpected_reply()),
    }
}

/// The message that the request's headers describe, without a body.
fn message(call: &Call) -> Result<C2dMessage, Failure> {
    let invalid = |text: String| Failure::new(ErrorCode::ArgumentInvalid, text);
    let mut message = C2dMessage::default();
    for (name, value) in call.message_headers()? {
        if let Some(property) = name.strip_prefix(APPLICATION_PREFIX) {
            message
                .properties
                .push((property.to_owned(), value.to_owned()));
            continue;
        }
        let text = Some(value.to_owned()).filter(|text| !text.is_empty());
        match name.as_str() {
            "iothub-messageid" => message.message_id = id(&name, value)?,
            "iothub-correlationid" => message.correlation_id = Some(id(&name, value)?),
            "iothub-userid" => message.user_id = text,
            "iothub-contenttype" => message.content_type = text,
            "iothub-contentencoding" => message.content_encoding = text,
            "iothub-expiry" => {
                let expiry = wire::timestamp::parse_iso(value);
                message.expiry = Some(expiry.ok_or_else(|| {
                    invalid("The header iothub-expiry is not an ISO 8601 time.".into())
                })?);
            }
            "iothub-ack" => {
                message.ack = ack(value)
                    .ok_or_else(|| invalid(format!("The iothub-ack {value:?} is unknown.")))?
            }
            _ => {}
        }
    }
    Ok(message)
}

fn id(name: &str, value: &str) -> Result<String, Failure> {
    if value.chars().count() <= limits::MESSAGE_ID_CHARS_MAX {
        return Ok(value.to_owned());
    }
    let text = format!(
        "The header {name} is longer than {} characters.",
        limits::MESSAGE_ID_CHARS_MAX
    );
    Err(Failure::new(ErrorCode::ArgumentInvalid, text))
}

fn ack(text: &str) -> Option<Ack> {
    Some(match text.to_ascii_lowercase().as_str() {
        "" | "none" => Ack::None,
        "positive" => Ack::Positive,
        "negative" => Ack::Negative,
        "full" => Ack::Full,
        _ => return None,
    })
}
