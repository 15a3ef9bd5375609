//! Which resource a path names; each resource's file does the rest.

use super::call::Call;
use super::failure::Failure;
use super::metrics::Family;
use super::{
    cloud_to_device, device_bound, events, feedback, offsets, registry, statistics, telemetry,
    twins,
};
use axum::body::Body;
use axum::http::{Method, Response};
use types::Entrance;

pub(super) type Answer = Result<Response<Body>, Failure>;

/// The path in lower case, to compare its fixed words.
fn words(call: &Call) -> Vec<String> {
    call.path
        .iter()
        .map(|segment| segment.to_ascii_lowercase())
        .collect()
}

/// What the request is about, for its metrics.
pub(super) fn family(call: &Call) -> Family {
    let words = words(call);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["devices", _, "messages", "events"] => Family::DeviceTelemetry,
        ["devices", _, "messages", "devicebound"] if call.method == Method::POST => Family::C2d,
        ["devices", _, "messages", "devicebound", ..] => Family::DeviceC2d,
        ["devices", _, "commands"] => Family::C2d,
        ["devices"] | ["devices", _] => Family::Registry,
        ["twins", _] => Family::Twins,
        ["statistics", _] => Family::Statistics,
        ["messages", "servicebound", ..] => Family::Feedback,
        ["messages", "events", ..] => Family::Events,
        _ => Family::Other,
    }
}

/// What a service does with the hub's data, as roles name it; all of them must be allowed. Empty: no service route.
pub(super) fn data_actions(method: &Method, path: &[String]) -> &'static [&'static str] {
    let words: Vec<String> = path.iter().map(|word| word.to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let reads = method == Method::GET;
    match words[..] {
        ["devices"] | ["devices", _] if reads => &["Microsoft.Devices/IotHubs/devices/read"],
        // In bulk devices are made, changed and deleted.
        ["devices"] => &[
            "Microsoft.Devices/IotHubs/devices/write",
            "Microsoft.Devices/IotHubs/devices/delete",
        ],
        ["devices", _] if method == Method::DELETE => &["Microsoft.Devices/IotHubs/devices/delete"],
        ["devices", _] => &["Microsoft.Devices/IotHubs/devices/write"],
        ["twins", _] if reads => &["Microsoft.Devices/IotHubs/twins/read"],
        ["twins", _] => &["Microsoft.Devices/IotHubs/twins/write"],
        ["statistics", _] => &["Microsoft.Devices/IotHubs/statistics/read"],
        ["devices", _, "messages", "devicebound"] => {
            &["Microsoft.Devices/IotHubs/cloudToDeviceMessages/send/action"]
        }
        ["devices", _, "commands"] => {
            &["Microsoft.Devices/IotHubs/cloudToDeviceMessages/queue/purge/action"]
        }
        ["messages", "servicebound", "feedback", ..] => {
            &["Microsoft.Devices/IotHubs/cloudToDeviceMessages/feedback/action"]
        }
        // Positions of readers are ours, and so are the names of what is done with events.
        ["messages", "events", "consumergroups", ..] if !reads => {
            &["Microsoft.Devices/IotHubs/messages/events/positions/write"]
        }
        ["messages", "events", ..] => &["Microsoft.Devices/IotHubs/messages/events/read"],
        _ => &[],
    }
}

/// Answers a request.
pub(super) async fn dispatch(call: Call) -> Answer {
    let words = words(&call);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    call.check_address(match words[..] {
        ["messages", "events", ..] => Entrance::Events,
        _ => Entrance::Hub,
    })?;
    match words[..] {
        ["devices", ref rest @ ..] => below_devices(call, rest).await,
        ["twins", _] => twins::one(call).await,
        ["statistics", "devices"] => statistics::devices(call).await,
        ["statistics", "service"] => statistics::service(call).await,
        ["messages", "servicebound", "feedback"] => feedback::receive(call).await,
        ["messages", "servicebound", "feedback", _] => feedback::complete(call).await,
        ["messages", "servicebound", "feedback", _, "abandon"] => feedback::abandon(call).await,
        ["messages", "events", "partitions"] => events::partitions(call).await,
        ["messages", "events", "partitions", _] => events::read(call).await,
        [
            "messages",
            "events",
            "consumergroups",
            _,
            "partitions",
            _,
            "offset",
        ] => offsets::one(call).await,
        _ => Err(unsupported(&words)),
    }
}

async fn below_devices(call: Call, rest: &[&str]) -> Answer {
    match *rest {
        [] => registry::all(call).await,
        // A device may have the name "query": only the POST is the query route.
        ["query"] if call.method == Method::POST => Err(Failure::unsupported("queries")),
        [_] => registry::one(call).await,
        [_, "messages", "events"] => telemetry::send(call).await,
        [_, "messages", "devicebound"] if call.method == Method::POST => {
            cloud_to_device::send(call).await
        }
        [_, "messages", "devicebound"] => device_bound::receive(call).await,
        [_, "messages", "devicebound", _] => device_bound::settle(call).await,
        [_, "messages", "devicebound", _, "abandon"] => device_bound::abandon(call).await,
        [_, "commands"] => cloud_to_device::purge(call).await,
        [_, "modules", ..] => Err(Failure::unsupported("modules")),
        [_, "files", ..] => Err(Failure::unsupported("file upload")),
        [_, "applyconfigurationcontent"] => Err(Failure::unsupported("configurations")),
        _ => Err(Failure::no_route()),
    }
}

/// Names the feature behind a route that Azure has and this server has not.
fn unsupported(words: &[&str]) -> Failure {
    match words {
        ["twins", _, "methods"] => Failure::unsupported("direct methods over HTTPS"),
        ["twins", _, "modules", ..] => Failure::unsupported("modules"),
        ["configurations", ..] => Failure::unsupported("configurations"),
        ["jobs", ..] => Failure::unsupported("jobs"),
        ["digitaltwins", ..] => Failure::unsupported("digital twins"),
        ["messages", "servicebound", "filenotifications", ..] => {
            Failure::unsupported("file upload")
        }
        ["$iothub", "websocket"] | ["$servicebus", "websocket"] => {
            Failure::unsupported("WebSockets")
        }
        _ => Failure::no_route(),
    }
}
