//! `castling hosts`: every region accepts every hub, so the first region's address does for all.

use super::Context;
use super::failure::Failure;
use super::http::address;
use super::json::text;
use super::management::Management;
use serde_json::{Value, json};

pub fn run(context: &Context) -> Result<(), Failure> {
    let up = context.network.up();
    let first = up
        .regions
        .first()
        .ok_or_else(|| Failure::Failed("this world has no regions".into()))?;
    let address = address(first)?.to_string();
    let hubs = Management::new(&context.network).hubs()?;
    let names: Vec<String> = hubs
        .iter()
        .map(|hub| text(&hub.document, "properties.hostName"))
        .filter(|name| !name.is_empty())
        .collect();
    let lines = Value::Array(
        names
            .iter()
            .map(|name| json!({ "address": address, "hostName": name }))
            .collect(),
    );
    context.out.show(&lines, |out| {
        for name in &names {
            out.line(format!("{address} {name}"))?;
        }
        Ok(())
    })
}
