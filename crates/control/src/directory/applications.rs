//! Applications (service principals): made and changed with their secrets and certificates.

use super::DirectoryAnswer;
use super::apply::{Mistakes, as_read, exists, full, invalid};
use super::model::{Application, Directory};
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::naming::shown;
use crate::refusal::{Refusal, RefusalCode};
use std::collections::BTreeSet;
use types::{UnixMillis, limits};

impl Application {
    /// Whether these are alike, but for when they were made.
    fn same(&self, other: &Application) -> bool {
        let still = Application {
            created: self.created,
            ..other.clone()
        };
        *self == still
    }

    /// Whether there is any way for this application to sign in at `now`.
    pub fn can_sign_in(&self, now: UnixMillis) -> bool {
        let secret = self
            .secrets
            .iter()
            .any(|secret| secret.expires.is_none_or(|at| at > now));
        let certificate = self.certificates.iter().any(|known| known.expires > now);
        self.enabled && (secret || certificate)
    }
}

impl Directory {
    /// The application of this client id, in any case.
    pub fn application(&self, client_id: &str) -> Option<&Application> {
        self.applications.get(&client_id.to_ascii_lowercase())
    }

    /// The application of this object id.
    pub fn application_of(&self, object_id: &str) -> Option<&Application> {
        self.applications
            .values()
            .find(|known| known.object_id.eq_ignore_ascii_case(object_id))
    }
}

impl State {
    pub(super) fn put_application(
        &mut self,
        call: Call<'_>,
        wanted: &Application,
        expected: Option<&Application>,
    ) -> Result<Answer, Refusal> {
        application_mistakes(wanted)?;
        let key = wanted.client_id.to_ascii_lowercase();
        let before = self.directory.applications.get(&key);
        as_read(before, expected, wanted, Application::same)?;
        let next = match before {
            None => self.new_application(call, wanted)?,
            Some(known) => self.changed_application(call, known, wanted)?,
        };
        if before != Some(&next) {
            self.changed();
            self.directory.applications.insert(key, next.clone());
        }
        Ok(Answer::Directory(DirectoryAnswer::Application(Box::new(
            next,
        ))))
    }

    fn new_application(
        &self,
        call: Call<'_>,
        wanted: &Application,
    ) -> Result<Application, Refusal> {
        let directory = &self.directory;
        if directory.user_named(&wanted.client_id).is_some() {
            return Err(exists(format!(
                "The name '{}' is in use by a user.",
                shown(&wanted.client_id)
            )));
        }
        if directory.has_object(&wanted.object_id) {
            return Err(exists(format!(
                "The object id '{}' is in use.",
                shown(&wanted.object_id)
            )));
        }
        if directory.applications.len() >= limits::APPLICATIONS_MAX {
            return Err(full("applications", limits::APPLICATIONS_MAX));
        }
        Ok(Application {
            created: call.at,
            ..wanted.clone()
        })
    }

    fn changed_application(
        &self,
        call: Call<'_>,
        known: &Application,
        wanted: &Application,
    ) -> Result<Application, Refusal> {
        if known.object_id != wanted.object_id {
            return Err(invalid(format!(
                "The object id of an application is never changed: it is '{}'.",
                known.object_id
            )));
        }
        let next = Application {
            client_id: known.client_id.clone(),
            created: known.created,
            ..wanted.clone()
        };
        if known.can_sign_in(call.at) && !next.can_sign_in(call.at) {
            self.not_last_owner(&known.object_id)?;
        }
        Ok(next)
    }

    pub(super) fn delete_application(
        &mut self,
        _call: Call<'_>,
        client_id: &str,
    ) -> Result<Answer, Refusal> {
        let key = client_id.to_ascii_lowercase();
        let Some(known) = self.directory.applications.get(&key) else {
            return Ok(Answer::Absent);
        };
        let object_id = known.object_id.clone();
        self.not_last_owner(&object_id)?;
        self.changed();
        self.directory.applications.remove(&key);
        self.access.forget_principal(&object_id);
        Ok(Answer::Done)
    }
}

fn application_mistakes(wanted: &Application) -> Result<(), Refusal> {
    let mut mistakes = Mistakes::default();
    let (ids, texts) = (
        limits::DIRECTORY_ID_CHARS_MAX,
        limits::DIRECTORY_TEXT_CHARS_MAX,
    );
    mistakes.plain("clientId", &wanted.client_id, "-_.", ids);
    mistakes.plain("objectId", &wanted.object_id, "-_.", ids);
    mistakes.text("displayName", &wanted.display_name, texts);
    let most = limits::SECRETS_PER_APPLICATION_MAX;
    mistakes.wrong(wanted.secrets.len() > most, || {
        format!("secrets: at most {most} are allowed")
    });
    let most = limits::CERTIFICATES_PER_APPLICATION_MAX;
    mistakes.wrong(wanted.certificates.len() > most, || {
        format!("certificates: at most {most} are allowed")
    });
    let mut seen = BTreeSet::new();
    let secrets = wanted.secrets.iter().map(|secret| &secret.id);
    for id in secrets.chain(wanted.certificates.iter().map(|known| &known.id)) {
        mistakes.plain("id of a secret or certificate", id, "-_.", ids);
        mistakes.wrong(!seen.insert(id), || {
            format!("the id '{}' stands twice", shown(id))
        });
    }
    for secret in &wanted.secrets {
        mistakes.wrong(
            secret.sha256.0.is_empty() || secret.sha256.0.len() > ids,
            || "secrets: one has no hash, or none that could be one".into(),
        );
        mistakes.wrong(
            secret.hint.chars().count() > 8 || secret.salt.len() > texts,
            || "secrets: a hint or a salt is too long".into(),
        );
    }
    for known in &wanted.certificates {
        let size = limits::APPLICATION_CERTIFICATE_CHARS_MAX;
        mistakes.wrong(known.der.is_empty() || known.der.len() > size, || {
            format!("certificates: one is empty or has more than {size} characters")
        });
        mistakes.plain("thumbprint", &known.sha1, "", ids);
        mistakes.plain("SHA-256 thumbprint", &known.sha256, "", ids);
        mistakes.wrong(
            known.subject.chars().count() > limits::DIRECTORY_ADDRESS_CHARS_MAX,
            || "certificates: a subject is too long".into(),
        );
    }
    mistakes.refuse(RefusalCode::DirectoryObjectInvalid)
}
