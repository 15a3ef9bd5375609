//! The commands about rights: role assignments. Locks and approvals have their own files.

use super::command::{AccessAnswer, AccessCommand};
use super::model::{Access, PrincipalType, RoleAssignment};
use super::rights::covers;
use super::roles;
use crate::apply::Call;
use crate::command::Answer;
use crate::directory::Mistakes;
use crate::model::State;
use crate::naming::{group_path, key, shown};
use crate::refusal::{Refusal, RefusalCode};
use types::limits;

impl State {
    pub(crate) fn access_command(
        &mut self,
        call: Call<'_>,
        command: &AccessCommand,
    ) -> Result<Answer, Refusal> {
        match command {
            AccessCommand::Assign(assignment) => self.assign(call, assignment),
            AccessCommand::Unassign { name } => self.unassign(name),
            AccessCommand::PutLock(lock) => self.put_lock(call, lock),
            AccessCommand::DeleteLock { scope, name } => self.delete_lock(scope, name),
            AccessCommand::Decide { approval, approve } => self.decide(call, approval, *approve),
        }
    }

    /// The path of what a scope names, as its owner wrote it; `None` if it names nothing that rights or locks can be given at.
    pub fn scope_path(&self, scope: &str) -> Option<String> {
        let segments: Vec<&str> = scope.split('/').filter(|part| !part.is_empty()).collect();
        let word = |at: usize, wanted: &str| {
            segments
                .get(at)
                .is_some_and(|segment| segment.eq_ignore_ascii_case(wanted))
        };
        if segments.is_empty() {
            return scope.starts_with('/').then(|| "/".to_owned());
        }
        if !word(0, "subscriptions") {
            return None;
        }
        let subscription = self.subscription(segments.get(1)?)?;
        if segments.len() == 2 {
            return Some(format!("/subscriptions/{}", subscription.id));
        }
        let group = self.group(&subscription.id, segments.get(3)?)?;
        if !word(2, "resourceGroups") {
            return None;
        }
        if segments.len() == 4 {
            return Some(group_path(&subscription.id, &group.name));
        }
        let hub = self.hub_named(segments.get(7)?)?;
        let here = key(&hub.subscription) == key(&subscription.id)
            && key(&hub.resource_group) == key(&group.name);
        let named = word(4, "providers") && word(5, "Microsoft.Devices") && word(6, "IotHubs");
        (here && named && segments.len() == 8).then(|| hub.path())
    }

    fn assign(&mut self, call: Call<'_>, wanted: &RoleAssignment) -> Result<Answer, Refusal> {
        let next = self.assignment(call, wanted)?;
        let known = self.access.assignments.get(&next.name);
        if let Some(known) = known {
            return match same(known, &next) {
                true => Ok(answer(known.clone(), false)),
                false => Err(Refusal::new(
                    RefusalCode::RoleAssignmentExists,
                    format!("The role assignment '{}' is another one.", next.name),
                )),
            };
        }
        if let Some(known) = self.access.assignments.values().find(|a| same(a, &next)) {
            let message = format!(
                "The role assignment already exists. The ID of the existing role assignment is {}.",
                known.name
            );
            return Err(Refusal::new(RefusalCode::RoleAssignmentExists, message));
        }
        let most = limits::ROLE_ASSIGNMENTS_MAX;
        if self.access.assignments.len() >= most {
            let message =
                format!("There are {most} role assignments already, the most there may be.");
            return Err(Refusal::new(RefusalCode::QuotaExceeded, message));
        }
        self.changed();
        self.access
            .assignments
            .insert(next.name.clone(), next.clone());
        Ok(answer(next, true))
    }

    /// An assignment as it is kept, if nothing is wrong with it.
    fn assignment(
        &self,
        call: Call<'_>,
        wanted: &RoleAssignment,
    ) -> Result<RoleAssignment, Refusal> {
        let mut mistakes = Mistakes::default();
        mistakes.wrong(!is_guid(&wanted.name), || {
            format!("name: '{}' is not a GUID", shown(&wanted.name))
        });
        let scope = self.scope_path(&wanted.scope);
        mistakes.wrong(scope.is_none(), || {
            format!("scope: '{}' names nothing here", shown(&wanted.scope))
        });
        let role = roles::role(&wanted.role);
        mistakes.wrong(role.is_none(), || {
            format!("role: there is no role '{}'", shown(&wanted.role))
        });
        let principal = self.principal(wanted);
        mistakes.wrong(principal.is_none(), || {
            let kind = wanted.principal_type;
            format!(
                "principal: there is no {kind:?} '{}' in the directory",
                shown(&wanted.principal)
            )
        });
        let description = wanted.description.as_deref().unwrap_or_default();
        mistakes.wrong(
            description.chars().count() > limits::LOCK_NOTES_CHARS_MAX,
            || "description: it is too long".into(),
        );
        mistakes.refuse(RefusalCode::RoleAssignmentInvalid)?;
        Ok(RoleAssignment {
            name: wanted.name.to_ascii_lowercase(),
            scope: scope.unwrap_or_default(),
            role: role.map_or("", |role| role.id).into(),
            principal: principal.unwrap_or_default(),
            created: call.at,
            by: call.by.into(),
            ..wanted.clone()
        })
    }

