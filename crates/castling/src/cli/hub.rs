//! `castling hub …`.

use super::Context;
use super::access::{self, Approvals};
use super::confirm::confirm;
use super::consumer_group::{self, ConsumerGroup};
use super::drill::{self, Drill};
use super::failover::{self, Failover};
use super::failure::Failure;
use super::hub_view;
use super::json::text;
use super::management::{HubResource, Management};
use super::plan::{self, Plan};
use super::salvage::{self, Salvage};
use super::span;
use super::transfer;
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use ureq::http::Method;

#[derive(Subcommand)]
pub enum Hub {
    /// Create a hub in a region; the region's pair is its other region
    #[command(after_help = "Examples:
  castling hub create my-hub --location westus2
  castling hub create my-hub --location westus2 --partitions 8 --replication sync

With --replication sync, what is acknowledged is on disk in both regions. While the other region is away, --partner-away says whether
such a hub waits (acknowledges nothing) or degrades (acknowledges as an async hub until the other is back).")]
    Create(Create),
    /// Change a hub's settings; what is not named stays as it is
    #[command(after_help = "Examples:
  castling hub update my-hub --replication sync --partner-away degrade
  castling hub update my-hub --lag-max 5s
  castling hub update my-hub --lag-max none")]
    Update(Update),
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
    /// See and use what a region had alone when the hub was forced away from it
    #[command(subcommand)]
    Salvage(Salvage),
    /// Rehearse: fail over and back on purpose, with a report
    #[command(subcommand)]
    Drill(Drill),
    /// Fail over many hubs in one go
    #[command(subcommand)]
    Plan(Plan),
    /// Failovers that wait for a second person
    #[command(subcommand)]
    Approvals(Approvals),
    /// Write a hub's definition down as an ARM template, to make it anew elsewhere
    #[command(
        after_help = "Example:\n  castling hub export my-hub --devices --keys --file my-hub.json"
    )]
    Export(transfer::Export),
    /// Make a hub from what `export` wrote
    #[command(after_help = "Example:\n  castling --context other hub import my-hub.json")]
    Import(transfer::Import),
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
    #[command(flatten)]
    safety: Safety,
    /// Size and limits, as Azure names them
    #[arg(long, default_value = "S1")]
    sku: String,
}

#[derive(clap::Args)]
pub struct Update {
    name: String,
    /// Days that events are kept, 1 to 7
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u8>,
    #[command(flatten)]
    safety: Safety,
}

/// What a hub promises across its two regions.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Safety {
    /// Acknowledge when this region has it on disk, or both have
    #[arg(long, value_enum)]
    replication: Option<Replication>,
    /// What a hub that is sync, or has a bound on its lag, does while its other region is away
    #[arg(long, value_enum)]
    partner_away: Option<PartnerAway>,
    /// How far the other region may be behind before producers are slowed: 5s, 500ms, or none
    #[arg(long, value_parser = lag_max, value_name = "SPAN")]
    lag_max: Option<LagMax>,
}

/// Milliseconds; 0: no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LagMax(i64);

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Replication {
    /// This region has it on disk
    Async,
    /// Both regions have it on disk
    Sync,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PartnerAway {
    /// It acknowledges nothing until the other region is back
    Wait,
    /// It acknowledges as an async hub until the other region has caught up
    Degrade,
}

fn lag_max(text: &str) -> Result<LagMax, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(LagMax(0));
    }
    let millis = span::parse(text).ok_or("it must be a time such as 5s or 500ms, or none")?;
    Ok(LagMax(millis))
}

impl Safety {
    /// The hub's own fields of the management API; empty when nothing is asked.
    fn fields(self) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Some(replication) = self.replication {
            let word = match replication {
                Replication::Async => "async",
                Replication::Sync => "sync",
            };
            fields.insert("replication".into(), word.into());
        }
        if let Some(away) = self.partner_away {
            let word = match away {
                PartnerAway::Wait => "wait",
                PartnerAway::Degrade => "degrade",
            };
            fields.insert("partnerAway".into(), word.into());
        }
        if let Some(LagMax(millis)) = self.lag_max {
            let seconds = millis as f64 / 1000.0;
            fields.insert("lagMaxSeconds".into(), seconds.into());
        }
        fields
    }
}

