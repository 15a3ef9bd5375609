//! Who may open a session: hub, token, identity, in that order (data-plane notes sections 2.1 and 3.1).

use super::connect::Login;
use super::end::Refusal;
use crate::backend::{Backend, CallError, HubView};
use hub::command::{AuthMethod, DeviceKeys, EventOrigin, Identity, SessionCommand};
use hub::{Command, Reply};
use std::net::IpAddr;
use std::sync::Arc;
use types::{
    DeviceId, Entrance, ErrorCode, HubId, PartitionId, Rights, UnixMillis, limits, partition_of,
};
use wire::{Scope, Token, host};

/// Who is at the other end of a connection, before anything of it is proven.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The server name of its TLS handshake.
    pub sni: Option<Box<str>>,
    /// `None`: not known, as of a stream in memory.
    pub address: Option<IpAddr>,
}

/// A proven login: where the session will live, and on whose behalf.
#[derive(Debug)]
pub(super) struct Proven {
    pub hub: HubId,
    pub partition: PartitionId,
    pub origin: Arc<EventOrigin>,
    pub at: UnixMillis,
    /// How long from now the token stays valid, in milliseconds.
    pub valid_for_ms: u64,
}

/// Proves the login; opening the session is the caller's.
///
/// # Errors
/// The refusal to answer with.
pub(super) async fn prove(
    backend: &dyn Backend,
    login: &Login,
    peer: &Peer,
) -> Result<Proven, Refusal> {
    let device = &login.identity.device;
    let token = Token::parse(&login.token).map_err(|_| Refusal::UserNameOrPassword)?;
    let scope = Scope::parse(&token.resource);
    // This region may not have its copy of the control plane yet, so an unknown hub is not yet a refused identity.
    let hub = find_hub(backend, &login.identity.host, &scope, peer.sni.as_deref())
        .ok_or(Refusal::ServerUnavailable)?;
    let settings = &hub.settings;
    if !settings.access.admits(peer.address, Entrance::Hub) {
        return Err(Refusal::NotAuthorized);
    }
    let partition = partition_of(device, settings.partition_count.max(1));
    let ask = Command::Session(SessionCommand::Identity {
        device: device.clone(),
    });
    let identity = match backend.call(settings.id, partition, ask).await {
        Ok(Reply::Identity(identity)) => identity,
        other => return Err(refusal(other)),
    };
    let now = backend.now();
    let auth_method = verify(&hub, device, &identity, &token, &scope, now)?;
    let generation = identity.generation;
    Ok(Proven {
        hub: settings.id,
        partition,
        origin: Arc::new(EventOrigin {
            generation,
            auth_method,
        }),
        at: now,
        valid_for_ms: valid_for_ms(&token, now),
    })
}

/// The hub by the host of the user name, else of the token, else of the TLS handshake; the only one there is for clients
/// that name none.
fn find_hub(
    backend: &dyn Backend,
    user_name_host: &str,
    scope: &Scope,
    sni: Option<&str>,
) -> Option<Arc<HubView>> {
    let names = [
        host::label(user_name_host),
        scope.host_label(),
        sni.and_then(host::label),
    ];
    let named = names
        .into_iter()
        .flatten()
        .find_map(|name| backend.hub(name));
    named.or_else(|| {
        host::label(user_name_host)
            .is_none()
            .then(|| backend.only_hub())
            .flatten()
    })
}

/// Checks scope, signature, expiry and status. The order does not tell a stranger which devices exist: all refusals are alike.
fn verify(
    hub: &HubView,
    device: &DeviceId,
    identity: &Identity,
    token: &Token,
    scope: &Scope,
    now: UnixMillis,
) -> Result<AuthMethod, Refusal> {
    if !scope.covers_device(hub.settings.name.as_str(), device) {
        return Err(Refusal::NotAuthorized);
    }
    let (keys, method) = match &token.policy {
        None => (device_keys(identity), AuthMethod::DeviceSas),
        Some(name) => (
            policy_keys(hub, name, |rights| rights.device_connect),
            AuthMethod::HubSas,
        ),
    };
    let keys = keys.ok_or(Refusal::NotAuthorized)?;
    wire::sas::verify(token, &keys, now).map_err(|_| Refusal::NotAuthorized)?;
    let counts = match method {
        AuthMethod::HubSas => hub.settings.access.policy_tokens,
        AuthMethod::DeviceSas | AuthMethod::Certificate => hub.settings.access.device_tokens,
    };
    if identity.enabled && counts {
        Ok(method)
    } else {
        Err(Refusal::NotAuthorized)
    }
}

