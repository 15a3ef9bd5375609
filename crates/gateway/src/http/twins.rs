//! Device twins for services: `/twins/{id}` (data-plane notes sections 5.1–5.3).

use super::answer::entity;
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::http::Method;
use hub::command::TwinCommand;
use hub::{Command, Reply};

/// GET reads, PATCH merges, PUT replaces the sections that are present.
pub(super) async fn one(call: Call) -> Answer {
    if !matches!(call.method, Method::GET | Method::PATCH | Method::PUT) {
        return Err(Failure::method_not_allowed("GET, PATCH, PUT"));
    }
    call.authorize(Right::ServiceConnect)?;
    let device = call.device(1)?;
    let command = match call.method {
        Method::GET => TwinCommand::Get {
            device: device.clone(),
        },
        Method::PATCH => TwinCommand::Patch {
            device: device.clone(),
            if_match: call.if_match()?,
            body: call.json().await?,
        },
        _ => TwinCommand::Replace {
            device: device.clone(),
            if_match: call.if_match()?,
            body: call.json().await?,
        },
    };
    match call.ask_for(&device, Command::Twin(command)).await? {
        Reply::Json { body, etag } => entity(body, &etag),
        _ => Err(Failure::unexpected_reply()),
    }
}
