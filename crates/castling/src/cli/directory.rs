//! `castling user`, `app`, `session` and `provider`: the directory over its API.

use super::Context;
use super::failure::Failure;
use super::json::{at, items, text};
use super::management::Management;
use super::out::Cell;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use ureq::http::Method;
use wire::percent;

const ROOT: &str = "/providers/Castling.Identity";

#[derive(Subcommand)]
pub enum User {
    /// List users
    List,
    /// Show a user
    Show { name: String },
    /// Make a user; prints a password once unless CASTLING_PASSWORD holds one
    Create {
        name: String,
        /// As people read it
        #[arg(long)]
        display_name: Option<String>,
    },
    /// Let a user sign in, or not
    Enable {
        name: String,
        /// No longer
        #[arg(long)]
        off: bool,
    },
    /// Give a user the password in CASTLING_PASSWORD, or a random one that is printed once
    SetPassword { name: String },
    /// Let a user's password count again after too many wrong ones
    Unlock { name: String },
    /// Remove a user
    Delete { name: String },
}

#[derive(Subcommand)]
pub enum App {
    /// List applications
    List,
    /// Show an application
    Show { id: String },
    /// Make an application [default id: a fresh one]
    Create {
        /// As people read it
        #[arg(long)]
        display_name: String,
        id: Option<String>,
    },
    /// Give it another secret, which is printed once
    AddSecret { id: String },
    /// Take a secret from it
    RemoveSecret { id: String, secret: String },
    /// Let a certificate (PEM) sign for it
    AddCertificate { id: String, file: PathBuf },
    /// Take a certificate from it
    RemoveCertificate { id: String, certificate: String },
    /// Remove an application
    Delete { id: String },
}

#[derive(Subcommand)]
pub enum Session {
    /// List sessions
    List,
    /// End a session at once
    End { id: String },
    /// End all sessions of a user
    EndAll { user: String },
}

