//! `castling device …`.

use super::Context;
use super::failure::{Failure, Refused};
use super::http::address;
use super::json::{at, items, text, without_secrets};
use super::out::{Cell, Paint, progress};
use super::service::{Service, refusal};
use super::simulate::{self, Simulate};
use clap::Subcommand;
use serde_json::{Value, json};
use types::{DeviceId, limits};
use ureq::http::Method;
use wire::connection_string::{Credential, Device as ConnectionString};

/// More than the service's limit for one hub.
const COUNT_MAX: u32 = 1_000_000;

#[derive(Subcommand)]
pub enum Device {
    /// Create devices, by name or many at once; their keys are made by the hub
    #[command(after_help = "Examples:
  castling device create my-hub thermostat-1 thermostat-2
  castling device create my-hub --count 1000 --prefix sensor       sensor-1 to sensor-1000")]
    Create {
        hub: String,
        /// Names of devices
        ids: Vec<String>,
        /// Number of devices to create besides
        #[arg(long, default_value_t = 0, requires = "prefix")]
        count: u32,
        /// Their names are PREFIX-1, PREFIX-2 and so on
        #[arg(long)]
        prefix: Option<String>,
    },
    /// List devices
    List {
        hub: String,
        /// At most so many, up to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        top: u16,
    },
    /// Show a device, without its keys
    Show { hub: String, id: String },
    /// Delete devices with their twins and queued messages
    Delete {
        hub: String,
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Print a connection string for a device; it holds a key
    #[command(
        after_help = "Example:\n  castling device connection-string my-hub thermostat-1\n\nGatewayHostName in it makes clients dial this machine; the hub's name needs no entry in a hosts file."
    )]
    ConnectionString { hub: String, id: String },
    /// Send telemetry as a number of devices over MQTT and report what was acknowledged
    Simulate(Simulate),
}

pub fn run(command: &Device, context: &Context) -> Result<(), Failure> {
    match command {
        Device::Create {
            hub,
            ids,
            count,
            prefix,
        } => create(hub, ids, *count, prefix.as_deref(), context),
        Device::List { hub, top } => list(&Service::open(&context.network, hub)?, *top, context),
        Device::Show { hub, id } => show(&Service::open(&context.network, hub)?, id, context),
        Device::Delete { hub, ids } => delete(&Service::open(&context.network, hub)?, ids, context),
        Device::ConnectionString { hub, id } => {
            connection_string(&Service::open(&context.network, hub)?, id, context)
        }
        Device::Simulate(wanted) => simulate::run(wanted, context),
    }
}

fn create(
    hub: &str,
    ids: &[String],
    count: u32,
    prefix: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let all = names(ids, count, prefix)?;
    let service = Service::open(&context.network, hub)?;
    if let [id] = all.as_slice() {
        let body = json!({ "deviceId": id }).to_string();
        let headers = [("content-type", "application/json".to_owned())];
        let made = service
            .call(Method::PUT, &path(id), &headers, Some(body.as_bytes()))?
            .json()?;
        return context.out.show(&without_secrets(made), |out| {
            out.line(format!("Device {id} is created."))
        });
    }
    let failed = create_many(&service, &all, "create")?;
    let document = json!({ "created": all.len() - failed.len(), "errors": failed });
    context.out.show(&document, |out| {
        out.line(format!(
            "{} of {} devices are created.",
            all.len() - failed.len(),
            all.len()
        ))?;
        let rows: Vec<Vec<Cell>> = failed
            .iter()
            .map(|error| {
                [
                    text(error, "deviceId"),
                    text(error, "errorCode"),
                    text(error, "errorStatus"),
                ]
                .map(Cell::from)
                .to_vec()
            })
            .collect();
        if rows.is_empty() {
            Ok(())
        } else {
            out.table(&["device", "error", "text"], &rows)
        }
    })?;
    match failed.first() {
        None => Ok(()),
        Some(error) => Err(Failure::Refused(Refused {
            code: text(error, "errorCode"),
            message: format!("{} devices were not created", failed.len()),
            earliest: None,
        })),
    }
}

fn names(ids: &[String], count: u32, prefix: Option<&str>) -> Result<Vec<String>, Failure> {
    if count > COUNT_MAX {
        return Err(Failure::Usage(format!(
            "--count {count}: a hub has at most {COUNT_MAX} devices"
        )));
    }
    let prefix = prefix.unwrap_or_default();
    let all: Vec<String> = ids
        .iter()
        .cloned()
        .chain((1..=count).map(|n| format!("{prefix}-{n}")))
        .collect();
    if all.is_empty() {
        return Err(Failure::Usage(
            "name the devices, or say --count N --prefix P".into(),
        ));
    }
    for id in &all {
        DeviceId::parse(id).map_err(|error| Failure::Usage(format!("`{id}`: {error}")))?;
    }
    Ok(all)
}

