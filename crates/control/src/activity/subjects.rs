//! What a command does to what, in the words of permissions.

use super::works;
use crate::access::AccessCommand;
use crate::command::{Command, Noted};
use crate::directory::{DeviceCodeStanding, DirectoryCommand};
use crate::model::State;
use crate::naming::{group_path, hub_path};
use crate::refusal::Refusal;
use std::borrow::Cow;
use types::HubId;

/// What a command does to what. Commands without one are not an operator's request.
pub(crate) struct Subject {
    pub action: Cow<'static, str>,
    pub resource: String,
    pub when: When,
    /// Locks stand against it: an operator asks, and the control plane carries it out.
    lockable: bool,
}

/// When an entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// The system repeats it by itself, or anybody may try it: only when something changed.
    Changed,
    /// Anybody may try it: only when a refusal had an effect.
    RefusedAndChanged,
}

const HUB: &str = "Microsoft.Devices/IotHubs";

impl Subject {
    pub fn new(action: impl Into<Cow<'static, str>>, resource: impl Into<String>) -> Subject {
        Subject {
            action: action.into(),
            resource: resource.into(),
            when: When::Always,
            lockable: true,
        }
    }

    /// What the system does, or what has happened already.
    fn unlocked(mut self) -> Subject {
        self.lockable = false;
        self
    }

    pub fn by_system(mut self) -> Subject {
        self.when = When::Changed;
        self.unlocked()
    }

    /// # Errors
    /// [`crate::RefusalCode::ScopeLocked`].
    pub fn not_locked(&self, state: &State) -> Result<(), Refusal> {
        match self.lockable {
            true => state.not_locked_against(&self.action, &self.resource),
            false => Ok(()),
        }
    }
}

pub(crate) fn subject(state: &State, command: &Command) -> Option<Subject> {
    let of = |action: &str, resource: String| Subject::new(action.to_owned(), resource);
    Some(match command {
        Command::Deploy { .. } => of("Castling/deployment/write", "/".into()).by_system(),
        Command::Recovered { node, term } => of(
            "Castling/deployment/recover/action",
            format!("/nodes/{node}/terms/{term}"),
        )
        .unlocked(),
        Command::PutGroup { .. }
        | Command::DeleteGroup { .. }
        | Command::PutHub { .. }
        | Command::DeleteHub { .. }
        | Command::PutConsumerGroup { .. }
        | Command::DeleteConsumerGroup { .. } => resource(state, command)?,
        Command::StartFailover { hub, drill, .. } => {
            let start = of(
                "Microsoft.Devices/IotHubs/failover/action",
                path(state, *hub),
            );
            // A lock that comes in between must not keep a drill from coming back.
            match drill {
                Some(_) => start.unlocked(),
                None => start,
            }
        }
        Command::StartForcedFailover { hub, .. } => of(
            "Castling.Failover/failovers/force/action",
            path(state, *hub),
        ),
        Command::Returned { hub, .. } => {
            of("Castling/region/returned", path(state, *hub)).by_system()
        }
        Command::StartDrill { hub, drill, .. } => of(
            "Castling.Failover/drills/write",
            format!("{}/drills/{drill}", path(state, *hub)),
        ),
        Command::EndDrill { drill, .. } => of(
            "Castling.Failover/drills/end/action",
            drill_path(state, drill),
        )
        .by_system(),
        Command::Note { hub, what, id } => of(
            match what {
                Noted::SalvageReplay => "Castling.Failover/salvage/replay/action",
                Noted::SalvageDiscard => "Castling.Failover/salvage/delete",
            },
            format!("{}/salvage/{id}", path(state, *hub)),
        ),
        Command::NoteAction {
            action, resource, ..
        } => of(action, resource.clone()).unlocked(),
        Command::Plan(command) => works::plan(state, command)?,
        Command::Certificate(command) => {
            let (hub, name) = command.target();
            let resource = format!("{}/certificates/{name}", path(state, hub));
            of(command.action(), resource)
        }
        Command::Template(command) => works::template(state, command)?,
        Command::Job(command) => works::job(state, command)?,
        Command::Directory(command) => directory(state, command)?,
        Command::Access(command) => access(state, command),
        Command::CancelFailover { operation } => of(
            "Castling.Failover/failovers/cancel/action",
            operation_path(state, operation),
        ),
        Command::Finish { operation, .. } => {
            of("Castling/operation/end", operation_path(state, operation)).by_system()
        }
        Command::StepStarted { .. }
        | Command::StepEnded { .. }
        | Command::CommitFailover { .. }
        | Command::RollBack { .. } => return None,
    })
}

fn resource(state: &State, command: &Command) -> Option<Subject> {
    Some(match command {
        Command::PutGroup {
            subscription, name, ..
        } => Subject::new(
            "Microsoft.Resources/subscriptions/resourceGroups/write",
            group_path(subscription, name),
        ),
        Command::DeleteGroup {
            subscription, name, ..
        } => Subject::new(
            "Microsoft.Resources/subscriptions/resourceGroups/delete",
            group_path(subscription, name),
        ),
        Command::PutHub { spec, .. } => Subject::new(
            "Microsoft.Devices/IotHubs/write",
            hub_path(&spec.subscription, &spec.group, spec.name.as_str()),
        ),
        Command::DeleteHub {
            subscription,
            group,
            name,
            ..
        } => Subject::new(
            "Microsoft.Devices/IotHubs/delete",
            hub_path(subscription, group, name),
        ),
        Command::PutConsumerGroup { hub, name } => Subject::new(
            "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/write",
            consumer_group_path(state, *hub, name),
        ),
        Command::DeleteConsumerGroup { hub, name } => Subject::new(
            "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/delete",
            consumer_group_path(state, *hub, name),
        ),
        _ => return None,
    })
}

