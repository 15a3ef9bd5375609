//! Connections of devices, and what a persistent MQTT session keeps: its subscriptions.
//!
//! Who is connected is volatile and rebuilt as clients return; subscriptions are state. Source: data-plane notes 3.1–3.4.

use crate::command::SessionCommand;
use crate::decision::{CloseReason, PresenceChange};
use crate::registry::{self, Device};
use crate::{
    Context, Decision, Effect, Presence, Refused, Reply, View, ViewError, WriteSet, c2d, keys,
    stored, twin,
};
use serde::{Deserialize, Serialize};
use types::{ConnectionId, DeviceId, ErrorCode, Reject, limits};

/// Decides one command of this family.
///
/// # Errors
/// [`ErrorCode::DeviceNotFound`], [`ErrorCode::DeviceDisabled`], [`ErrorCode::IotHubUnauthorized`] (registered anew since the
/// client was authenticated), [`ErrorCode::ArgumentInvalid`] (too many subscriptions); otherwise as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &SessionCommand,
) -> Result<Decision, Refused> {
    match command {
        SessionCommand::Identity { device } => Ok(Decision::reply(Reply::Identity(
            registry::require(view, device)?.identity(),
        ))),
        SessionCommand::Open {
            device,
            generation,
            connection,
            gateway,
            since,
            clean,
        } => {
            let presence = Presence {
                connection: *connection,
                gateway: gateway.clone(),
                since: *since,
            };
            open(view, context, device, generation, presence, *clean)
        }
        SessionCommand::Close { device, connection } => close(view, context, device, *connection),
        SessionCommand::Subscribe { device, filters } => subscribe(view, device, filters),
        SessionCommand::Unsubscribe { device, filters } => unsubscribe(view, device, filters),
        SessionCommand::Restate {
            device,
            connection,
            gateway,
            since,
            c2d,
            desired_seen,
        } => {
            let presence = Presence {
                connection: *connection,
                gateway: gateway.clone(),
                since: *since,
            };
            restate(view, context, device, presence, *c2d, *desired_seen)
        }
    }
}

/// What is kept for a device's MQTT session. Described in docs/formats/state.md.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    /// True if it belongs to a clean session: the next connection does not take it over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clean: bool,
    /// (topic filter, granted QoS) in the order of their first subscription.
    filters: Vec<(String, u8)>,
}

impl Session {
    fn load(view: &dyn View, device: &DeviceId) -> Result<Option<Self>, ViewError> {
        view.get(&keys::subscriptions(device))?
            .map(|bytes| stored::decode("subscriptions", &bytes))
            .transpose()
    }

    fn store(&self, device: &DeviceId, writes: &mut WriteSet) {
        writes.put(keys::subscriptions(device), stored::encode(self));
    }

    fn set(&mut self, filter: &str, qos: u8) {
        match self.filters.iter_mut().find(|(kept, _)| kept == filter) {
            Some(kept) => kept.1 = qos,
            None => self.filters.push((filter.to_owned(), qos)),
        }
    }
}

/// True for the filter of a device's cloud-to-device messages.
fn is_c2d(filter: &str) -> bool {
    const END: &str = "/messages/devicebound/#";
    filter
        .len()
        .checked_sub(END.len())
        .and_then(|at| filter.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(END))
}

fn open(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    generation: &str,
    presence: Presence,
    clean: bool,
) -> Result<Decision, Refused> {
    let identity = registry::require(view, device)?;
    if identity.generation != generation {
        let text = "the device was registered anew; authenticate again";
        return Err(Reject::new(ErrorCode::IotHubUnauthorized, text).into());
    }
    check_enabled(&identity)?;
    let mut decision = Decision::reply(Reply::Done);
    let (present, session) = begin_session(view, device, clean, &mut decision.writes)?;
    if let Some(former) =
        (context.presence)(device).filter(|former| former.connection != presence.connection)
    {
        decision.effects.push(taken_over(device, former.connection));
    }
    decision.presence.push(connected(device, presence));
    if session.filters.iter().any(|(filter, _)| is_c2d(filter)) {
        tell_of_c2d(view, device, &mut decision)?;
    }
    let desired_version = twin::desired_version(view, device)?;
    decision.reply = Reply::SessionOpened {
        present,
        subscriptions: session.filters,
        desired_version,
    };
    Ok(decision)
}

fn check_enabled(identity: &Device) -> Result<(), Reject> {
    if identity.enabled() {
        Ok(())
    } else {
        Err(Reject::new(
            ErrorCode::DeviceDisabled,
            "the device is disabled",
        ))
    }
}

/// What the new connection finds, and whether it is kept state of an earlier one.
///
/// A clean session is marked in state: [MQTT-3.1.2-6] its subscriptions must not be found by a later connection, and a
/// later connection may come to another primary that knows nothing but state.
fn begin_session(
    view: &dyn View,
    device: &DeviceId,
    clean: bool,
    writes: &mut WriteSet,
) -> Result<(bool, Session), ViewError> {
    let kept = Session::load(view, device)?;
    if clean {
        let fresh = Session {
            clean: true,
            filters: Vec::new(),
        };
        if kept.as_ref() != Some(&fresh) {
            fresh.store(device, writes);
        }
        return Ok((false, fresh));
    }
    match kept {
        Some(session) if !session.clean => Ok((true, session)),
        Some(_) => {
            writes.remove(keys::subscriptions(device));
            Ok((false, Session::default()))
        }
        None => Ok((false, Session::default())),
    }
}

