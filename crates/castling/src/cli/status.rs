//! `castling status`: what every node says of itself.

use super::Context;
use super::failure::Failure;
use super::json::text;
use super::out::{Cell, Out, Paint};
use crate::world::status::PATH;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(3);

type Told = (String, Result<Value, String>);

pub fn run(context: &Context) -> Result<(), Failure> {
    let told = context.network.ask_each(PATH, WITHIN);
    let all: Vec<Value> = told
        .iter()
        .map(|(name, answer)| match answer {
            Ok(status) => status.clone(),
            Err(why) => json!({ "node": name, "reachable": false, "why": why }),
        })
        .collect();
    context
        .out
        .show(&json!({ "nodes": all }), |out| print(&told, out))?;
    if told.iter().all(|(_, answer)| answer.is_err()) {
        return Err(Failure::Failed("no node answers".into()));
    }
    Ok(())
}

fn print(told: &[Told], out: &Out) -> Result<(), Failure> {
    let rows: Vec<Vec<Cell>> = told
        .iter()
        .map(|(name, answer)| match answer {
            Ok(status) => row(name, status),
            Err(_) => vec![
                name.as_str().into(),
                Cell::painted(Paint::Bad, "does not answer"),
            ],
        })
        .collect();
    out.table(
        &[
            "node",
            "state",
            "role",
            "lease",
            "control plane",
            "devices",
            "version",
            "certificate",
        ],
        &rows,
    )?;
    let troubles: Vec<String> = told.iter().flat_map(troubles).collect();
    if !troubles.is_empty() {
        out.line("")?;
    }
    for trouble in &troubles {
        out.line(trouble)?;
    }
    hubs(told, out)
}

fn row(name: &str, status: &Value) -> Vec<Cell> {
    let ready = status["ready"] == true;
    let state = match (ready, status["draining"].is_null()) {
        (false, _) => Cell::painted(Paint::Warning, "waits"),
        (true, false) => Cell::painted(Paint::Warning, "drains"),
        (true, true) => Cell::painted(Paint::Good, "ready"),
    };
    let lease = match (&status["lease"]["held"], status["role"] == "region") {
        (_, false) => Cell::from("-"),
        (Value::Bool(true), _) => Cell::painted(Paint::Good, "held"),
        _ => Cell::painted(Paint::Bad, "none"),
    };
    let days = match status["certificateDays"].as_i64() {
        Some(days) => format!("{days} days"),
        None => "-".into(),
    };
    let sessions = match status["sessions"].as_u64() {
        Some(sessions) => sessions.to_string(),
        None => "-".into(),
    };
    vec![
        name.into(),
        state,
        text(status, "role").into(),
        lease,
        part(name, &status["control"]).into(),
        sessions.into(),
        text(status, "version").into(),
        days.into(),
    ]
}

fn part(name: &str, control: &Value) -> String {
    let among = |list: &Value| {
        let mut names = list.as_array().into_iter().flatten();
        names.any(|one| one == name)
    };
    let part = match (&control["leader"], &control["voters"]) {
        (leader, _) if leader == name => "leads",
        (_, voters) if among(voters) => "votes",
        _ if among(&control["learners"]) => "follows",
        _ => "outside",
    };
    match &control["leader"] {
        Value::Null => format!("{part}, knows no leader"),
        _ => part.to_owned(),
    }
}

/// One sentence for each thing that is not as it should be.
fn troubles((name, answer): &Told) -> Vec<String> {
    let status = match answer {
        Err(why) => return vec![format!("{name} does not answer: {why}")],
        Ok(status) => status,
    };
    let mut found = Vec::new();
    if let Some(why) = status["waitsFor"].as_str() {
        found.push(format!("{name}: {why}"));
    }
    if let Some(why) = status["control"]["failed"].as_str() {
        found.push(format!(
            "{name}: its part in the control plane stopped and needs a restart: {why}"
        ));
    }
    for link in status["links"].as_array().into_iter().flatten() {
        if link["up"] == false {
            found.push(format!(
                "{name}: no link to {}: {}",
                text(link, "peer"),
                text(link, "why")
            ));
        }
    }
    for refused in status["refused"].as_array().into_iter().flatten() {
        found.push(format!(
            "{name} refused a link from {}: {}",
            text(refused, "address"),
            text(refused, "why")
        ));
    }
    for hub in status["hubs"].as_array().into_iter().flatten() {
        if hub["lostHere"] == true {
            found.push(format!(
                "{name}: the data of hub {0} was lost with this region's folder. Next: castling hub failover start {0} --forced",
                text(hub, "name")
            ));
        }
    }
    found.dedup();
    found
}