/// Creates devices in bulk; gives the entries that failed.
pub fn create_many(
    service: &Service<'_>,
    ids: &[String],
    mode: &str,
) -> Result<Vec<Value>, Failure> {
    let bar = progress(ids.len() as u64, "creating devices");
    let mut failed = Vec::new();
    for part in ids.chunks(limits::BULK_DEVICES_MAX) {
        let entries: Vec<Value> = part
            .iter()
            .map(|id| json!({ "id": id, "importMode": mode, "status": "enabled" }))
            .collect();
        let body = Value::Array(entries).to_string();
        let headers = [("content-type", "application/json".to_owned())];
        let answer = service.call_any(Method::POST, "/devices", &headers, Some(body.as_bytes()))?;
        let document = answer.json()?;
        // 400 with a list of errors is an answer about single entries; anything else is about the request.
        match document.get("errors").and_then(Value::as_array) {
            Some(errors) if matches!(answer.status, 200 | 400) => {
                failed.extend(errors.iter().cloned())
            }
            _ if answer.is_success() => {}
            _ => return Err(refusal(&answer)),
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(failed)
}

fn list(service: &Service<'_>, top: u16, context: &Context) -> Result<(), Failure> {
    let found = service
        .call(Method::GET, &format!("/devices?top={top}"), &[], None)?
        .json()?;
    let found = without_secrets(found);
    context.out.show(&found, |out| {
        let mut devices: Vec<&Value> = items(&found, "").iter().collect();
        devices.sort_by_key(|device| text(device, "deviceId"));
        let rows: Vec<Vec<Cell>> = devices
            .iter()
            .map(|device| {
                let connection = text(device, "connectionState");
                let paint = if connection == "Connected" {
                    Paint::Good
                } else {
                    Paint::Dim
                };
                vec![
                    text(device, "deviceId").into(),
                    text(device, "status").into(),
                    Cell::painted(paint, connection),
                    text(device, "lastActivityTime").into(),
                    text(device, "cloudToDeviceMessageCount").into(),
                ]
            })
            .collect();
        out.table(
            &["device", "status", "connection", "last activity", "queued"],
            &rows,
        )
    })
}

fn show(service: &Service<'_>, id: &str, context: &Context) -> Result<(), Failure> {
    let device = without_secrets(service.call(Method::GET, &path(id), &[], None)?.json()?);
    context.out.show(&device, |out| {
        out.pairs(&[
            ("Device", text(&device, "deviceId")),
            ("Status", text(&device, "status")),
            ("Connection", text(&device, "connectionState")),
            ("Authentication", text(&device, "authentication.type")),
            ("Last activity", text(&device, "lastActivityTime")),
            (
                "Queued messages",
                text(&device, "cloudToDeviceMessageCount"),
            ),
            ("Generation", text(&device, "generationId")),
            ("Etag", text(&device, "etag")),
        ])
    })
}

fn delete(service: &Service<'_>, ids: &[String], context: &Context) -> Result<(), Failure> {
    for id in ids {
        service.call(
            Method::DELETE,
            &path(id),
            &[("if-match", "\"*\"".to_owned())],
            None,
        )?;
        context
            .out
            .show(&json!({ "deviceId": id, "deleted": true }), |out| {
                out.line(format!("Device {id} is deleted."))
            })?;
    }
    Ok(())
}

fn connection_string(service: &Service<'_>, id: &str, context: &Context) -> Result<(), Failure> {
    let device = service.call(Method::GET, &path(id), &[], None)?.json()?;
    let device_id = DeviceId::parse(&text(&device, "deviceId")).map_err(Failure::failed)?;
    let credential =
        match at(&device, "authentication.symmetricKey.primaryKey").and_then(Value::as_str) {
            Some(key) if text(&device, "authentication.type") == "sas" => {
                Credential::Key(key.to_owned())
            }
            _ if text(&device, "authentication.type") == "none" => {
                return Err(Failure::Failed(format!("device `{id}` has no credentials")));
            }
            _ => Credential::Certificate,
        };
    let up = context.network.up();
    let first = up
        .regions
        .first()
        .ok_or_else(|| Failure::Failed("this world has no regions".into()))?;
    let gateway = match address(first)?.to_string() {
        local if local == "127.0.0.1" => "localhost".to_owned(),
        other => other,
    };
    let string = ConnectionString {
        host_name: service.host.clone(),
        device: device_id,
        module: None,
        gateway_host_name: Some(gateway),
        credential,
    }
    .to_text();
    context
        .out
        .show(&json!({ "connectionString": string }), |out| {
            out.line(&string)
        })
}

fn path(id: &str) -> String {
    format!("/devices/{}", wire::percent::encode(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_devices_are_numbered_from_one() {
        let all = names(&["a".into()], 2, Some("s")).unwrap();
        assert_eq!(all, ["a", "s-1", "s-2"]);
    }

    #[test]
    fn names_that_cannot_be_are_refused_before_anything_is_sent() {
        for (ids, count, prefix) in [
            (vec![], 0, None),
            (vec!["a b".to_owned()], 0, None),
            (vec![], 1, Some("ü")),
            (vec![], COUNT_MAX + 1, Some("s")),
        ] {
            assert!(
                matches!(names(&ids, count, prefix), Err(Failure::Usage(_))),
                "{ids:?} {count}"
            );
        }
    }

    #[test]
    fn ids_are_encoded_in_paths() {
        assert_eq!(path("a#b/c"), "/devices/a%23b%2Fc");
    }
}
