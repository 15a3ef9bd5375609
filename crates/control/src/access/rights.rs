//! Whether somebody may do something at a scope.

use super::model::{Lock, RoleAssignment};
use super::roles::{self, RoleDefinition};
use crate::model::State;

/// What no lock stands against.
const UNLOCKED: [&str; 4] = [
    "Microsoft.Authorization/locks/*",
    "Castling.Identity/*",
    "Castling.Failover/check/action",
    "*/checkNameAvailability/action",
];

/// Who asks: an object id, and groups that an external provider named (`PROVIDER:GROUP`).
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub object_id: &'a str,
    pub groups: &'a [String],
}

impl State {
    /// Whether one of the asker's roles at `scope` or above allows an action of the management API.
    pub fn may(&self, asker: Asker<'_>, action: &str, scope: &str) -> bool {
        self.roles_at(asker, scope).any(|role| role.allows(action))
    }

    /// Whether one of the asker's roles at `scope` or above allows an action on a hub's data.
    pub fn may_data(&self, asker: Asker<'_>, action: &str, scope: &str) -> bool {
        self.roles_at(asker, scope)
            .any(|role| role.allows_data(action))
    }

    /// The asker's assignments, wherever they are.
    pub fn assignments_of<'a>(
        &'a self,
        asker: Asker<'a>,
    ) -> impl Iterator<Item = &'a RoleAssignment> {
        self.access.assignments.values().filter(move |assignment| {
            assignment.principal.eq_ignore_ascii_case(asker.object_id)
                || asker
                    .groups
                    .iter()
                    .any(|group| group.eq_ignore_ascii_case(&assignment.principal))
        })
    }

    fn roles_at<'a>(
        &'a self,
        asker: Asker<'a>,
        scope: &'a str,
    ) -> impl Iterator<Item = &'static RoleDefinition> {
        self.assignments_of(asker)
            .filter(move |assignment| covers(&assignment.scope, scope))
            .filter_map(|assignment| roles::role(&assignment.role))
    }

    /// The lock that keeps `action` from being done at `scope`: at it or above, for deletions also below. Reads pass, and so do
    /// the dry runs; so does what is done with locks, which could never be removed otherwise, and with the directory, which
    /// stands at no scope: nobody could sign in any more to remove a lock of `/`.
    pub fn lock_against(&self, action: &str, scope: &str) -> Option<&Lock> {
        let verb = action.rsplit('/').next().unwrap_or_default();
        if verb.eq_ignore_ascii_case("read") {
            return None;
        }
        if UNLOCKED.iter().any(|pattern| fits(pattern, action)) {
            return None;
        }
        let deletes = verb.eq_ignore_ascii_case("delete");
        let reaches_below = deletes && !fits("Microsoft.Authorization/*", action);
        let locks = self.access.locks.values().flat_map(|of| of.values());
        locks
            .filter(|lock| {
                covers(&lock.scope, scope) || (reaches_below && covers(scope, &lock.scope))
            })
            .find(|lock| deletes || lock.level == super::model::LockLevel::ReadOnly)
    }
}

impl RoleDefinition {
    pub fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| fits(pattern, action))
            && !self.not_actions.iter().any(|pattern| fits(pattern, action))
    }

    pub fn allows_data(&self, action: &str) -> bool {
        self.data_actions
            .iter()
            .any(|pattern| fits(pattern, action))
    }
}

/// Whether a scope is `inner` or above it; paths are compared by segments, without case.
pub fn covers(outer: &str, inner: &str) -> bool {
    let segments = |path: &'_ str| {
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .map(str::to_ascii_lowercase)
            .collect::<Vec<_>>()
    };
    segments(inner).starts_with(&segments(outer))
}

/// Whether a pattern with `*` fits an action, without case.
pub fn fits(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = action.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_any_text_without_case() {
        for (pattern, action, fit) in [
            ("*", "a/b/read", true),
            ("*/read", "Microsoft.Devices/IotHubs/READ", true),
            ("*/read", "Microsoft.Devices/IotHubs/write", false),
            ("a/*/write", "A/b/c/write", true),
            ("a/*/write", "a/write", false),
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, action), fit, "{pattern} {action}");
        }
    }

    #[test]
    fn scopes_cover_whole_segments() {
        assert!(covers("/", "/subscriptions/s"));
        assert!(covers(
            "/subscriptions/S",
            "/Subscriptions/s/resourcegroups/g"
        ));
        assert!(!covers(
            "/subscriptions/s/resourceGroups/g",
            "/subscriptions/s/resourceGroups/g2"
        ));
        assert!(!covers(
            "/subscriptions/s/resourceGroups/g",
            "/subscriptions/s"
        ));
    }
}
