//! `castling context …`: deployments that this user signed in to.

use super::contexts::{Contexts, Stored};
use super::failure::Failure;
use super::login;
use super::out::{Cell, Out};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum ContextCommand {
    /// List contexts; the one in use has a star
    List,
    /// Use a context from now on
    Use { name: String },
    /// Show a context [default: the one in use]
    Show { name: Option<String> },
    /// Forget a context on this machine; `castling logout` also ends its session
    Delete { name: String },
}

pub fn run(command: &ContextCommand, out: &Out) -> Result<(), Failure> {
    match command {
        ContextCommand::List => list(out),
        ContextCommand::Use { name } => {
            Contexts::change(|contexts| {
                contexts.get(name)?;
                contexts.current = Some(name.clone());
                Ok(())
            })?;
            out.show(&json!({ "context": name, "current": true }), |out| {
                out.line(format!("Context `{name}` is in use."))
            })
        }
        ContextCommand::Show { name } => {
            let contexts = Contexts::read()?;
            let name = name.clone().or_else(|| contexts.current.clone());
            let name = name.ok_or_else(|| Failure::Usage("no context is in use".into()))?;
            let current = contexts.current.as_deref() == Some(name.as_str());
            let shown = shown(&name, contexts.get(&name)?, current);
            out.show(&shown, |out| out.json(&shown))
        }
        ContextCommand::Delete { name } => {
            login::forget(name)?;
            out.show(&json!({ "context": name, "deleted": true }), |out| {
                out.line(format!("Context `{name}` is forgotten."))
            })
        }
    }
}

fn list(out: &Out) -> Result<(), Failure> {
    let contexts = Contexts::read()?;
    let current = |name: &str| contexts.current.as_deref() == Some(name);
    let all = contexts.contexts.iter();
    let values: Vec<Value> = all
        .map(|(name, stored)| shown(name, stored, current(name)))
        .collect();
    out.show(&Value::Array(values), |out| {
        let rows: Vec<Vec<Cell>> = contexts
            .contexts
            .iter()
            .map(|(name, stored)| {
                vec![
                    if current(name) { "*" } else { "" }.into(),
                    name.clone().into(),
                    stored.credential.who().into(),
                    stored.deployment.management_url.clone().into(),
                ]
            })
            .collect();
        out.table(&["", "name", "signed in as", "address"], &rows)
    })
}

/// Without its credential.
fn shown(name: &str, stored: &Stored, current: bool) -> Value {
    let up = &stored.deployment;
    json!({
        "name": name, "current": current, "signedInAs": stored.credential.who(), "managementUrl": up.management_url,
        "caFile": up.ca_file, "tenant": up.tenant, "subscription": up.subscription, "domain": up.domain, "regions": up.regions,
    })
}
