//! Who may do what: SAS tokens of policies for services, of policies or a device's own keys for devices, certificates by
//! thumbprint (data-plane notes sections 2.1 and 2.3).
//!
//! 401003 IotHubUnauthorized: who it is could not be proven. 401002 IotHubUnauthorizedAccess: proven, but not entitled.
//! Tokens and keys never go into a message or a log.

use super::call::Call;
use super::failure::Failure;
use super::route;
use crate::backend::BearerError;
use axum::http::{HeaderMap, header};
use hub::command::{AuthMethod, DeviceKeys, EventOrigin, Identity, SessionCommand};
use hub::{Command, Reply};
use ring::digest;
use std::sync::Arc;
use types::{DeviceId, Entrance, ErrorCode, Policy, Rights};
use wire::scope::Covers;
use wire::{SasError, Scope, Token, sas};

/// What a service route asks of a policy (data-plane notes section 2.1, permission map).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
    DeviceConnect,
}

impl Right {
    fn in_rights(self, rights: Rights) -> bool {
        match self {
            Right::RegistryRead => rights.registry_read,
            Right::RegistryWrite => rights.registry_write,
            Right::ServiceConnect => rights.service_connect,
            Right::DeviceConnect => rights.device_connect,
        }
    }
}

/// The hub's name in the resource of a request's token, before anything of it is proven.
pub(super) fn token_host_label(headers: &HeaderMap) -> Option<String> {
    let token = token(headers).ok()??;
    Scope::parse(&token.resource)
        .host_label()
        .map(str::to_owned)
}

/// The bearer token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| unproven("The Authorization header is not ASCII."))?;
    let token = match text.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Ok(None),
    };
    Ok(Some(token))
}

/// The request's token; `None` without an Authorization header.
fn token(headers: &HeaderMap) -> Result<Option<Token>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| unproven("The Authorization header is not ASCII."))?;
    Ok(Some(Token::parse(text)?))
}

impl Call {
    /// Lets a service through whose policy has `right` and whose token covers the path.
    pub(super) fn authorize(&self, right: Right) -> Result<(), Failure> {
        if let Some(token) = bearer(&self.headers)? {
            return self.check_bearer(token);
        }
        let token = token(&self.headers)?
            .ok_or_else(|| unproven("The Authorization header is missing."))?;
        self.check_policy(&token, right)?;
        self.check_scope(&token)
    }

    /// Lets a device through, or a service that may act for any device, and says how its events are marked.
    pub(super) async fn authorize_device(
        &self,
        device: &DeviceId,
    ) -> Result<Arc<EventOrigin>, Failure> {
        let (identity, auth_method) = match token(&self.headers)? {
            Some(token) if token.policy.is_some() => {
                self.check_policy(&token, Right::DeviceConnect)?;
                self.check_scope(&token)?;
                (self.identity(device).await?, AuthMethod::HubSas)
            }
            Some(token) => {
                // Cheap checks first: what follows asks another machine on behalf of a stranger.
                self.check_not_expired(&token)?;
                self.check_scope(&token)?;
                let identity = self.identity(device).await.map_err(hide_unknown_device)?;
                self.check_own_key(&token, &identity)?;
                (identity, AuthMethod::DeviceSas)
            }
            None => {
                let identity = self.identity_by_certificate(device).await?;
                (identity, AuthMethod::Certificate)
            }
        };
        if !identity.enabled {
            return Err(Failure::new(
                ErrorCode::DeviceDisabled,
                "The device is disabled.",
            ));
        }
        Ok(Arc::new(EventOrigin {
            generation: identity.generation,
            auth_method,
        }))
    }

