//! `castling hub …`.

use super::Context;
use super::confirm::confirm;
use super::consumer_group::{self, ConsumerGroup};
use super::failover::{self, Failover};
use super::failure::Failure;
use super::json::{number, text};
use super::management::{HubResource, Management};
use super::out::{Cell, Paint};
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use ureq::http::Method;

#[derive(Subcommand)]
pub enum Hub {
    /// Create a hub in a region; the region's pair is its other region
    #[command(after_help = "Examples:
  castling hub create my-hub --location westus2
  castling hub create my-hub --location westus2 --partitions 8 --replication sync

With --replication sync, what is acknowledged is on disk in both regions.")]
    Create(Create),
    /// List all hubs
    List,
    /// Show a hub: its regions, roles and settings
    Show { name: String },
    /// Delete a hub with its devices and everything they sent
    Delete {
        name: String,
        /// Confirm without a question: the hub's name again
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Print a connection string for services; it holds a key
    #[command(after_help = "Example:\n  castling hub connection-string my-hub --policy service")]
    ConnectionString {
        name: String,
        /// Policy whose key is used: iothubowner, service, device, registryRead or registryReadWrite
        #[arg(long, default_value = "iothubowner")]
        policy: String,
    },
    /// Swap a hub's regions: check, start, watch, report
    #[command(subcommand)]
    Failover(Failover),
    /// Name those who read a hub's events, each with its own position
    #[command(subcommand)]
    ConsumerGroup(ConsumerGroup),
}

#[derive(clap::Args)]
pub struct Create {
    /// 3 to 50 letters, digits and hyphens; unique in this world
    name: String,
    /// Region of the hub, such as westus2
    #[arg(long, short)]
    location: String,
    /// Group that holds the hub; created if absent
    #[arg(long, short = 'g', default_value = "castling", value_name = "NAME")]
    resource_group: String,
    /// Partitions, fixed for ever [default: 4]
    #[arg(long, value_name = "COUNT")]
    partitions: Option<u16>,
    /// Days that events are kept, 1 to 7 [default: 1]
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u8>,
    /// Acknowledge when this region has it on disk, or both have
    #[arg(long, value_enum)]
    replication: Option<Replication>,
    /// Size and limits, as Azure names them
    #[arg(long, default_value = "S1")]
    sku: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Replication {
    /// This region has it on disk
    Async,
    /// Both regions have it on disk
    Sync,
}

pub fn run(command: &Hub, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    match command {
        Hub::Create(wanted) => create(wanted, &management, context),
        Hub::List => list(&management, context),
        Hub::Show { name } => show(&management.hub(name)?, context),
        Hub::Delete { name, yes } => delete(name, yes.as_deref(), &management, context),
        Hub::ConnectionString { name, policy } => {
            connection_string(name, policy, &management, context)
        }
        Hub::Failover(command) => failover::run(command, context),
        Hub::ConsumerGroup(command) => consumer_group::run(command, context),
    }
}

fn create(wanted: &Create, management: &Management<'_>, context: &Context) -> Result<(), Failure> {
    if management
        .hubs()?
        .iter()
        .any(|hub| hub.name.eq_ignore_ascii_case(&wanted.name))
    {
        return Err(Failure::Failed(format!(
            "there is a hub named `{}` already",
            wanted.name
        )));
    }
    ensure_group(&wanted.resource_group, &wanted.location, management)?;
    let group = management.group_path(&wanted.resource_group);
    let path = format!(
        "{group}/providers/Microsoft.Devices/IotHubs/{}",
        wire::percent::encode(&wanted.name)
    );
    let begun = management.call(Method::PUT, &path, Some(&body(wanted)))?;
    management.finish(&begun, &path, &format!("creating {}", wanted.name))?;
    show(&management.hub(&wanted.name)?, context)
}

fn ensure_group(name: &str, location: &str, management: &Management<'_>) -> Result<(), Failure> {
    let path = management.group_path(name);
    if management.ask(Method::GET, &path, None)?.status != 404 {
        // Whatever else is wrong, creating the hub says it.
        return Ok(());
    }
    management
        .call(Method::PUT, &path, Some(&json!({ "location": location })))
        .map(|_| ())
}

fn body(wanted: &Create) -> Value {
    let mut events = Map::new();
    if let Some(count) = wanted.partitions {
        events.insert("partitionCount".into(), count.into());
    }
    if let Some(days) = wanted.retention_days {
        events.insert("retentionTimeInDays".into(), days.into());
    }
    let mut properties = Map::new();
    if !events.is_empty() {
        properties.insert("eventHubEndpoints".into(), json!({ "events": events }));
    }
    if let Some(replication) = wanted.replication {
        let word = match replication {
            Replication::Async => "async",
            Replication::Sync => "sync",
        };
        properties.insert("castling".into(), json!({ "replication": word }));
    }
    json!({ "location": wanted.location, "sku": { "name": wanted.sku, "capacity": 1 }, "properties": properties })
}

fn list(management: &Management<'_>, context: &Context) -> Result<(), Failure> {
    let hubs = management.hubs()?;
    let documents = Value::Array(hubs.iter().map(|hub| hub.document.clone()).collect());
    context.out.show(&documents, |out| {
        if hubs.is_empty() {
            return out
                .line("No hubs yet. Make one: castling hub create my-hub --location westus2");
        }
        let rows: Vec<Vec<Cell>> = hubs.iter().map(row).collect();
        out.table(
            &[
                "name",
                "resource group",
                "home",
                "primary",
                "secondary",
                "state",
                "sku",
            ],
            &rows,
        )
    })
}

fn row(hub: &HubResource) -> Vec<Cell> {
    let state = text(&hub.document, "properties.state");
    let paint = if state == "Active" {
        Paint::Good
    } else {
        Paint::Warning
    };
    vec![
        hub.name.clone().into(),
        text(&hub.document, "resourcegroup").into(),
        text(&hub.document, "location").into(),
        hub.region("primary").unwrap_or_default().into(),
        hub.region("secondary")
            .unwrap_or_else(|| "none".into())
            .into(),
        Cell::painted(paint, state),
        text(&hub.document, "sku.name").into(),
    ]
}

fn show(hub: &HubResource, context: &Context) -> Result<(), Failure> {
    context.out.show(&hub.document, |out| {
        let field = |path| text(&hub.document, path);
        let mut pairs = vec![
            ("Name", hub.name.clone()),
            ("Host name", field("properties.hostName")),
            ("State", field("properties.state")),
            ("Home", field("location")),
            ("Primary", hub.region("primary").unwrap_or_default()),
            (
                "Secondary",
                hub.region("secondary").unwrap_or_else(|| "none".into()),
            ),
            ("Resource group", field("resourcegroup")),
            (
                "SKU",
                format!("{} × {}", field("sku.name"), field("sku.capacity")),
            ),
            (
                "Partitions",
                field("properties.eventHubEndpoints.events.partitionCount"),
            ),
            (
                "Retention",
                number(
                    &hub.document,
                    "properties.eventHubEndpoints.events.retentionTimeInDays",
                )
                .map_or_else(String::new, |days| format!("{days} d")),
            ),
        ];
        let replication = field("properties.castling.replication");
        if !replication.is_empty() {
            pairs.push(("Replication", replication));
        }
        out.pairs(&pairs)
    })
}

fn delete(
    name: &str,
    yes: Option<&str>,
    management: &Management<'_>,
    context: &Context,
) -> Result<(), Failure> {
    let hub = management.hub(name)?;
    confirm(
        &hub.name,
        yes,
        &format!(
            "This deletes hub `{}` in both regions: devices, twins, queued messages, events.",
            hub.name
        ),
    )?;
    let begun = management.call(Method::DELETE, &hub.path, None)?;
    if begun.status == 202 {
        match management.finish(&begun, &hub.path, &format!("deleting {}", hub.name)) {
            // An operation that is forgotten together with its hub has ended.
            Err(Failure::Failed(_))
                if management.ask(Method::GET, &hub.path, None)?.status == 404 => {}
            other => other?,
        }
    }
    context
        .out
        .show(&json!({ "name": hub.name, "deleted": true }), |out| {
            out.line(format!("Hub {} is deleted.", hub.name))
        })
}

fn connection_string(
    name: &str,
    policy: &str,
    management: &Management<'_>,
    context: &Context,
) -> Result<(), Failure> {
    let hub = management.hub(name)?;
    let rule = management.policy(&hub, policy)?;
    let service = wire::connection_string::Service {
        host_name: hub.host_name()?,
        policy: text(&rule, "keyName"),
        key: text(&rule, "primaryKey"),
    };
    let string = service.to_text();
    context
        .out
        .show(&json!({ "connectionString": string }), |out| {
            out.line(&string)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Create {
        Create {
            name: "h".into(),
            location: "westus2".into(),
            resource_group: "g".into(),
            partitions: None,
            retention_days: None,
            replication: None,
            sku: "S1".into(),
        }
    }

    #[test]
    fn what_is_not_asked_is_left_to_the_service() {
        assert_eq!(
            body(&wanted()),
            json!({"location": "westus2", "sku": {"name": "S1", "capacity": 1}, "properties": {}})
        );
    }

    #[test]
    fn what_is_asked_is_in_the_request() {
        let wanted = Create {
            partitions: Some(8),
            retention_days: Some(3),
            replication: Some(Replication::Sync),
            ..wanted()
        };
        let properties = json!({
            "eventHubEndpoints": {"events": {"partitionCount": 8, "retentionTimeInDays": 3}},
            "castling": {"replication": "sync"},
        });
        assert_eq!(body(&wanted)["properties"], properties);
    }
}
