//! The first principals of a deployment: what `up` or `init` lays down becomes applications and a user, Owners of everything.

use super::model::{Application, ApplicationSecret, Directory, Secret, User};
use crate::access::{PrincipalType, RoleAssignment, roles};
use crate::apply::Call;
use crate::model::{Administrator, Deployment, Principal, State};
use crate::naming::hex;
use ring::digest;

impl Directory {
    /// Whether nobody could sign in: the deployment's principals have not come here yet.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.applications.is_empty()
    }
}

impl State {
    /// Makes the deployment's principals applications, and its administrator a user. A principal that was known before and is
    /// gone from the directory was deleted and stays so; but a directory with nobody in it comes from before there was one: the
    /// last Owner cannot be deleted.
    /// True if something changed.
    pub(crate) fn first_principals(&mut self, call: Call<'_>, wanted: &Deployment) -> bool {
        let directory = &self.directory;
        let pristine = directory.is_empty();
        let known = &self.deployment.principals;
        let all = known.iter().filter(|_| pristine).chain(
            wanted
                .principals
                .iter()
                .filter(|principal| !known.iter().any(|k| k.client_id == principal.client_id)),
        );
        let new: Vec<Principal> = all.cloned().collect();
        let mut changed = false;
        for principal in &new {
            changed |= self.first_application(call, principal);
        }
        if let Some(administrator) = &wanted.administrator {
            changed |= self.first_user(call, administrator);
        }
        changed
    }

    fn first_application(&mut self, call: Call<'_>, principal: &Principal) -> bool {
        let key = principal.client_id.to_ascii_lowercase();
        if self.directory.applications.contains_key(&key) {
            return false;
        }
        let object_id = match principal.object_id.is_empty() {
            true => derived_guid(&["application", &key]),
            false => principal.object_id.clone(),
        };
        let secret = ApplicationSecret {
            id: derived_guid(&["secret", &key]),
            hint: String::new(),
            sha256: Secret(principal.secret_sha256.clone()),
            salt: principal.salt.clone(),
            created: call.at,
            expires: None,
        };
        let application = Application {
            client_id: principal.client_id.clone(),
            object_id: object_id.clone(),
            display_name: format!("Deployment {}", principal.client_id),
            enabled: true,
            created: call.at,
            secrets: vec![secret],
            certificates: Vec::new(),
        };
        self.directory.applications.insert(key, application);
        self.make_owner(call, &object_id, PrincipalType::ServicePrincipal);
        true
    }

    fn first_user(&mut self, call: Call<'_>, administrator: &Administrator) -> bool {
        if !self.directory.users.is_empty() {
            return false;
        }
        let user = User {
            object_id: administrator.object_id.clone(),
            name: administrator.name.clone(),
            display_name: "Administrator".into(),
            password: Some(administrator.password.clone()),
            password_expired: false,
            enabled: true,
            created: call.at,
            external: None,
            failures: 0,
            locked_until: None,
            last_sign_in: None,
        };
        self.directory
            .users
            .insert(user.object_id.clone(), user.clone());
        self.make_owner(call, &user.object_id, PrincipalType::User);
        true
    }

    fn make_owner(&mut self, call: Call<'_>, principal: &str, principal_type: PrincipalType) {
        let name = derived_guid(&[principal, roles::OWNER, "/"]);
        let assignment = RoleAssignment {
            name: name.clone(),
            scope: "/".into(),
            role: roles::OWNER.into(),
            principal: principal.into(),
            principal_type,
            description: Some("Made with the deployment.".into()),
            created: call.at,
            by: call.by.into(),
        };
        self.access.assignments.insert(name, assignment);
    }
}

/// A GUID that every voter derives alike from the same words.
pub(crate) fn derived_guid(words: &[&str]) -> String {
    let hash = digest::digest(&digest::SHA256, words.join("\n").as_bytes());
    let text = hex(&hash.as_ref()[..16]);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}
