//! `castling role`, `lock` and `hub approvals`.

use super::Context;
use super::directory::{delete, object_id, table};
use super::failure::Failure;
use super::json::text;
use super::management::Management;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use ureq::http::Method;
use wire::percent;

const ROLES: &str = "/providers/Microsoft.Authorization/roleDefinitions";
const ROLES_VERSION: &str = "api-version=2022-04-01";
const LOCKS_VERSION: &str = "api-version=2020-05-01";

/// Where a role or a lock counts: there and below.
#[derive(Args)]
pub struct Scope {
    /// A hub
    #[arg(long, conflicts_with_all = ["group", "everywhere"])]
    hub: Option<String>,
    /// A resource group
    #[arg(long, conflicts_with = "everywhere")]
    group: Option<String>,
    /// The whole deployment [default: its subscription]
    #[arg(long)]
    everywhere: bool,
}

impl Scope {
    fn path(&self, management: &Management<'_>) -> Result<String, Failure> {
        match (&self.hub, &self.group) {
            (Some(hub), _) => Ok(management.hub(hub)?.path),
            (None, Some(group)) => Ok(management.group_path(group)),
            (None, None) if self.everywhere => Ok(String::new()),
            (None, None) => Ok(management.subscription_path()),
        }
    }
}

#[derive(Subcommand)]
pub enum Role {
    /// List the roles there are
    Definitions,
    /// List who has which role
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Give a user, an application or a group (PROVIDER:GROUP) a role
    #[command(
        after_help = "Example:\n  castling role assign admin2@castling.localhost \"Failover Operator\" --hub my-hub"
    )]
    Assign {
        who: String,
        /// Its name, such as Reader
        role: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Take a role away again, by the assignment's id
    Remove {
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
}

pub fn role(command: &Role, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let assignments = |scope: &Scope, id: &str| {
        let scope = scope.path(&management)?;
        let rest = "providers/Microsoft.Authorization/roleAssignments";
        let id = match id.is_empty() {
            true => String::new(),
            false => format!("/{}", percent::encode(id)),
        };
        Ok::<_, Failure>(format!("{scope}/{rest}{id}?{ROLES_VERSION}"))
    };
    match command {
        Role::Definitions => {
            let path = format!("{}{ROLES}?{ROLES_VERSION}", management.subscription_path());
            table(
                context,
                management.list(&path)?,
                &["roleName", "description"],
            )
        }
        Role::List { scope } => {
            let found = management.list(&assignments(scope, "")?)?;
            table(
                context,
                found,
                &["principalId", "roleDefinitionId", "scope"],
            )
        }
        Role::Assign { who, role, scope } => {
            let (principal, kind) = match who.contains(':') {
                true => (who.clone(), "Group"),
                false => object_id(&management, who)?,
            };
            let body = json!({ "properties": {
                "roleDefinitionId": definition(&management, role)?, "principalId": principal, "principalType": kind,
            }});
            let path = assignments(scope, &crate::world::deployment::guid())?;
            let made = management.call(Method::PUT, &path, Some(&body))?.json()?;
            context.out.show(&made, |out| {
                out.line(format!("{who} is {role} there ({}).", text(&made, "name")))
            })
        }
        Role::Remove { id, scope } => delete(context, &assignments(scope, id)?, id),
    }
}

fn definition(management: &Management<'_>, role: &str) -> Result<String, Failure> {
    let path = format!("{}{ROLES}?{ROLES_VERSION}", management.subscription_path());
    let found = management.list(&path)?;
    let named = |item: &&serde_json::Value| {
        text(item, "properties.roleName").eq_ignore_ascii_case(role) || text(item, "name") == role
    };
    match found.iter().find(named) {
        Some(item) => Ok(text(item, "id")),
        None => {
            let names: Vec<String> = found
                .iter()
                .map(|item| text(item, "properties.roleName"))
                .collect();
            Err(Failure::Usage(format!(
                "no role is named `{role}`; there are: {}",
                names.join(", ")
            )))
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Level {
    /// It may be changed
    CannotDelete,
    ReadOnly,
}

#[derive(Subcommand)]
pub enum Lock {
    /// List locks
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Make or change a lock
    #[command(
        after_help = "Example:\n  castling lock create keep --hub my-hub --level cannot-delete"
    )]
    Create {
        name: String,
        /// What it keeps from being done
        #[arg(long, value_enum, default_value = "cannot-delete")]
        level: Level,
        /// Why
        #[arg(long)]
        notes: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Remove a lock
    Delete {
        name: String,
        #[command(flatten)]
        scope: Scope,
    },
}

pub fn lock(command: &Lock, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let at = |scope: &Scope, name: &str| {
        let scope = scope.path(&management)?;
        let name = percent::encode(name);
        let path = format!("{scope}/providers/Microsoft.Authorization/locks/{name}");
        Ok::<_, Failure>(format!("{}?{LOCKS_VERSION}", path.trim_end_matches('/')))
    };
    match command {
        Lock::List { scope } => table(
            context,
            management.list(&at(scope, "")?)?,
            &["level", "notes"],
        ),
        Lock::Create {
            name,
            level,
            notes,
            scope,
        } => {
            let level = match level {
                Level::CannotDelete => "CanNotDelete",
                Level::ReadOnly => "ReadOnly",
            };
            let body = json!({ "properties": { "level": level, "notes": notes } });
            let made = management
                .call(Method::PUT, &at(scope, name)?, Some(&body))?
                .json()?;
            context.out.show(&made, |out| {
                out.line(format!("Lock {name} ({level}) is there."))
            })
        }
        Lock::Delete { name, scope } => delete(context, &at(scope, name)?, name),
    }
}

#[derive(Subcommand)]
pub enum Approvals {
    /// List failovers of a hub that were asked for
    List { hub: String },
    /// Approve one that another person asked for; they then start it again
    Approve { hub: String, id: String },
    /// Deny one
    Deny { hub: String, id: String },
}

pub fn approvals(command: &Approvals, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let of = |hub: &str| {
        let hub = management.hub(hub)?;
        Ok::<_, Failure>(format!(
            "{}/providers/Castling.Failover/approvals",
            hub.path
        ))
    };
    let (hub, id, word) = match command {
        Approvals::List { hub } => {
            let columns = ["status", "to", "forced", "askedBy", "expires"];
            return table(context, management.list(&of(hub)?)?, &columns);
        }
        Approvals::Approve { hub, id } => (hub, id, "approve"),
        Approvals::Deny { hub, id } => (hub, id, "deny"),
    };
    let path = format!("{}/{}/{word}", of(hub)?, percent::encode(id));
    let decided = management.call(Method::POST, &path, None)?.json()?;
    context.out.show(&decided, |out| {
        out.line(match word {
            "approve" => format!("{id} is approved: whoever asked starts the failover again."),
            _ => format!("{id} is denied."),
        })
    })
}
