//! `castling hub consumer-group …`.

use super::Context;
use super::failure::Failure;
use super::json::text;
use super::management::{HubResource, Management};
use super::out::Cell;
use clap::Subcommand;
use serde_json::{Value, json};
use ureq::http::Method;

#[derive(Subcommand)]
pub enum ConsumerGroup {
    /// Create a consumer group
    #[command(
        after_help = "Example:\n  castling hub consumer-group create my-hub reports\n  castling events tail my-hub --consumer-group reports"
    )]
    Create { hub: String, name: String },
    /// List a hub's consumer groups
    List { hub: String },
    /// Delete a consumer group with its positions
    Delete { hub: String, name: String },
}

pub fn run(command: &ConsumerGroup, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    match command {
        ConsumerGroup::Create { hub, name } => {
            let body = json!({ "properties": { "name": name } });
            let made = management
                .call(Method::PUT, &path(&management.hub(hub)?, name), Some(&body))?
                .json()?;
            context.out.show(&made, |out| {
                out.line(format!("Consumer group {name} is there."))
            })
        }
        ConsumerGroup::List { hub } => list(&management, &management.hub(hub)?, context),
        ConsumerGroup::Delete { hub, name } => {
            management.call(Method::DELETE, &path(&management.hub(hub)?, name), None)?;
            context
                .out
                .show(&json!({ "name": name, "deleted": true }), |out| {
                    out.line(format!("Consumer group {name} is deleted."))
                })
        }
    }
}

fn list(management: &Management<'_>, hub: &HubResource, context: &Context) -> Result<(), Failure> {
    let found = management.list(&format!(
        "{}/eventHubEndpoints/events/ConsumerGroups",
        hub.path
    ))?;
    let rows: Vec<Vec<Cell>> = found
        .iter()
        .map(|group| {
            vec![
                text(group, "name").into(),
                text(group, "properties.created").into(),
            ]
        })
        .collect();
    context.out.show(&Value::Array(found), |out| {
        out.table(&["name", "created"], &rows)
    })
}

fn path(hub: &HubResource, name: &str) -> String {
    format!(
        "{}/eventHubEndpoints/events/ConsumerGroups/{}",
        hub.path,
        wire::percent::encode(name)
    )
}
