//! A hub's routes and enrichments, carried out where telemetry comes in.

use crate::backend::Backend;
use hub::command::Message;
use types::{DeviceId, HubId};
use wire::routing::Routes;

/// The messages that are to be stored, with what the hub adds to them. Those that no route takes are left out: their sender
/// is told that they were accepted, as the public service does it.
pub(crate) fn kept(
    backend: &dyn Backend,
    hub: HubId,
    device: &DeviceId,
    messages: Vec<Message>,
) -> Vec<Message> {
    let Some(view) = backend.hub_by_id(hub) else {
        return messages;
    };
    let Some(routing) = view.settings.routing.as_deref() else {
        return messages;
    };
    let routes = match Routes::new(routing, view.settings.name.as_str()) {
        Ok(routes) => routes,
        // Conditions are compiled before they are taken; rather keep too much than lose it.
        Err(error) => {
            tracing::warn!(hub = %view.settings.name, %error, "a route's condition is not understood; all messages are kept");
            return messages;
        }
    };
    let before = messages.len();
    let route = |message: Message| {
        // Bags were checked to be text.
        let bag = std::str::from_utf8(&message.bag).ok()?;
        let bag = routes.route(device.as_str(), bag, &message.body)?;
        Some(Message {
            bag: bag.into(),
            body: message.body,
        })
    };
    let kept: Vec<Message> = messages.into_iter().filter_map(route).collect();
    if kept.len() < before {
        tracing::debug!(hub = %view.settings.name, %device, dropped = before - kept.len(), "messages that no route takes");
    }
    kept
}
