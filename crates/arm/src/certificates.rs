//! Certificates of authorities whose devices a hub may trust: uploaded, proven, deleted (control-plane notes section 8).

mod x509;

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::ids;
use crate::tokens::hex;
use axum::http::StatusCode;
use control::{Answer, CertificateCommand, Command, Hub, HubCertificate, etag_text};
use serde_json::{Value, json};
use wire::timestamp::http_date;

/// Random bytes of a verification code; as hexadecimal digits it fits into a common name.
const CODE_BYTES: usize = 24;

pub fn list(call: &Call) -> Outcome {
    let hub = call.hub()?;
    answer::list(hub.certificates.iter().map(|one| body(hub, one)).collect())
}

pub fn get(call: &Call) -> Outcome {
    let hub = call.hub()?;
    answer::ok(&body(hub, named(call, hub)?))
}

/// Makes one (201) or replaces it (200).
pub async fn put(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json()?;
    let properties = &wanted["properties"];
    let text = text_of(&properties["certificate"], "properties.certificate")?;
    let verified = match &properties["isVerified"] {
        Value::Null => false,
        Value::Bool(verified) => *verified,
        _ => {
            return Err(Failure::bad(
                "CertificateInvalid",
                "properties.isVerified: true or false is expected",
            ));
        }
    };
    let facts = x509::authority(text, call.now)?;
    let is_new = hub.certificate(call.param("certificate")).is_none();
    let command = CertificateCommand::Put {
        hub: hub.id,
        name: call.param("certificate").into(),
        facts,
        verified,
        if_match: if_match(&call),
    };
    let made = submit(&call, command).await?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(answer::json(status, &body(hub, &made)))
}

/// 200; 204 if there is nothing to delete.
pub async fn delete(call: Call) -> Outcome {
    let command = CertificateCommand::Delete {
        hub: call.hub()?.id,
        name: call.param("certificate").into(),
        if_match: if_match(&call),
    };
    match call.submit(Command::Certificate(command)).await? {
        Answer::Done => Ok(answer::empty(StatusCode::OK)),
        Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// Gives the code that the owner of the certificate's key has to sign.
pub async fn generate_code(call: Call) -> Outcome {
    let hub = call.hub()?;
    let code = hex(&ids::random::<CODE_BYTES>()?).to_ascii_uppercase();
    let command = CertificateCommand::MakeCode {
        hub: hub.id,
        name: named(&call, hub)?.name.clone(),
        code: code.clone(),
        if_match: if_match(&call),
    };
    let kept = submit(&call, command).await?;
    let mut body = body(hub, &kept);
    body["properties"]["verificationCode"] = code.into();
    answer::ok(&body)
}

/// Takes a certificate that the authority signed and whose common name is the code.
pub async fn verify(call: Call) -> Outcome {
    let hub = call.hub()?;
    let kept = named(&call, hub)?;
    let wanted = call.json()?;
    let proof = text_of(&wanted["certificate"], "certificate")?;
    let Some(code) = &kept.code else {
        let message = format!(
            "The certificate '{}' has no verification code: generate one first.",
            kept.name
        );
        return Err(Failure::bad("CertificateInvalid", message));
    };
    x509::check_proof(&kept.facts.certificate, proof, code, call.now)?;
    let command = CertificateCommand::Verify {
        hub: hub.id,
        name: kept.name.clone(),
        thumbprint: kept.facts.thumbprint.clone(),
        code: code.clone(),
        if_match: if_match(&call),
    };
    answer::ok(&body(hub, &submit(&call, command).await?))
}

async fn submit(call: &Call, command: CertificateCommand) -> Result<HubCertificate, Failure> {
    match call.submit(Command::Certificate(command)).await? {
        Answer::Certificate(certificate) => Ok(*certificate),
        other => Err(unexpected(&other)),
    }
}

fn if_match(call: &Call) -> Option<String> {
    call.header("if-match").map(str::to_owned)
}

fn text_of<'a>(value: &'a Value, path: &str) -> Result<&'a str, Failure> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            let message = format!("{path}: the certificate is expected, as base64 or PEM text");
            Failure::bad("CertificateInvalid", message)
        })
}

fn named<'a>(call: &Call, hub: &'a Hub) -> Result<&'a HubCertificate, Failure> {
    let name = call.param("certificate");
    hub.certificate(name).ok_or_else(|| {
        let message = format!(
            "IotHub '{}' has no certificate '{}'.",
            hub.name,
            shown(name)
        );
        Failure::not_found("CertificateNotFound", message)
    })
}

fn body(hub: &Hub, certificate: &HubCertificate) -> Value {
    let facts = &certificate.facts;
    json!({
        "id": format!("{}/certificates/{}", hub.path(), certificate.name),
        "name": certificate.name,
        "type": "Microsoft.Devices/IotHubs/Certificates",
        "etag": etag_text(certificate.etag),
        "properties": {
            "subject": facts.subject,
            "expiry": http_date(facts.expiry),
            "thumbprint": facts.thumbprint,
            "isVerified": certificate.verified,
            "created": http_date(certificate.created),
            "updated": http_date(certificate.updated),
            "certificate": facts.certificate,
        },
    })
}
