//! Hubs for people.

use super::Context;
use super::failure::Failure;
use super::json::{at, items, number, text};
use super::management::HubResource;
use super::out::{Cell, Out, Paint};
use super::span::human;
use serde_json::Value;

pub fn list(hubs: &[HubResource], context: &Context) -> Result<(), Failure> {
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

/// Everything about one hub, with how far its other region is behind.
pub fn show(hub: &HubResource, context: &Context) -> Result<(), Failure> {
    context.out.show(&hub.document, |out| {
        let mut pairs = basics(hub);
        pairs.extend(safety(&hub.document));
        out.pairs(&pairs)?;
        old_primary(&hub.document, out)?;
        lag(&hub.document, out)
    })
}

fn basics(hub: &HubResource) -> Vec<(&'static str, String)> {
    let field = |path| text(&hub.document, path);
    let retention = number(
        &hub.document,
        "properties.eventHubEndpoints.events.retentionTimeInDays",
    );
    vec![
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
            retention.map_or_else(String::new, |days| format!("{days} d")),
        ),
    ]
}

fn safety(document: &Value) -> Vec<(&'static str, String)> {
    let own = |name: &str| at(document, &format!("properties.castling.{name}"));
    let mut pairs = Vec::new();
    let replication = own("replication")
        .map(|value| text(value, ""))
        .unwrap_or_default();
    if !replication.is_empty() {
        pairs.push(("Replication", replication.clone()));
    }
    let bound = own("lagMaxSeconds").and_then(Value::as_f64);
    if replication == "sync" || bound.is_some_and(|seconds| seconds > 0.0) {
        let away = own("partnerAway")
            .map(|value| text(value, ""))
            .unwrap_or_default();
        let now = match own("degraded").and_then(Value::as_bool) {
            Some(true) => format!("{away}: it is away, and the hub acknowledges without it"),
            _ => away,
        };
        pairs.push(("Partner away", now));
    }
    if let Some(seconds) = bound {
        let bound = match seconds {
            0.0 => "none".to_owned(),
            seconds => human((seconds * 1000.0) as i64),
        };
        pairs.push(("Lag bound", bound));
    }
    let held = own("lease").and_then(|lease| at(lease, "held")?.as_bool());
    if let Some(held) = held {
        let left = number(document, "properties.castling.lease.leftMs").unwrap_or_default();
        let lease = match held {
            true => format!("held, {} left", human(left)),
            false => "not held: the hub acknowledges nothing".to_owned(),
        };
        pairs.push(("Lease", lease));
    }
    pairs
}

/// Says that a forced failover left a region away, until it is back.
pub fn old_primary(document: &Value, out: &Out) -> Result<(), Failure> {
    let Some(region) = away(document) else {
        return Ok(());
    };
    let since = text(document, "properties.castling.oldPrimary.since");
    let line = format!("Old primary {region} has not returned (hub forced away at {since}).");
    out.line(out.paint(Paint::Warning, &super::out::printable(&line)))
}

/// The region that a forced failover left and that is not back yet.
pub fn away(document: &Value) -> Option<String> {
    let old = at(document, "properties.castling.oldPrimary")?;
    (at(old, "returned")?.as_bool() == Some(false)).then(|| text(old, "region"))
}

fn lag(document: &Value, out: &Out) -> Result<(), Failure> {
    if text(document, "properties.castling.lagMs").is_empty() {
        return match items(document, "properties.locations").len() {
            0 | 1 => Ok(()),
            _ => out.line(out.paint(
                Paint::Warning,
                "The primary does not say how far the secondary is behind.",
            )),
        };
    }
    if at(document, "properties.castling.partnerConnected").and_then(Value::as_bool) == Some(false)
    {
        out.line(out.paint(Paint::Warning, "The secondary is not connected."))?;
    }
    let rows: Vec<Vec<Cell>> = items(document, "properties.castling.lag")
        .iter()
        .map(lag_row)
        .collect();
    out.line("")?;
    out.table(&["partition", "behind by", "oldest"], &rows)
}

fn lag_row(lag: &Value) -> Vec<Cell> {
    vec![
        text(lag, "partition").into(),
        format!("{} records", text(lag, "records")).into(),
        human(number(lag, "ms").unwrap_or_default()).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(castling: Value) -> Value {
        json!({ "properties": { "castling": castling } })
    }

    #[test]
    fn a_sync_hub_says_what_it_does_without_its_partner() {
        let degraded = with(
            json!({"replication": "sync", "partnerAway": "degrade", "degraded": true, "lagMaxSeconds": 2.5}),
        );
        let pairs = safety(&degraded);
        assert_eq!(pairs[1].0, "Partner away");
        assert!(pairs[1].1.contains("without it"), "{}", pairs[1].1);
        assert_eq!(pairs[2], ("Lag bound", "2.5 s".into()));
        let plain = safety(&with(
            json!({"replication": "async", "partnerAway": "wait", "lagMaxSeconds": 0}),
        ));
        assert_eq!(
            plain,
            [
                ("Replication", "async".into()),
                ("Lag bound", "none".into())
            ]
        );
    }

    #[test]
    fn a_lapsed_lease_is_said() {
        let pairs = safety(&with(json!({"lease": {"held": false, "leftMs": 0}})));
        assert!(pairs[0].1.starts_with("not held"));
        let pairs = safety(&with(json!({"lease": {"held": true, "leftMs": 4200}})));
        assert_eq!(pairs[0].1, "held, 4.2 s left");
    }

    #[test]
    fn only_a_region_that_is_not_back_is_away() {
        let old = |returned: bool| {
            with(json!({"oldPrimary": {"region": "west", "returned": returned, "since": "t"}}))
        };
        assert_eq!(away(&old(false)).as_deref(), Some("west"));
        assert_eq!(away(&old(true)), None);
        assert_eq!(away(&with(json!({"oldPrimary": null}))), None);
    }
}
