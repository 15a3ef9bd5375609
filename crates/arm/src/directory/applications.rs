//! Applications (service principals): listed, made, changed, deleted; their secrets and certificates.

use super::users::retried;
use super::{Fields, changed, done, not_found, page, put_status, resource};
use crate::answer::{self, Outcome};
use crate::assertion::read_certificate;
use crate::call::Call;
use crate::failure::Failure;
use crate::ids;
use crate::tokens::hex;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::{Application, ApplicationSecret, Secret};
use control::iso::iso8601;
use control::{DirectoryAnswer, DirectoryCommand};
use ring::digest;
use serde_json::{Value, json};

const SHOWN: [&str; 5] = ["clientId", "objectId", "created", "secrets", "certificates"];
const HINT_CHARS: usize = 3;

pub fn list(call: &Call) -> Outcome {
    page(
        call,
        "applications",
        call.state.directory.applications.iter(),
        body,
    )
}

pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(find(call)?))
}

/// Makes one (201) or changes it (200). Secrets and certificates stay as they are.
pub async fn put(call: Call) -> Outcome {
    retried(call, put_once).await
}

async fn put_once(call: Call) -> Outcome {
    let known = call.state.directory.application(call.param("application"));
    let known = known.cloned();
    write(call, known, true).await
}

pub async fn patch(call: Call) -> Outcome {
    retried(call, patch_once).await
}

async fn patch_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    write(call, Some(known), false).await
}

async fn write(call: Call, known: Option<Application>, whole: bool) -> Outcome {
    let mut fields = Fields::of_resource(&call, &["displayName", "enabled"], &SHOWN)?;
    let new = known.is_none();
    let mut application = match known.clone() {
        Some(application) => application,
        None => Application {
            client_id: call.param("application").to_owned(),
            object_id: ids::guid()?,
            display_name: call.param("application").to_owned(),
            enabled: true,
            created: call.now,
            secrets: Vec::new(),
            certificates: Vec::new(),
        },
    };
    match fields.text("displayName") {
        Some(text) => application.display_name = text,
        None if whole => application.display_name = application.client_id.clone(),
        None => {}
    }
    match fields.truth("enabled") {
        Some(enabled) => application.enabled = enabled,
        None if whole => application.enabled = true,
        None => {}
    }
    fields.done()?;
    let application = put_application(&call, application, known).await?;
    Ok(answer::json(put_status(new), &body(&application)))
}

pub async fn delete(call: Call) -> Outcome {
    let client_id = call.param("application").to_owned();
    done(&call, DirectoryCommand::DeleteApplication { client_id }).await
}

/// Makes a secret of 32 random bytes; this answer is the only one that has it.
pub async fn add_secret(call: Call) -> Outcome {
    find(&call)?;
    let mut fields = Fields::of_action(&call, &["expires"])?;
    let expires = fields.time("expires", call.now);
    fields.done()?;
    let secret = URL_SAFE_NO_PAD.encode(ids::random::<32>()?);
    let salt = hex(&ids::random::<16>()?);
    let salted = digest::digest(&digest::SHA256, format!("{salt}{secret}").as_bytes());
    let made = ApplicationSecret {
        id: ids::guid()?,
        hint: secret.chars().take(HINT_CHARS).collect(),
        sha256: Secret(hex(salted.as_ref())),
        salt,
        created: call.now,
        expires,
    };
    let mut shown = secret_body(&made);
    shown["secret"] = json!(secret);
    let add = |call: Call| {
        let (made, shown) = (made.clone(), shown.clone());
        async move {
            let known = find(&call)?.clone();
            let mut application = known.clone();
            if !known.secrets.iter().any(|secret| secret.id == made.id) {
                application.secrets.push(made);
            }
            put_application(&call, application, Some(known)).await?;
            answer::ok(&shown)
        }
    };
    retried(call, add).await
}

pub async fn remove_secret(call: Call) -> Outcome {
    retried(call, remove_secret_once).await
}

async fn remove_secret_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    let mut application = known.clone();
    let id = needed_id(&call)?;
    let before = application.secrets.len();
    application.secrets.retain(|secret| secret.id != id);
    if application.secrets.len() == before {
        return Err(not_found("secret", &id));
    }
    answer::ok(&body(
        &put_application(&call, application, Some(known)).await?,
    ))
}

pub async fn add_certificate(call: Call) -> Outcome {
    retried(call, add_certificate_once).await
}

async fn add_certificate_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    let mut application = known.clone();
    let mut fields = Fields::of_action(&call, &["certificate"])?;
    let text = fields.needed("certificate");
    let read = match text.is_empty() {
        true => None,
        false => match read_certificate(&text, ids::guid()?, call.now) {
            Ok(read) => Some(read),
            Err(why) => {
                fields.wrong("certificate", why);
                None
            }
        },
    };
    if let Some(read) = &read
        && application
            .certificates
            .iter()
            .any(|known| known.sha256 == read.sha256)
    {
        fields.wrong("certificate", "the application has it already");
    }
    if text.is_empty() && fields.mistakes.0.is_empty() {
        fields.wrong("certificate", "it is empty");
    }
    fields.done()?;
    application.certificates.extend(read);
    answer::ok(&body(
        &put_application(&call, application, Some(known)).await?,
    ))
}

pub async fn remove_certificate(call: Call) -> Outcome {
    retried(call, remove_certificate_once).await
}

async fn remove_certificate_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    let mut application = known.clone();
    let id = needed_id(&call)?;
    let before = application.certificates.len();
    application.certificates.retain(|known| known.id != id);
    if application.certificates.len() == before {
        return Err(not_found("certificate", &id));
    }
    answer::ok(&body(
        &put_application(&call, application, Some(known)).await?,
    ))
}

fn needed_id(call: &Call) -> Result<String, Failure> {
    let mut fields = Fields::of_action(call, &["id"])?;
    let id = fields.needed("id");
    fields.done()?;
    Ok(id)
}

async fn put_application(
    call: &Call,
    application: Application,
    expected: Option<Application>,
) -> Result<Application, Failure> {
    let command = DirectoryCommand::PutApplication {
        application: Box::new(application),
        expected: expected.map(Box::new),
    };
    match changed(call, command).await? {
        DirectoryAnswer::Application(application) => Ok(*application),
        _ => Err(Failure::internal(
            "The directory answered with something else.",
        )),
    }
}

/// By client id or object id.
fn find(call: &Call) -> Result<&Application, Failure> {
    let key = call.param("application");
    let directory = &call.state.directory;
    directory
        .application(key)
        .or_else(|| directory.application_of(key))
        .ok_or_else(|| not_found("application", key))
}

fn secret_body(secret: &ApplicationSecret) -> Value {
    json!({
        "id": secret.id,
        "hint": secret.hint,
        "created": iso8601(secret.created),
        "expires": secret.expires.map(iso8601),
    })
}

fn body(application: &Application) -> Value {
    let certificates = application.certificates.iter().map(|known| {
        json!({
            "id": known.id,
            "subject": known.subject,
            "thumbprint": known.sha1,
            "sha256": known.sha256,
            "created": iso8601(known.created),
            "expires": iso8601(known.expires),
        })
    });
    resource(
        "applications",
        &application.client_id,
        json!({
            "clientId": application.client_id,
            "objectId": application.object_id,
            "displayName": application.display_name,
            "enabled": application.enabled,
            "created": iso8601(application.created),
            "secrets": application.secrets.iter().map(secret_body).collect::<Vec<_>>(),
            "certificates": certificates.collect::<Vec<_>>(),
        }),
    )
}