/// Hubs as the node with the newest copy of the control plane knows them.
fn hubs(told: &[Told], out: &Out) -> Result<(), Failure> {
    let regions: Vec<&Value> = told
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .filter(|status| status["role"] == "region")
        .collect();
    let newest = regions
        .iter()
        .max_by_key(|status| status["control"]["applied"].as_u64());
    let Some(newest) = newest else {
        return Ok(());
    };
    let hubs = newest["hubs"].as_array().cloned().unwrap_or_default();
    if hubs.is_empty() {
        return out.line("\nThere are no hubs.");
    }
    let rows: Vec<Vec<Cell>> = hubs
        .iter()
        .map(|hub| {
            let away = match hub["away"].as_str() {
                Some(region) => format!("{region} has not returned"),
                None => String::new(),
            };
            vec![
                text(hub, "name").into(),
                text(hub, "state").into(),
                text(hub, "primary").into(),
                text(hub, "secondary").into(),
                hub["epoch"].to_string().into(),
                away.into(),
            ]
        })
        .collect();
    out.line("")?;
    out.table(
        &["hub", "state", "primary", "secondary", "epoch", ""],
        &rows,
    )?;
    let waits = waits(&regions);
    for hub in &hubs {
        operation(hub, &waits, out)?;
    }
    Ok(())
}

/// What each operation waits for, as the node says that drives it.
fn waits(regions: &[&Value]) -> BTreeMap<String, String> {
    let hubs = regions
        .iter()
        .flat_map(|status| status["hubs"].as_array().into_iter().flatten());
    let told = hubs.filter_map(|hub| {
        let operation = &hub["operation"];
        Some((
            text(operation, "id"),
            operation["waitsFor"].as_str()?.to_owned(),
        ))
    });
    told.collect()
}

fn operation(hub: &Value, waits: &BTreeMap<String, String>, out: &Out) -> Result<(), Failure> {
    let operation = &hub["operation"];
    if operation.is_null() {
        return Ok(());
    }
    let id = text(operation, "id");
    let waits = waits
        .get(&id)
        .map(|what| format!("; waits for: {what}"))
        .unwrap_or_default();
    let step = match operation["step"].as_str() {
        Some(step) => format!("step {step}"),
        None => "its end".into(),
    };
    out.line(format!(
        "\n{}: operation {id} is at {step}{waits}\n  next: {}",
        text(hub, "name"),
        text(operation, "next")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: Value) -> Told {
        ("a".to_owned(), Ok(status))
    }

    #[test]
    fn a_nodes_part_in_the_control_plane_is_named() {
        let control =
            |leader: Value| json!({ "leader": leader, "voters": ["a", "b"], "learners": ["c"] });
        assert_eq!(part("a", &control(json!("a"))), "leads");
        assert_eq!(part("b", &control(json!("a"))), "votes");
        assert_eq!(part("c", &control(json!("a"))), "follows");
        assert_eq!(part("b", &control(Value::Null)), "votes, knows no leader");
        assert_eq!(part("d", &json!({})), "outside, knows no leader");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_reason() {
        let wrong = troubles(&told(json!({
            "waitsFor": "w1", "control": { "failed": "f1" },
            "links": [{ "peer": "b", "up": false, "why": "l1" }, { "peer": "c", "up": true }],
            "refused": [{ "address": "1.2.3.4:5", "why": "r1" }],
            "hubs": [{ "name": "h", "lostHere": true }],
        })));
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        for (said, what) in wrong.iter().zip(["w1", "f1", "l1", "r1", "--forced"]) {
            assert!(said.contains(what), "{said}");
        }
        assert_eq!(
            troubles(&("a".into(), Err("gone".into()))),
            ["a does not answer: gone"]
        );
        assert!(troubles(&told(json!({ "ready": true }))).is_empty());
    }

    #[test]
    fn what_an_operation_waits_for_comes_from_the_node_that_drives_it() {
        let region =
            |waits: Value| json!({ "hubs": [{ "operation": { "id": "o", "waitsFor": waits } }] });
        let (one, other) = (region(Value::Null), region(json!("the lease")));
        assert_eq!(waits(&[&one, &other])["o"], "the lease");
    }
}
