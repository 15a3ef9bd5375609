//! What stands in a certificate, and whether one signed another.

use crate::failure::{Failure, shown};
use crate::tokens::hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::CertificateFacts;
use ring::digest;
use types::{UnixMillis, limits};
use x509_parser::prelude::{FromDer, X509Certificate};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Reads the certificate of an authority: base64 of its DER, PEM, or base64 of PEM, as the clients send it.
///
/// # Errors
/// 400: malformed, too large, expired, or not of an authority.
pub fn authority(text: &str, now: UnixMillis) -> Result<CertificateFacts, Failure> {
    let der = der(text)?;
    let certificate = parse(&der)?;
    in_force(&certificate, now)?;
    let is_authority = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        // Roots of the first version have no extensions.
        Ok(None) => certificate.subject().as_raw() == certificate.issuer().as_raw(),
        Err(_) => false,
    };
    if !is_authority {
        return Err(bad(
            "it is not the certificate of an authority (basic constraints: CA)",
        ));
    }
    let print = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    Ok(CertificateFacts {
        certificate: STANDARD.encode(&der),
        subject: shown(&certificate.subject().to_string()),
        expiry: UnixMillis(
            certificate
                .validity()
                .not_after
                .timestamp()
                .saturating_mul(1000),
        ),
        thumbprint: hex(print.as_ref()).to_ascii_uppercase(),
    })
}

/// Checks that the owner of `authority`'s key signed a certificate for the common name `code`.
///
/// # Errors
/// 400 with what is wrong.
pub fn check_proof(
    authority: &str,
    proof: &str,
    code: &str,
    now: UnixMillis,
) -> Result<(), Failure> {
    let (authority, proof) = (der(authority)?, der(proof)?);
    let (authority, proof) = (parse(&authority)?, parse(&proof)?);
    in_force(&proof, now)?;
    let name = proof.subject().iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
    if !name.eq_ignore_ascii_case(code) {
        return Err(bad("its common name is not the verification code"));
    }
    if proof.issuer().as_raw() != authority.subject().as_raw() {
        return Err(bad(
            "it was not issued by the certificate that is to be verified",
        ));
    }
    proof
        .verify_signature(Some(authority.public_key()))
        .map_err(|_| bad("it is not signed with the key of the certificate that is to be verified"))
}

fn bad(why: &str) -> Failure {
    Failure::bad(
        "CertificateInvalid",
        format!("The certificate is invalid: {why}."),
    )
}

fn der(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = match text.contains(BEGIN) {
        true => return pem(text),
        false => decode(text)?,
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains(BEGIN) => pem(text),
        _ => Ok(bytes),
    }
}

/// The first certificate of a PEM text.
fn pem(text: &str) -> Result<Vec<u8>, Failure> {
    let inner = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .ok_or_else(|| bad("its PEM text does not end"))?;
    decode(inner.0)
}

fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    // Base64 of PEM, which is base64 itself.
    if plain.len() > limits::HUB_CERTIFICATE_BYTES_MAX * 2 {
        return Err(bad("it is too large"));
    }
    STANDARD
        .decode(plain)
        .map_err(|_| bad("it is neither base64 nor PEM text"))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Failure> {
    if der.len() > limits::HUB_CERTIFICATE_BYTES_MAX {
        return Err(bad("it is too large"));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(bad("something follows it")),
        Err(_) => Err(bad("it is not an X.509 certificate")),
    }
}

fn in_force(certificate: &X509Certificate<'_>, now: UnixMillis) -> Result<(), Failure> {
    let second = now.0.div_euclid(1000);
    let validity = certificate.validity();
    if second > validity.not_after.timestamp() {
        return Err(bad("it has expired"));
    }
    // Clocks differ a little, and a fresh certificate begins now.
    let skew = limits::MANAGEMENT_TOKEN_SKEW_S;
    if second.saturating_add(skew) < validity.not_before.timestamp() {
        return Err(bad("it is not valid yet"));
    }
    Ok(())
}
