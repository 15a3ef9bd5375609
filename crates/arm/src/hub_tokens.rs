//! Tokens of the deployment that services show to a hub instead of a key (control-plane notes section 4).

use crate::auth::{self, Unidentified};
use crate::tokens;
use control::{Hub, State};
use types::UnixMillis;

/// What clients of IoT hubs ask tokens for when they are left at their defaults.
const WELL_KNOWN: &str = "https://iothubs.azure.net";

/// Why a token does not let a service into a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubTokenError {
    /// Who it is could not be proven.
    Unproven(String),
    /// Proven, but none of their roles allows it.
    NotAllowed(String),
}

/// Whether an audience names hubs in general.
pub(crate) fn is_hubs_audience(audience: &str) -> bool {
    let audience = audience.strip_suffix('/').unwrap_or(audience);
    audience.eq_ignore_ascii_case(WELL_KNOWN)
}

/// Whether who holds a token may do `action` with a hub's data.
///
/// # Errors
/// Malformed, expired, for another audience, of somebody who is not there any more; or no role allows it.
pub fn verify_for_hub(
    state: &State,
    token: &str,
    hub: &Hub,
    action: &str,
    now: UnixMillis,
) -> Result<(), HubTokenError> {
    let own = format!("https://{}.{}", hub.name, state.deployment.domain);
    let fits = |audience: &str| {
        let bare = audience.strip_suffix('/').unwrap_or(audience);
        is_hubs_audience(audience) || bare.eq_ignore_ascii_case(&own)
    };
    let claims = tokens::verify_for(state, token, fits, now)
        .map_err(|error| HubTokenError::Unproven(format!("Authentication failed: {error}.")))?;
    let caller = auth::of_claims(state, claims, now)
        .map_err(|Unidentified { message, .. }| HubTokenError::Unproven(message))?;
    if state.may_data(caller.asker(), action, &hub.path()) {
        return Ok(());
    }
    Err(HubTokenError::NotAllowed(format!(
        "'{}' has no role that allows '{action}' on IotHub '{}'.",
        caller.name, hub.name
    )))
}