fn device_keys(identity: &Identity) -> Option<[&str; 2]> {
    match &identity.keys {
        DeviceKeys::Sas { primary, secondary } => Some([primary, secondary]),
        DeviceKeys::SelfSigned { .. } | DeviceKeys::CertificateAuthority | DeviceKeys::None => None,
    }
}

fn policy_keys<'a>(
    hub: &'a HubView,
    name: &str,
    allows: impl Fn(&Rights) -> bool,
) -> Option<[&'a str; 2]> {
    let policy = hub
        .settings
        .policies
        .iter()
        .find(|policy| policy.name.eq_ignore_ascii_case(name))?;
    allows(&policy.rights).then_some([policy.primary_key.as_str(), policy.secondary_key.as_str()])
}

/// A token that is valid by our clock holds until its expiry; one accepted only for clock skew holds until the skew is used up.
fn valid_for_ms(token: &Token, now: UnixMillis) -> u64 {
    let expiry = UnixMillis(token.expiry_unix_s.saturating_mul(1000));
    let skew = limits::SAS_CLOCK_SKEW_S * 1000;
    let until = if now < expiry {
        expiry
    } else {
        expiry.plus(skew)
    };
    until.since(now).max(0) as u64
}

/// Only a positive "no" about the identity is 5: after it an SDK does not come back.
pub(super) fn refusal(answer: Result<Reply, CallError>) -> Refusal {
    match answer {
        Err(CallError::Reject(reject)) => match reject.code {
            ErrorCode::DeviceNotFound | ErrorCode::DeviceDisabled => Refusal::NotAuthorized,
            // IotHubUnauthorized from Open: the identity changed since it was read; the next attempt reads it anew.
            _ => Refusal::ServerUnavailable,
        },
        Err(CallError::Send(_)) => Refusal::ServerUnavailable,
        Ok(reply) => {
            tracing::error!(
                ?reply,
                "the hub gave a session command an answer of another kind"
            );
            Refusal::ServerUnavailable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expiry_unix_s: i64) -> Token {
        let text = wire::sas::make(
            "h/devices/d1",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
            None,
            expiry_unix_s,
        );
        Token::parse(&text).unwrap()
    }

    #[test]
    fn a_token_holds_until_its_expiry_and_a_late_one_until_the_skew_is_used_up() {
        assert_eq!(valid_for_ms(&token(100), UnixMillis(40_000)), 60_000);
        assert_eq!(valid_for_ms(&token(100), UnixMillis(100_000)), 300_000);
        assert_eq!(valid_for_ms(&token(100), UnixMillis(390_000)), 10_000);
        assert_eq!(valid_for_ms(&token(100), UnixMillis(500_000)), 0);
    }

    #[test]
    fn only_a_positive_no_is_final() {
        use crate::backend::SendError;
        use types::Reject;
        let reject = |code| refusal(Err(CallError::Reject(Reject::new(code, ""))));
        assert_eq!(reject(ErrorCode::DeviceNotFound), Refusal::NotAuthorized);
        assert_eq!(reject(ErrorCode::DeviceDisabled), Refusal::NotAuthorized);
        for code in [
            ErrorCode::IotHubUnauthorized,
            ErrorCode::ServiceUnavailable,
            ErrorCode::IotHubFailingOver,
            ErrorCode::ThrottlingException,
        ] {
            assert_eq!(reject(code), Refusal::ServerUnavailable, "{code:?}");
        }
        let broken = SendError::OutcomeUnknown { why: String::new() };
        assert_eq!(
            refusal(Err(CallError::Send(broken))),
            Refusal::ServerUnavailable
        );
    }
}
