//! Requests to a provider: https only (http between programs of this machine), bounded in time, size and number, no redirects.

use control::directory::IdentityProvider;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use types::limits;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the authorities they trust.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

static AT_ONCE: Semaphore = Semaphore::const_new(limits::PROVIDER_REQUESTS_AT_ONCE);

/// GETs, or POSTs a form; the answer as JSON.
///
/// # Errors
/// Why there is none, without any secret.
pub(super) async fn exchange(
    provider: &IdentityProvider,
    address: &str,
    form: Option<String>,
) -> Result<Value, String> {
    allowed(&provider.issuer, address)?;
    let Ok(_place) = AT_ONCE.try_acquire() else {
        return Err("too many people sign in at the moment; try again".into());
    };
    let (ca, address) = (provider.ca.clone(), address.to_owned());
    let done = tokio::task::spawn_blocking(move || blocking(ca.as_deref(), &address, form));
    match done.await {
        Ok(result) => result,
        Err(_) => Err("this node is stopping".into()),
    }
}

fn blocking(ca: Option<&str>, address: &str, form: Option<String>) -> Result<Value, String> {
    let agent = agent(ca, address.starts_with("http://"))?;
    let answer = match form {
        None => agent
            .get(address)
            .header("accept", "application/json")
            .call(),
        Some(form) => agent
            .post(address)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .send(form),
    };
    let mut answer = answer.map_err(|error| why(&error))?;
    let status = answer.status().as_u16();
    let body = answer
        .body_mut()
        .with_config()
        .limit(limits::PROVIDER_ANSWER_BYTES_MAX)
        .read_to_vec()
        .map_err(|error| why(&error))?;
    if status != 200 {
        let error = crate::strict::json(&body).ok();
        let code = error.as_ref().and_then(|error| error["error"].as_str());
        let code = code.map(|code| format!(" ({})", crate::failure::shown(code)));
        return Err(format!(
            "it answered with HTTP {status}{}",
            code.unwrap_or_default()
        ));
    }
    crate::strict::json(&body).map_err(|_| "its answer is not JSON".into())
}

/// Whether an address may be asked: https, or http on this machine when the issuer is there too.
///
/// # Errors
/// That it may not.
pub(super) fn allowed(issuer: &str, address: &str) -> Result<(), String> {
    let wrong = "one of its addresses is not https";
    let uri: Uri = address.parse().map_err(|_| wrong.to_owned())?;
    let authority = uri.authority().ok_or(wrong)?;
    if authority.as_str().contains('@') {
        return Err(wrong.into());
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if issuer.starts_with("http://") && is_loopback(authority.host()) => Ok(()),
        _ => Err(wrong.into()),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn agent(ca: Option<&str>, plain: bool) -> Result<Agent, String> {
    let mut tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    if !plain {
        let mut roots = system_roots();
        if let Some(ca) = ca {
            roots.extend(certificates(ca.as_bytes()));
        }
        if roots.is_empty() {
            return Err("this system has no list of trusted certificate authorities".into());
        }
        tls = tls.root_certs(RootCerts::from(roots));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(!plain)
        .timeout_global(Some(Duration::from_millis(limits::PROVIDER_REQUEST_MS_MAX)))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .build();
    Ok(Agent::new_with_config(config))
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}

fn system_roots() -> Vec<Certificate<'static>> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.as_deref().into_iter().chain(ROOTS);
    files
        .filter_map(|file| std::fs::read(file).ok())
        .map(|pem| certificates(&pem))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// # Errors
/// When a PEM text holds no certificate, or one that cannot be read.
pub fn check_ca(pem: &str) -> Result<(), String> {
    let found = certificates(pem.as_bytes());
    let readable = |one: &Certificate<'_>| x509_parser::parse_x509_certificate(one.der()).is_ok();
    match !found.is_empty() && found.iter().all(readable) {
        true => Ok(()),
        false => Err("certificates in PEM are expected".into()),
    }
}

/// Fields as a form or a query.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", wire::percent::encode(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Others may repeat the address or what was sent.
fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BodyExceedsLimit(most) => format!("its answer exceeds {most} bytes"),
        ureq::Error::Timeout(_) => "it took too long".into(),
        ureq::Error::HostNotFound => "its host is not known".into(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Rustls(error) => format!("its certificate is not trusted here: {error}"),
        ureq::Error::ConnectionFailed => "it cannot be connected to".into(),
        _ => "the exchange failed".into(),
    }
}
