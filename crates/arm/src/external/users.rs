//! The user of our own that stands for a person of an external provider; made at the first sign-in.

use super::id_token::Person;
use crate::call::{Call, unexpected};
use crate::failure::Failure;
use crate::ids;
use axum::http::StatusCode;
use control::access::PrincipalType;
use control::directory::{IdentityProvider, User};
use control::naming::clip;
use control::{Answer, Command, DirectoryAnswer, DirectoryCommand};
use std::collections::BTreeSet;
use types::limits;

/// Object id of the user and their groups as `PROVIDER:GROUP`.
///
/// # Errors
/// When the user is disabled, or none can be made.
pub(super) async fn sign_in(
    call: &Call,
    provider: &IdentityProvider,
    person: &Person,
) -> Result<(String, Vec<String>), Failure> {
    let known = call
        .state
        .directory
        .user_of(&provider.name, &person.subject);
    let object_id = match known {
        Some(user) if !user.enabled => {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "UserDisabled",
                format!("The user '{}' is disabled.", user.name),
            ));
        }
        Some(user) => user.object_id.clone(),
        None => make(call, provider, person).await?,
    };
    Ok((object_id, groups(call, provider, person)))
}

async fn make(
    call: &Call,
    provider: &IdentityProvider,
    person: &Person,
) -> Result<String, Failure> {
    let directory = &call.state.directory;
    let plain = plain_name(&person.name);
    // A name that somebody has is never taken over: what is known of a person is provider and subject.
    let taken =
        |name: &str| directory.user_named(name).is_some() || directory.application(name).is_some();
    let name = match taken(&plain) {
        false => plain,
        true => clip_chars(
            &format!("{}-{plain}", provider.name),
            limits::DIRECTORY_ID_CHARS_MAX,
        ),
    };
    let display_name: String = person
        .display_name
        .chars()
        .filter(|c| !c.is_control())
        .take(limits::DIRECTORY_TEXT_CHARS_MAX)
        .collect();
    let user = User {
        object_id: ids::guid()?,
        display_name: match display_name.is_empty() {
            true => name.clone(),
            false => display_name,
        },
        name,
        password: None,
        password_expired: false,
        enabled: true,
        created: call.now,
        external: Some((provider.name.clone(), person.subject.clone())),
        failures: 0,
        locked_until: None,
        last_sign_in: None,
    };
    let mut by = call.who();
    by.name = user.name.clone();
    by.origin.object_id = user.object_id.clone();
    let command = Command::Directory(DirectoryCommand::PutUser {
        user: Box::new(user),
        expected: None,
    });
    match call.api.backend.submit(by, command).await? {
        Answer::Directory(DirectoryAnswer::User(user)) => Ok(user.object_id),
        Answer::Refused(refusal) => Err(refusal.into()),
        other => Err(unexpected(&other)),
    }
}

/// Only characters that a user's name may have.
fn plain_name(name: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || ".-_@+'".contains(c) => c,
        _ => '-',
    };
    clip_chars(
        &name.chars().map(plain).collect::<String>(),
        limits::DIRECTORY_ID_CHARS_MAX,
    )
}

fn clip_chars(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Groups with a role come first: when there are too many, those that mean nothing here are left out.
fn groups(call: &Call, provider: &IdentityProvider, person: &Person) -> Vec<String> {
    let assigned: BTreeSet<&str> = call
        .state
        .access
        .assignments
        .values()
        .filter(|one| one.principal_type == PrincipalType::Group)
        .map(|one| one.principal.as_str())
        .collect();
    let named: BTreeSet<String> = person
        .groups
        .iter()
        .map(|group| format!("{}:{group}", provider.name))
        .filter(|group| {
            group.chars().count() <= limits::DIRECTORY_TEXT_CHARS_MAX
                && !group.chars().any(char::is_control)
        })
        .collect();
    let (mut first, rest): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|group| assigned.contains(group.as_str()));
    first.extend(rest);
    if first.len() > limits::GROUPS_PER_SESSION_MAX {
        tracing::warn!(
            provider = %provider.name, name = %clip(&person.name, 64), groups = first.len(),
            "more groups than a session holds; those without a role are left out first"
        );
        first.truncate(limits::GROUPS_PER_SESSION_MAX);
    }
    first
}