#[derive(Subcommand)]
pub enum Provider {
    /// List providers
    List,
    /// Show a provider
    Show { name: String },
    /// Make or replace a provider; its secret is read from CASTLING_PROVIDER_SECRET
    Create {
        name: String,
        /// Its issuer
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// This deployment's client id there
        #[arg(long)]
        client_id: String,
        /// Claim that lists groups
        #[arg(long, value_name = "CLAIM")]
        groups_claim: Option<String>,
        /// PEM of an authority to trust beside the system's
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Remove a provider
    Delete { name: String },
}

pub fn user(command: &User, context: &Context) -> Result<(), Failure> {
    let of = |name: &str| one("users", name);
    let set = |name: &str, body: Value| changed(context, Method::PATCH, &of(name), body);
    match command {
        User::List => list(
            context,
            "users",
            &["name", "displayName", "enabled", "lastSignIn"],
        ),
        User::Show { name } => show(context, &of(name)),
        User::Create { name, display_name } => {
            let mut given = Map::new();
            if let Some(text) = display_name {
                given.insert("displayName".into(), json!(text));
            }
            if let Some(password) = environment("CASTLING_PASSWORD") {
                given.insert("password".into(), json!(password));
            }
            changed(context, Method::PUT, &of(name), Value::Object(given))
        }
        User::Enable { name, off } => set(name, json!({ "enabled": !off })),
        User::SetPassword { name } => {
            let password = environment("CASTLING_PASSWORD");
            let told = password.is_none();
            let password = password.unwrap_or_else(|| region::random_text(16));
            let body = json!({ "password": password });
            let path = format!("{}/setPassword", of(name));
            Management::new(&context.network).call(Method::POST, &path, Some(&body))?;
            let shown = told.then_some(password);
            let document = json!({ "name": name, "password": shown });
            context.out.show(&document, |out| match &shown {
                Some(password) => out.line(format!("Password of {name}: {password}")),
                None => out.line(format!("{name} has the password of CASTLING_PASSWORD.")),
            })
        }
        User::Unlock { name } => act(context, &of(name), "unlock", json!({})),
        User::Delete { name } => delete(context, &of(name), name),
    }
}

pub fn app(command: &App, context: &Context) -> Result<(), Failure> {
    let of = |id: &str| one("applications", id);
    match command {
        App::List => list(
            context,
            "applications",
            &["clientId", "displayName", "enabled", "objectId"],
        ),
        App::Show { id } => show(context, &of(id)),
        App::Create { display_name, id } => {
            let id = id.clone().unwrap_or_else(crate::world::deployment::guid);
            changed(
                context,
                Method::PUT,
                &of(&id),
                json!({ "displayName": display_name }),
            )
        }
        App::AddSecret { id } => act(context, &of(id), "addSecret", json!({})),
        App::RemoveSecret { id, secret } => {
            act(context, &of(id), "removeSecret", json!({ "id": secret }))
        }
        App::AddCertificate { id, file } => {
            let body = json!({ "certificate": read(file)? });
            act(context, &of(id), "addCertificate", body)
        }
        App::RemoveCertificate { id, certificate } => act(
            context,
            &of(id),
            "removeCertificate",
            json!({ "id": certificate }),
        ),
        App::Delete { id } => delete(context, &of(id), id),
    }
}

pub fn session(command: &Session, context: &Context) -> Result<(), Failure> {
    match command {
        Session::List => list(
            context,
            "sessions",
            &["user", "clientId", "created", "lastUsed", "address"],
        ),
        Session::End { id } => delete(context, &one("sessions", id), id),
        Session::EndAll { user } => act(context, &one("users", user), "endSessions", json!({})),
    }
}

pub fn provider(command: &Provider, context: &Context) -> Result<(), Failure> {
    let of = |name: &str| one("identityProviders", name);
    match command {
        Provider::List => list(
            context,
            "identityProviders",
            &["displayName", "issuer", "clientId", "enabled"],
        ),
        Provider::Show { name } => show(context, &of(name)),
        Provider::Create {
            name,
            issuer,
            client_id,
            groups_claim,
            ca,
        } => {
            let mut given = json!({ "issuer": issuer, "clientId": client_id });
            if let Some(claim) = groups_claim {
                given["groupsClaim"] = json!(claim);
            }
            if let Some(file) = ca {
                given["ca"] = json!(read(file)?);
            }
            if let Some(secret) = environment("CASTLING_PROVIDER_SECRET") {
                given["clientSecret"] = json!(secret);
            }
            changed(context, Method::PUT, &of(name), given)
        }
        Provider::Delete { name } => delete(context, &of(name), name),
    }
}

fn one(kind: &str, name: &str) -> String {
    format!("{ROOT}/{kind}/{}", percent::encode(name))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

fn list(context: &Context, kind: &str, columns: &[&str]) -> Result<(), Failure> {
    let found = Management::new(&context.network).list(&format!("{ROOT}/{kind}"))?;
    table(context, found, columns)
}

/// Resources as a table: their names, and some of their properties.
pub fn table(context: &Context, found: Vec<Value>, columns: &[&str]) -> Result<(), Failure> {
    let rows: Vec<Vec<Cell>> = found
        .iter()
        .map(|item| {
            let cells = columns
                .iter()
                .map(|column| text(item, &format!("properties.{column}")).into());
            std::iter::once(text(item, "name").into())
                .chain(cells)
                .collect()
        })
        .collect();
    let headings: Vec<&str> = std::iter::once("id")
        .chain(columns.iter().copied())
        .collect();
    context
        .out
        .show(&Value::Array(found), |out| out.table(&headings, &rows))
}

pub fn show(context: &Context, path: &str) -> Result<(), Failure> {
    let found = Management::new(&context.network).get(path)?;
    told(context, &found)
}

/// Every property on a line of its own.
fn told(context: &Context, document: &Value) -> Result<(), Failure> {
    context.out.show(document, |out| {
        let inner = at(document, "properties").unwrap_or(document);
        let fields = inner.as_object().cloned().unwrap_or_default();
        let pairs: Vec<(&str, String)> = std::iter::once(("name", text(document, "name")))
            .filter(|(_, name)| !name.is_empty())
            .chain(
                fields
                    .iter()
                    .filter(|(name, _)| name.as_str() != "name")
                    .map(|(name, _)| (name.as_str(), text(inner, name))),
            )
            .collect();
        out.pairs(&pairs)
    })
}

fn changed(context: &Context, method: Method, path: &str, given: Value) -> Result<(), Failure> {
    let body = json!({ "properties": given });
    let answer = Management::new(&context.network).call(method, path, Some(&body))?;
    told(context, &answer.json()?)
}

fn act(context: &Context, path: &str, action: &str, body: Value) -> Result<(), Failure> {
    let path = format!("{path}/{action}");
    let answer = Management::new(&context.network).call(Method::POST, &path, Some(&body))?;
    match answer.json()? {
        Value::Null => context
            .out
            .show(&json!({ "done": action }), |out| out.line("Done.")),
        document => told(context, &document),
    }
}

pub fn delete(context: &Context, path: &str, name: &str) -> Result<(), Failure> {
    Management::new(&context.network).call(Method::DELETE, path, None)?;
    context
        .out
        .show(&json!({ "name": name, "deleted": true }), |out| {
            out.line(format!("{name} is gone."))
        })
}

/// The object id of a user or an application that is named.
pub fn object_id(
    management: &Management<'_>,
    name: &str,
) -> Result<(String, &'static str), Failure> {
    for (kind, principal, fields) in [
        ("users", "User", ["name", "objectId"]),
        ("applications", "ServicePrincipal", ["clientId", "objectId"]),
    ] {
        let found = management.list(&format!("{ROOT}/{kind}"))?;
        let is = |item: &&Value| {
            let own = [text(item, "name")];
            let inner = fields.map(|field| text(item, &format!("properties.{field}")));
            own.iter()
                .chain(&inner)
                .any(|text| text.eq_ignore_ascii_case(name))
        };
        if let Some(item) = items(&Value::Array(found), "").iter().find(is) {
            return Ok((text(item, "properties.objectId"), principal));
        }
    }
    Err(Failure::Failed(format!(
        "no user and no application is named `{name}`; a group is PROVIDER:GROUP"
    )))
}
