//! The identity registry: `/devices` and `/devices/{id}` (data-plane notes sections 5.1–5.3).

use super::answer::{empty, entity, json};
use super::auth::Right;
use super::bulk;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hub::command::RegistryCommand;
use hub::{Command, Reply};
use types::{DeviceId, ErrorCode, PartitionId, limits};

/// Says where to go on listing: in the answer when more remains, in the request to go on.
const CONTINUATION: &str = "x-ms-continuation";

/// `/devices`: list, bulk.
pub(super) async fn all(call: Call) -> Answer {
    match call.method {
        Method::GET => list(call).await,
        Method::POST => bulk::change(call).await,
        _ => Err(Failure::method_not_allowed("GET, POST")),
    }
}

/// `/devices/{id}`
pub(super) async fn one(call: Call) -> Answer {
    let right = match call.method {
        Method::GET => Right::RegistryRead,
        Method::PUT | Method::DELETE => Right::RegistryWrite,
        _ => return Err(Failure::method_not_allowed("GET, PUT, DELETE")),
    };
    call.authorize(right)?;
    let device = call.device(1)?;
    let command = match call.method {
        Method::GET => RegistryCommand::Get {
            device: device.clone(),
        },
        Method::PUT => RegistryCommand::Put {
            device: device.clone(),
            if_match: call.if_match()?,
            body: call.json().await?,
        },
        _ => RegistryCommand::Delete {
            device: device.clone(),
            if_match: call.if_match()?,
        },
    };
    match call.ask_for(&device, Command::Registry(command)).await? {
        Reply::Json { body, etag } => entity(body, &etag),
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        _ => Err(Failure::unexpected_reply()),
    }
}

/// Lists devices partition by partition, in device id order within each.
async fn list(call: Call) -> Answer {
    call.authorize(Right::RegistryRead)?;
    let top = call.query.number(
        "top",
        1..=limits::LIST_PAGE_MAX as u64,
        limits::LIST_PAGE_MAX as u64,
    )? as usize;
    let mut from = match call.header(CONTINUATION)? {
        Some(text) => Position::parse(text, call.hub.settings.partition_count)?,
        None => Position {
            partition: PartitionId(0),
            after: None,
        },
    };
    let mut devices: Vec<Bytes> = Vec::new();
    while from.partition.0 < call.hub.settings.partition_count && devices.len() < top {
        let command = RegistryCommand::List {
            after: from.after.clone(),
            top: top - devices.len(),
        };
        let Reply::JsonList(found) = call.ask(from.partition, Command::Registry(command)).await?
        else {
            return Err(Failure::unexpected_reply());
        };
        // A page may be shorter than asked for though more remains: only an empty one ends a partition.
        match found.last() {
            Some((last, _)) => from.after = Some(last.clone()),
            None => {
                from = Position {
                    partition: PartitionId(from.partition.0 + 1),
                    after: None,
                }
            }
        }
        devices.extend(found.into_iter().map(|(_, body)| body));
    }
    let mut response = json(StatusCode::OK, Body::from(array(&devices)));
    if from.partition.0 < call.hub.settings.partition_count
        && let Ok(value) = HeaderValue::from_str(&from.text())
    {
        response.headers_mut().insert(CONTINUATION, value);
    }
    Ok(response)
}

fn array(texts: &[Bytes]) -> Vec<u8> {
    let mut array = Vec::with_capacity(2 + texts.iter().map(|text| text.len() + 1).sum::<usize>());
    array.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            array.push(b',');
        }
        array.extend_from_slice(text);
    }
    array.push(b']');
    array
}

/// Where a list goes on.
struct Position {
    partition: PartitionId,
    after: Option<DeviceId>,
}

impl Position {
    /// Opaque to clients: base64url of `{partition} {device id}`.
    fn text(&self) -> String {
        let after = self.after.as_ref().map_or("", DeviceId::as_str);
        URL_SAFE_NO_PAD.encode(format!("{} {after}", self.partition))
    }

    fn parse(text: &str, partition_count: u16) -> Result<Position, Failure> {
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text.trim()).ok()?).ok()?;
            let (partition, after) = text.split_once(' ')?;
            let partition = partition
                .parse()
                .ok()
                .filter(|number| *number < partition_count)?;
            let after = if after.is_empty() {
                None
            } else {
                Some(DeviceId::parse(after).ok()?)
            };
            Some(Position {
                partition: PartitionId(partition),
                after,
            })
        };
        let text = format!("The {CONTINUATION} header is not one that this server gave.");
        read().ok_or_else(|| Failure::new(ErrorCode::ArgumentInvalid, text))
    }
}