/// Codes and the renewal of sessions are steps of a sign-in, which has its own entry.
fn directory(state: &State, command: &DirectoryCommand) -> Option<Subject> {
    use DirectoryCommand as D;
    let of = |action: &str, resource: String| Subject::new(action.to_owned(), resource);
    let user = |id: &str| {
        let known = state.directory.users.get(id);
        at("users", known.map_or(id, |user| &user.name))
    };
    Some(match command {
        D::PutUser { user, .. } => of("Castling.Identity/users/write", at("users", &user.name)),
        D::DeleteUser { object_id } => of("Castling.Identity/users/delete", user(object_id)),
        D::SetPassword { object_id, .. } => of(
            "Castling.Identity/users/setPassword/action",
            user(object_id),
        ),
        D::UnlockUser { object_id } => of("Castling.Identity/users/unlock/action", user(object_id)),
        D::SignInFailed { object_id } | D::SignedIn { object_id } => {
            of("Castling.Identity/users/signIn/action", user(object_id))
        }
        D::PutApplication { application, .. } => of(
            "Castling.Identity/applications/write",
            at("applications", &application.client_id),
        ),
        D::DeleteApplication { client_id } => of(
            "Castling.Identity/applications/delete",
            at("applications", client_id),
        ),
        D::DecideDeviceCode { standing, .. } => match standing {
            DeviceCodeStanding::Approved { user: id, .. } => {
                of("Castling.Identity/deviceCodes/approve/action", user(id))
            }
            // Nobody has to sign in for it.
            DeviceCodeStanding::Denied | DeviceCodeStanding::Pending => Subject {
                when: When::Changed,
                ..of(
                    "Castling.Identity/deviceCodes/deny/action",
                    "/providers/Castling.Identity/deviceCodes".into(),
                )
            },
        },
        D::RenewSession { .. } => Subject {
            when: When::RefusedAndChanged,
            ..of(
                "Castling.Identity/sessions/renew/action",
                "/providers/Castling.Identity/sessions".into(),
            )
        },
        D::EndSession { id } => of("Castling.Identity/sessions/delete", at("sessions", id)),
        D::EndSessions { user: id } => of("Castling.Identity/users/endSessions/action", user(id)),
        D::PutProvider { provider, .. } => of(
            "Castling.Identity/identityProviders/write",
            at("identityProviders", &provider.name),
        ),
        D::DeleteProvider { name } => of(
            "Castling.Identity/identityProviders/delete",
            at("identityProviders", name),
        ),
        D::AddKey(key) => of(
            "Castling.Identity/signingKeys/write",
            at("signingKeys", &key.kid),
        )
        .by_system(),
        D::PutCode { .. }
        | D::TakeCode { .. }
        | D::PutDeviceCode { .. }
        | D::TakeDeviceCode { .. }
        | D::PutSession(_) => return None,
    })
}

fn at(kind: &str, name: &str) -> String {
    format!("/providers/Castling.Identity/{kind}/{name}")
}

fn access(state: &State, command: &AccessCommand) -> Subject {
    let below = |scope: &str, kind: &str, name: &str| {
        format!(
            "{}/providers/Microsoft.Authorization/{kind}/{name}",
            scope.trim_end_matches('/')
        )
    };
    match command {
        AccessCommand::Assign(wanted) => Subject::new(
            "Microsoft.Authorization/roleAssignments/write",
            below(&wanted.scope, "roleAssignments", &wanted.name),
        ),
        AccessCommand::Unassign { name } => {
            let known = state.access.assignments.get(&name.to_ascii_lowercase());
            let scope = known.map_or("", |known| &known.scope);
            Subject::new(
                "Microsoft.Authorization/roleAssignments/delete",
                below(scope, "roleAssignments", name),
            )
        }
        AccessCommand::PutLock(wanted) => Subject::new(
            "Microsoft.Authorization/locks/write",
            below(&wanted.scope, "locks", &wanted.name),
        ),
        AccessCommand::DeleteLock { scope, name } => Subject::new(
            "Microsoft.Authorization/locks/delete",
            below(scope, "locks", name),
        ),
        AccessCommand::Decide { approval, .. } => {
            let known = state.access.approvals.get(approval);
            let hub = known.map_or_else(|| HUB.to_owned(), |known| path(state, known.hub));
            Subject::new(
                "Castling.Failover/approvals/decide/action",
                format!("{hub}/providers/Castling.Failover/approvals/{approval}"),
            )
        }
    }
}

pub(super) fn path(state: &State, hub: HubId) -> String {
    state
        .hub(hub)
        .map_or_else(|| format!("{HUB}/{hub}"), |hub| hub.path())
}

fn consumer_group_path(state: &State, hub: HubId, name: &str) -> String {
    format!(
        "{}/eventHubEndpoints/events/consumerGroups/{name}",
        path(state, hub)
    )
}

fn drill_path(state: &State, id: &str) -> String {
    let of = state.drills.get(id).map(|drill| path(state, drill.hub));
    format!("{}/drills/{id}", of.unwrap_or_else(|| HUB.into()))
}

fn operation_path(state: &State, id: &str) -> String {
    let Some(op) = state.operations.get(id) else {
        return format!("operations/{id}");
    };
    let of = match op.hub {
        Some(hub) => path(state, hub),
        None => group_path(&op.subscription, &op.target),
    };
    format!("{of}/operations/{id}")
}