    /// Lets in only who comes from where the hub's owner allows. The answer does not name the rule.
    pub(super) fn check_address(&self, entrance: Entrance) -> Result<(), Failure> {
        let from = self.address.map(|address| address.0);
        if self.hub.settings.access.admits(from, entrance) {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::IotHubUnauthorizedAccess,
            "The IoT hub does not accept connections from where this request came from.",
        ))
    }

    /// A token of the deployment: the roles of who holds it decide.
    fn check_bearer(&self, token: &str) -> Result<(), Failure> {
        let actions = route::data_actions(&self.method, &self.path);
        if actions.is_empty() {
            return Err(unproven("This route takes no bearer token."));
        }
        for action in actions {
            let hub = self.hub.settings.id;
            let allowed = self.api.backend.bearer(token, hub, action);
            allowed.map_err(|error| match error {
                BearerError::Unproven(why) => unproven(&why),
                BearerError::NotAllowed(why) => {
                    Failure::new(ErrorCode::IotHubUnauthorizedAccess, why)
                }
            })?;
        }
        Ok(())
    }

    async fn identity(&self, device: &DeviceId) -> Result<Identity, Failure> {
        let command = Command::Session(SessionCommand::Identity {
            device: device.clone(),
        });
        match self.ask_for(device, command).await? {
            Reply::Identity(identity) => Ok(identity),
            _ => Err(Failure::unexpected_reply()),
        }
    }

    async fn identity_by_certificate(&self, device: &DeviceId) -> Result<Identity, Failure> {
        let Some(certificate) = &self.certificate else {
            return Err(unproven("The Authorization header is missing."));
        };
        let identity = self.identity(device).await.map_err(hide_unknown_device)?;
        match &identity.keys {
            DeviceKeys::SelfSigned { primary, secondary }
                if has_thumbprint(&certificate.0, primary, secondary) =>
            {
                Ok(identity)
            }
            _ => Err(wrong_credentials()),
        }
    }

    fn check_own_key(&self, token: &Token, identity: &Identity) -> Result<(), Failure> {
        if !self.hub.settings.access.device_tokens {
            return Err(unproven(
                "The IoT hub does not accept tokens signed with a device's key (disableDeviceSAS).",
            ));
        }
        match &identity.keys {
            DeviceKeys::Sas { primary, secondary } => {
                Ok(sas::verify(token, &[primary, secondary], self.now())?)
            }
            DeviceKeys::SelfSigned { .. } | DeviceKeys::CertificateAuthority | DeviceKeys::None => {
                Err(wrong_credentials())
            }
        }
    }

    fn check_policy(&self, token: &Token, right: Right) -> Result<(), Failure> {
        let Some(name) = &token.policy else {
            return Err(unproven(
                "This route needs a token signed with a policy of the hub.",
            ));
        };
        let policy: &Policy = self
            .hub
            .settings
            .policies
            .iter()
            .find(|policy| policy.name == *name)
            .ok_or_else(wrong_credentials)?;
        sas::verify(
            token,
            &[&policy.primary_key, &policy.secondary_key],
            self.now(),
        )?;
        if !self.hub.settings.access.policy_tokens {
            return Err(unproven(
                "The IoT hub does not accept tokens signed with a policy's key (disableLocalAuth).",
            ));
        }
        if right.in_rights(policy.rights) {
            return Ok(());
        }
        let text = format!("The policy {name} does not grant {right:?}.");
        Err(Failure::new(ErrorCode::IotHubUnauthorizedAccess, text))
    }

    fn check_not_expired(&self, token: &Token) -> Result<(), Failure> {
        if self.now() > token.valid_until() {
            Err(SasError::Expired.into())
        } else {
            Ok(())
        }
    }

    /// The token's resource must be a segment-wise prefix of the path.
    fn check_scope(&self, token: &Token) -> Result<(), Failure> {
        let scope = Scope::parse(&token.resource);
        // A host that names no hub (an address) fits any: the hub, and so its keys, were found another way.
        let hub_fits = scope
            .host_label()
            .is_none_or(|label| label.eq_ignore_ascii_case(self.hub.settings.name.as_str()));
        if hub_fits && is_prefix(&covered(&scope), &self.path) {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::IotHubUnauthorizedAccess,
            "The token's resource does not cover this path.",
        ))
    }

    fn now(&self) -> types::UnixMillis {
        self.api.backend.now()
    }
}

fn covered(scope: &Scope) -> Vec<&str> {
    match scope.covers() {
        Covers::Hub => Vec::new(),
        Covers::Devices => vec!["devices"],
        Covers::Device(id) => vec!["devices", id],
        Covers::Module(id, module) => vec!["devices", id, "modules", module],
        Covers::Events => vec!["messages", "events"],
        Covers::Path(segments) => segments.iter().map(String::as_str).collect(),
    }
}

/// Fixed words compare without case, the id below `devices` or `twins` with it.
fn is_prefix(covered: &[&str], path: &[String]) -> bool {
    let has_id = path.first().is_some_and(|word| {
        word.eq_ignore_ascii_case("devices") || word.eq_ignore_ascii_case("twins")
    });
    covered.len() <= path.len()
        && covered
            .iter()
            .zip(path)
            .enumerate()
            .all(|(index, (covered, segment))| {
                if has_id && index == 1 {
                    covered == segment
                } else {
                    covered.eq_ignore_ascii_case(segment)
                }
            })
}

fn has_thumbprint(certificate: &[u8], primary: &str, secondary: &str) -> bool {
    let hex = |algorithm| -> String {
        digest::digest(algorithm, certificate)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    };
    let known = [hex(&digest::SHA1_FOR_LEGACY_USE_ONLY), hex(&digest::SHA256)];
    [primary, secondary]
        .iter()
        .any(|wanted| known.iter().any(|found| found.eq_ignore_ascii_case(wanted)))
}

/// A stranger does not learn which devices exist.
fn hide_unknown_device(failure: Failure) -> Failure {
    if failure.code == ErrorCode::DeviceNotFound {
        wrong_credentials()
    } else {
        failure
    }
}

fn wrong_credentials() -> Failure {
    unproven("The credentials fit no key of this hub or device.")
}

fn unproven(why: &str) -> Failure {
    Failure::new(ErrorCode::IotHubUnauthorized, why)
}

impl From<SasError> for Failure {
    fn from(error: SasError) -> Failure {
        match error {
            SasError::BadSignature => wrong_credentials(),
            SasError::Malformed(_) => unproven(&format!("{error}.")),
            SasError::Expired => unproven("The token is expired."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_lies_below_it() {
        let check = |resource: &str, path: &[&str], expected: bool| {
            let path: Vec<String> = path.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(
                is_prefix(&covered(&Scope::parse(resource)), &path),
                expected,
                "{resource} {path:?}"
            );
        };
        check("h", &["statistics", "devices"], true);
        check("h/devices", &["DEVICES", "d1"], true);
        check(
            "h/Devices/d1",
            &["devices", "d1", "messages", "events"],
            true,
        );
        check("h/devices/D1", &["devices", "d1"], false);
        check("h/devices/d", &["devices", "d1"], false);
        check("h/devices/d1", &["devices"], false);
        check("h/devices", &["twins", "d1"], false);
        check(
            "h/messages/events",
            &["messages", "Events", "partitions"],
            true,
        );
        check("h/messages/events", &["messages", "serviceBound"], false);
    }

    #[test]
    fn certificates_are_known_by_sha1_or_sha256() {
        let certificate = b"abc";
        let sha1 = "A9993E364706816ABA3E25717850C26C9CD0D89D";
        let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        assert!(has_thumbprint(certificate, sha1, ""));
        assert!(has_thumbprint(certificate, "", sha256));
        assert!(!has_thumbprint(b"abd", sha1, sha256));
        assert!(!has_thumbprint(certificate, "", ""));
    }
}