    /// The id of an assignment's principal as the directory writes it.
    fn principal(&self, wanted: &RoleAssignment) -> Option<String> {
        let directory = &self.directory;
        match wanted.principal_type {
            PrincipalType::User => directory
                .users
                .keys()
                .find(|id| id.eq_ignore_ascii_case(&wanted.principal))
                .cloned(),
            PrincipalType::ServicePrincipal => directory
                .application_of(&wanted.principal)
                .map(|known| known.object_id.clone()),
            PrincipalType::Group => {
                let (provider, group) = wanted.principal.split_once(':')?;
                let known = directory.providers.get(&provider.to_ascii_lowercase())?;
                let good = (1..=limits::DIRECTORY_TEXT_CHARS_MAX).contains(&group.chars().count());
                good.then(|| format!("{}:{group}", known.name))
            }
        }
    }

    fn unassign(&mut self, name: &str) -> Result<Answer, Refusal> {
        let name = name.to_ascii_lowercase();
        let Some(known) = self.access.assignments.get(&name) else {
            return Ok(Answer::Absent);
        };
        if self.is_usable_owner(known) && !self.owner_left(|other| other.name != name) {
            return Err(last_owner());
        }
        self.changed();
        self.access.assignments.remove(&name);
        Ok(Answer::Done)
    }

    /// Refuses if nobody could manage the whole deployment without this principal.
    pub(crate) fn not_last_owner(&self, principal: &str) -> Result<(), Refusal> {
        let of = |known: &RoleAssignment| known.principal.eq_ignore_ascii_case(principal);
        let mut owned = self.access.assignments.values();
        let owns = owned.any(|known| of(known) && self.is_usable_owner(known));
        match owns && !self.owner_left(|other| !of(other)) {
            true => Err(last_owner()),
            false => Ok(()),
        }
    }

    fn owner_left(&self, among: impl Fn(&RoleAssignment) -> bool) -> bool {
        self.access
            .assignments
            .values()
            .any(|known| among(known) && self.is_usable_owner(known))
    }

    /// Owner of everything, by somebody who can sign in. Groups do not count: who is in one, only its provider knows.
    fn is_usable_owner(&self, known: &RoleAssignment) -> bool {
        let directory = &self.directory;
        let can_sign_in = || match known.principal_type {
            PrincipalType::User => directory
                .users
                .get(&known.principal)
                .is_some_and(|user| user.can_sign_in()),
            PrincipalType::ServicePrincipal => directory
                .application_of(&known.principal)
                .is_some_and(|application| application.can_sign_in(self.time)),
            PrincipalType::Group => false,
        };
        known.role == roles::OWNER && covers(&known.scope, "/") && can_sign_in()
    }
}

impl Access {
    /// Removes what a principal that is gone was given.
    pub(crate) fn forget_principal(&mut self, principal: &str) {
        self.assignments
            .retain(|_, known| !known.principal.eq_ignore_ascii_case(principal));
    }

    /// Removes what was given at a resource that is gone, and below: the next one of its name is another one.
    pub(crate) fn forget_scope(&mut self, path: &str) {
        self.assignments
            .retain(|_, known| !covers(path, &known.scope));
        self.locks.retain(|scope, _| !covers(path, scope));
    }
}

/// Whether a text has the form of a GUID.
pub fn is_guid(text: &str) -> bool {
    let form = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(form)
}

fn same(one: &RoleAssignment, other: &RoleAssignment) -> bool {
    one.role == other.role
        && one.principal == other.principal
        && one.principal_type == other.principal_type
        && one.scope.eq_ignore_ascii_case(&other.scope)
}

fn last_owner() -> Refusal {
    Refusal::new(
        RefusalCode::RoleAssignmentInvalid,
        "This is the last Owner of '/' who can sign in: nobody could manage this deployment any more. Make another Owner first.",
    )
}

fn answer(assignment: RoleAssignment, created: bool) -> Answer {
    Answer::Access(AccessAnswer::Assignment {
        assignment: Box::new(assignment),
        created,
    })
}