pub fn run(command: &Hub, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    match command {
        Hub::Create(wanted) => create(wanted, &management, context),
        Hub::Update(wanted) => update(wanted, &management, context),
        Hub::List => hub_view::list(&management.hubs()?, context),
        Hub::Show { name } => show(name, &management, context),
        Hub::Delete { name, yes } => delete(name, yes.as_deref(), &management, context),
        Hub::ConnectionString { name, policy } => {
            connection_string(name, policy, &management, context)
        }
        Hub::Failover(command) => failover::run(command, context),
        Hub::Salvage(command) => salvage::run(command, context),
        Hub::Drill(command) => drill::run(command, context),
        Hub::Plan(command) => plan::run(command, context),
        Hub::Approvals(command) => access::approvals(command, context),
        Hub::Export(wanted) => transfer::export(wanted, context),
        Hub::Import(wanted) => transfer::import(wanted, context),
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
    show(&wanted.name, management, context)
}

/// Sends the hub back as it is, with what is to change.
fn update(wanted: &Update, management: &Management<'_>, context: &Context) -> Result<(), Failure> {
    let hub = management.hub(&wanted.name)?;
    let body = changed(&hub.document, wanted)?;
    management.call(Method::PUT, &hub.path, Some(&body))?;
    show(&wanted.name, management, context)
}

fn changed(document: &Value, wanted: &Update) -> Result<Value, Failure> {
    let own = wanted.safety.fields();
    if own.is_empty() && wanted.retention_days.is_none() {
        return Err(Failure::Usage("name at least one setting to change".into()));
    }
    let mut body = document.clone();
    // What stands there now and is not named stays; live figures are not settings.
    body["properties"]["castling"] = Value::Object(own);
    if let Some(days) = wanted.retention_days {
        body["properties"]["eventHubEndpoints"]["events"]["retentionTimeInDays"] = days.into();
    }
    Ok(body)
}

fn show(name: &str, management: &Management<'_>, context: &Context) -> Result<(), Failure> {
    // The list leaves live figures out.
    let hub = management.hub(name)?;
    let hub = HubResource {
        document: management.get(&hub.path)?,
        ..hub
    };
    hub_view::show(&hub, context)
}

pub fn ensure_group(
    name: &str,
    location: &str,
    management: &Management<'_>,
) -> Result<(), Failure> {
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
    let own = wanted.safety.fields();
    if !own.is_empty() {
        properties.insert("castling".into(), Value::Object(own));
    }
    json!({ "location": wanted.location, "sku": { "name": wanted.sku, "capacity": 1 }, "properties": properties })
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
            safety: Safety::default(),
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
            safety: Safety {
                replication: Some(Replication::Sync),
                partner_away: Some(PartnerAway::Degrade),
                lag_max: Some(LagMax(2_500)),
            },
            ..wanted()
        };
        let properties = json!({
            "eventHubEndpoints": {"events": {"partitionCount": 8, "retentionTimeInDays": 3}},
            "castling": {"replication": "sync", "partnerAway": "degrade", "lagMaxSeconds": 2.5},
        });
        assert_eq!(body(&wanted)["properties"], properties);
    }

    #[test]
    fn an_update_sends_the_hub_back_with_what_changes_and_without_live_figures() {
        let document = json!({"etag": "e", "tags": {"k": "v"}, "properties": {
            "comments": "mine", "castling": {"epoch": 3, "lagMs": 5, "replication": "sync"}}});
        let mut wanted = Update {
            name: "h".into(),
            retention_days: None,
            safety: Safety::default(),
        };
        assert!(matches!(
            changed(&document, &wanted),
            Err(Failure::Usage(_))
        ));
        wanted.safety.lag_max = Some(LagMax(0));
        let sent = changed(&document, &wanted).unwrap();
        assert_eq!(
            sent["properties"],
            json!({"comments": "mine", "castling": {"lagMaxSeconds": 0.0}})
        );
        assert_eq!(
            (&sent["etag"], &sent["tags"]),
            (&json!("e"), &json!({"k": "v"}))
        );
    }

    #[test]
    fn a_bound_on_the_lag_is_a_time_or_none() {
        assert_eq!(lag_max("none"), Ok(LagMax(0)));
        assert_eq!(lag_max("500ms"), Ok(LagMax(500)));
        assert!(lag_max("soon").is_err());
    }
}