fn close(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    connection: ConnectionId,
) -> Result<Decision, Refused> {
    let mut decision = Decision::reply(Reply::Done);
    let released = c2d::release(view, device, connection, &mut decision.writes)?;
    if released
        && (context.presence)(device).is_some_and(|present| present.connection != connection)
    {
        decision.effects.push(Effect::C2dWaiting {
            device: device.clone(),
        });
    }
    decision.presence.push(PresenceChange::Disconnected {
        device: device.clone(),
        connection,
    });
    Ok(decision)
}

fn subscribe(
    view: &dyn View,
    device: &DeviceId,
    filters: &[(String, u8)],
) -> Result<Decision, Refused> {
    registry::require(view, device)?;
    let kept = Session::load(view, device)?;
    let mut session = kept.clone().unwrap_or_default();
    let mut granted = Vec::with_capacity(filters.len());
    for (filter, qos) in filters {
        if filter.len() > limits::MQTT_FILTER_BYTES_MAX {
            let text = format!(
                "a topic filter exceeds {} bytes",
                limits::MQTT_FILTER_BYTES_MAX
            );
            return Err(Reject::new(ErrorCode::ArgumentInvalid, text).into());
        }
        // QoS 2 is not offered: such a subscription is granted QoS 1.
        let qos = (*qos).min(1);
        session.set(filter, qos);
        if session.filters.len() > limits::MQTT_SUBSCRIPTIONS_MAX {
            let text = format!(
                "a device may keep {} subscriptions",
                limits::MQTT_SUBSCRIPTIONS_MAX
            );
            return Err(Reject::new(ErrorCode::ArgumentInvalid, text).into());
        }
        granted.push(qos);
    }
    let desired_version = twin::desired_version(view, device)?;
    let mut decision = Decision::reply(Reply::Subscribed {
        granted,
        desired_version,
    });
    if kept.as_ref() != Some(&session) && !filters.is_empty() {
        session.store(device, &mut decision.writes);
    }
    if filters.iter().any(|(filter, _)| is_c2d(filter)) {
        tell_of_c2d(view, device, &mut decision)?;
    }
    Ok(decision)
}

fn unsubscribe(
    view: &dyn View,
    device: &DeviceId,
    filters: &[String],
) -> Result<Decision, Refused> {
    let mut decision = Decision::reply(Reply::Done);
    let Some(mut session) = Session::load(view, device)? else {
        return Ok(decision);
    };
    let before = session.filters.len();
    session.filters.retain(|(kept, _)| !filters.contains(kept));
    if session.filters.len() != before {
        // A session without subscriptions is still one that a later connection finds.
        session.store(device, &mut decision.writes);
    }
    Ok(decision)
}

fn restate(
    view: &dyn View,
    context: &Context<'_>,
    device: &DeviceId,
    presence: Presence,
    c2d: bool,
    desired_seen: Option<u64>,
) -> Result<Decision, Refused> {
    let mut decision = Decision::reply(Reply::Done);
    let connection = presence.connection;
    let identity = match registry::require(view, device) {
        Ok(identity) if identity.enabled() => identity,
        Ok(_) => {
            return Ok(turned_away(
                decision,
                device,
                connection,
                CloseReason::Disabled,
            ));
        }
        Err(Refused::Reject(_)) => {
            return Ok(turned_away(
                decision,
                device,
                connection,
                CloseReason::Deleted,
            ));
        }
        Err(error) => return Err(error),
    };
    if let Some(other) = (context.presence)(device).filter(|other| other.connection != connection) {
        // The number settles ties, so that every order of arrival ends with the same connection.
        if (other.since, other.connection) > (presence.since, connection) {
            return Ok(turned_away(
                decision,
                device,
                connection,
                CloseReason::TakenOver,
            ));
        }
        decision.effects.push(taken_over(device, other.connection));
    }
    decision.presence.push(connected(device, presence));
    if c2d {
        tell_of_c2d(view, device, &mut decision)?;
    }
    if let Some(seen) = desired_seen {
        let (version, body) = twin::desired(view, device, &identity)?;
        // After a forced failover the device may also have seen a version that is lost: it must learn what holds now.
        if seen != version {
            decision.effects.push(Effect::DesiredChanged {
                device: device.clone(),
                version,
                body,
            });
        }
    }
    Ok(decision)
}

fn turned_away(
    mut decision: Decision,
    device: &DeviceId,
    connection: ConnectionId,
    why: CloseReason,
) -> Decision {
    decision.effects.push(Effect::Close {
        device: device.clone(),
        connection,
        why,
    });
    decision
}

fn taken_over(device: &DeviceId, connection: ConnectionId) -> Effect {
    Effect::Close {
        device: device.clone(),
        connection,
        why: CloseReason::TakenOver,
    }
}

fn connected(device: &DeviceId, presence: Presence) -> PresenceChange {
    let Presence {
        connection,
        gateway,
        since,
    } = presence;
    PresenceChange::Connected {
        device: device.clone(),
        connection,
        gateway,
        since,
    }
}

fn tell_of_c2d(
    view: &dyn View,
    device: &DeviceId,
    decision: &mut Decision,
) -> Result<(), ViewError> {
    if c2d::waiting(view, device)? > 0 {
        decision.effects.push(Effect::C2dWaiting {
            device: device.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
