//! What CONNECT says, as far as no hub is needed to judge it (data-plane notes section 3.1).

use super::end::{End, Refusal};
use super::telemetry;
use hub::command::Message;
use rmqtt_codec::types::MQTT_LEVEL_311;
use rmqtt_codec::v3::Connect;
use types::{DeviceId, limits};
use wire::MqttIdentity;
use wire::mqtt_identity::IdentityError;

/// What CONNECT claims; nothing of it is proven.
#[derive(Debug)]
pub struct Login {
    pub identity: MqttIdentity,
    /// The password: a SAS token as text.
    pub token: String,
    pub clean: bool,
}

/// What is remembered of CONNECT until the session is open.
#[derive(Debug)]
pub(super) struct Connecting {
    pub device: DeviceId,
    pub keep_alive_ms: u64,
    pub will: Option<Message>,
}

/// Reads CONNECT as far as that needs no hub.
pub(super) fn read(connect: Connect) -> Result<(Connecting, Login), End> {
    if connect.protocol.level() != MQTT_LEVEL_311 {
        return Err(End::Refused(Refusal::ProtocolVersion));
    }
    let Some(user_name) = &connect.username else {
        return Err(End::Refused(Refusal::UserNameOrPassword));
    };
    let identity = MqttIdentity::parse(&connect.client_id, user_name).map_err(|why| {
        End::Refused(match why {
            IdentityError::UserName(_) => Refusal::UserNameOrPassword,
            IdentityError::ClientId(_) | IdentityError::Mismatch => Refusal::ClientId,
        })
    })?;
    // Certificates and modules are not supported: such an identity is positively not one of ours.
    let Some(password) = &connect.password else {
        return Err(End::Refused(Refusal::NotAuthorized));
    };
    if identity.module.is_some() {
        return Err(End::Refused(Refusal::NotAuthorized));
    }
    let Ok(token) = std::str::from_utf8(password) else {
        return Err(End::Refused(Refusal::UserNameOrPassword));
    };
    let will = connect
        .last_will
        .map(|will| telemetry::will(will, &identity.device))
        .transpose()?;
    let (device, keep_alive_ms) = (identity.device.clone(), keep_alive_ms(connect.keep_alive));
    let login = Login {
        identity,
        token: token.to_owned(),
        clean: connect.clean_session,
    };
    Ok((
        Connecting {
            device,
            keep_alive_ms,
            will,
        },
        login,
    ))
}

/// One and a half times the client's value [MQTT-3.1.2-24], capped; 0 means the cap (data-plane notes section 3.2).
fn keep_alive_ms(seconds: u16) -> u64 {
    let seconds = if seconds == 0 {
        limits::MQTT_KEEP_ALIVE_S_MAX
    } else {
        seconds.min(limits::MQTT_KEEP_ALIVE_S_MAX)
    };
    u64::from(seconds) * 1500
}
