//! Device codes: a program without a browser shows one, a person types it elsewhere (RFC 8628).

use super::clients::client;
use super::form::{Form, audience, shorten};
use super::grants::unknown_client;
use super::oauth::{OauthError, refused, submit, tenant_is_known, uncached};
use super::print;
use crate::answer::{self, Outcome};
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::ids;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::{DeviceCode, DeviceCodeStanding};
use control::{DirectoryCommand, RefusalCode};
use serde_json::{Value, json};
use types::limits;

/// Letters that are not taken for others, and make no words.
const LETTERS: [u8; 20] = *b"BCDFGHJKLMNPQRSTVWXZ";
/// How often another code is tried where one is in use.
const TRIES: usize = 4;

/// Gives a device code and what a person types for it.
pub fn device_code(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match give(&call).await {
            Ok(body) => Ok(uncached(answer::json(StatusCode::OK, &body))),
            Err(error) => refused(&call, error),
        }
    })
}

async fn give(call: &Call) -> Result<Value, OauthError> {
    tenant_is_known(call)?;
    let form = Form::of_body(call)?;
    let id = form.need("client_id")?;
    let client = client(id).ok_or_else(|| unknown_client(call, id))?;
    let scope = shorten("scope", form.get("scope"))?.unwrap_or_default();
    let asked = audience(call, Some(&scope), form.get("resource"))?;
    let scope = match (asked, scope.is_empty()) {
        (Some(audience), true) => format!("{audience}/.default"),
        _ => scope,
    };
    let expires = call.now.plus(limits::DEVICE_CODE_MS);
    for _ in 0..TRIES {
        let random = URL_SAFE_NO_PAD.encode(ids::random::<32>()?);
        let device = format!("{:x}.{random}", expires.0);
        let user_code = user_code()?;
        let code = DeviceCode {
            user_code: user_code.clone(),
            client_id: client.id.to_owned(),
            scope: scope.clone(),
            expires,
            standing: DeviceCodeStanding::Pending,
        };
        let hash = print(&device);
        let command = DirectoryCommand::PutDeviceCode { hash, code };
        match submit(call, client.id, "", command).await? {
            Ok(_) => return Ok(told(call, &device, &user_code)),
            Err(refusal) if refusal.code == RefusalCode::DirectoryObjectExists => {}
            Err(refusal) => return Err(OauthError::unavailable(refusal.message)),
        }
    }
    Err(OauthError::unavailable(
        "No device code is free; try again in a moment.",
    ))
}

fn told(call: &Call, device: &str, user: &str) -> Value {
    let tenant = call.param("tenant").to_ascii_lowercase();
    let root = match tenant.as_str() {
        "adfs" => "oauth2",
        _ => "oauth2/v2.0",
    };
    let address = format!("https://{}/{tenant}/{root}/deviceauth", call.host);
    json!({
        "device_code": device,
        "user_code": user,
        "verification_uri": address,
        "verification_url": address,
        "verification_uri_complete": format!("{address}?user_code={user}"),
        "expires_in": limits::DEVICE_CODE_MS / 1000,
        "interval": limits::DEVICE_CODE_INTERVAL_S,
        "message": format!(
            "To sign in, use a web browser to open the page {address} and enter the code {user} to authenticate."
        ),
    })
}

fn user_code() -> Result<String, OauthError> {
    let mut text = String::new();
    while text.len() < 9 {
        for byte in ids::random::<32>()? {
            // Above 240 the letters would not be equally likely.
            if byte >= 240 || text.len() >= 9 {
                continue;
            }
            text.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            if text.len() == 4 {
                text.push('-');
            }
        }
    }
    Ok(text)
}
