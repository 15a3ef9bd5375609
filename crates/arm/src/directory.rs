//! Who may sign in, over the API: users, applications, sessions, external providers (docs/formats/directory-api.md).
//!
//! Hashes and secrets are in no answer; a secret that is made here is told once, in the answer to the request that made it.

pub mod applications;
pub mod me;
pub mod providers;
pub mod sessions;
pub mod users;

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::Mistakes;
use axum::http::StatusCode;
use control::iso::parse_iso8601;
use control::{Answer, Command, DirectoryAnswer, DirectoryCommand};
use serde_json::{Map, Value, json};
use types::UnixMillis;

/// Where all of it stands.
pub(crate) const ROOT: &str = "/providers/Castling.Identity";
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

/// A resource in the API's form.
fn resource(kind: &str, name: &str, properties: Value) -> Value {
    json!({
        "id": format!("{ROOT}/{kind}/{name}"),
        "name": name,
        "type": format!("Castling.Identity/{kind}"),
        "properties": properties,
    })
}

fn not_found(what: &str, name: &str) -> Failure {
    Failure::not_found(
        "DirectoryObjectNotFound",
        format!("The {what} '{}' was not found.", shown(name)),
    )
}

/// Has the directory do something.
async fn submit(call: &Call, command: DirectoryCommand) -> Result<Answer, Failure> {
    call.submit(Command::Directory(command)).await
}

/// The directory's object in an answer.
async fn changed(call: &Call, command: DirectoryCommand) -> Result<DirectoryAnswer, Failure> {
    match submit(call, command).await? {
        Answer::Directory(answer) => Ok(answer),
        other => Err(unexpected(&other)),
    }
}

/// 200 for what is done, 204 where there was nothing to do.
async fn done(call: &Call, command: DirectoryCommand) -> Outcome {
    match submit(call, command).await? {
        Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        Answer::Done | Answer::Directory(_) => Ok(answer::empty(StatusCode::OK)),
        other => Err(unexpected(&other)),
    }
}

/// 201 for what is new, 200 for what was there.
fn put_status(new: bool) -> StatusCode {
    match new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    }
}

/// One page of a list in the order of its keys: `$top` of them after `$skiptoken`.
fn page<'a, T: 'a>(
    call: &Call,
    kind: &str,
    all: impl Iterator<Item = (&'a String, &'a T)>,
    show: impl Fn(&T) -> Value,
) -> Outcome {
    let top = match call.query("$top") {
        None => PAGE_DEFAULT,
        Some(text) => match text.parse() {
            Ok(top) if (1..=PAGE_MAX).contains(&top) => top,
            _ => {
                return Err(Failure::bad(
                    "InvalidQueryParameter",
                    format!("$top: a whole number from 1 to {PAGE_MAX} is expected."),
                ));
            }
        },
    };
    let after = call.query("$skiptoken");
    let mut rest = all.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let taken: Vec<_> = rest.by_ref().take(top).collect();
    let more = rest.next().is_some();
    let mut body = json!({ "value": taken.iter().map(|(_, one)| show(one)).collect::<Vec<_>>() });
    if let Some((key, _)) = taken.last().filter(|_| more) {
        let user = call
            .query("user")
            .map(|user| format!("&user={}", wire::percent::encode(user)))
            .unwrap_or_default();
        body["nextLink"] = json!(format!(
            "https://{}{ROOT}/{kind}?api-version={}&$top={top}{user}&$skiptoken={}",
            call.host,
            call.api_version()?,
            wire::percent::encode(key)
        ));
    }
    answer::ok(&body)
}

/// The fields of a request, with every mistake in them.
struct Fields {
    given: Map<String, Value>,
    path: &'static str,
    mistakes: Mistakes,
}

impl Fields {
    /// `properties` of a resource; `shown` are names that answers have and requests may repeat.
    fn of_resource(call: &Call, known: &[&str], shown: &[&str]) -> Result<Fields, Failure> {
        let mut mistakes = Mistakes::default();
        let mut body = call.json()?;
        for name in body.as_object().into_iter().flat_map(Map::keys) {
            if !["properties", "id", "name", "type"].contains(&name.as_str()) {
                mistakes.add(&crate::failure::shown(name), "it is not known");
            }
        }
        let given = match body["properties"].take() {
            Value::Object(given) => given,
            Value::Null => Map::new(),
            _ => {
                mistakes.add("properties", "an object is expected");
                Map::new()
            }
        };
        Ok(Fields::checked(
            given,
            "properties.",
            known,
            shown,
            mistakes,
        ))
    }

    /// The body of an action.
    fn of_action(call: &Call, known: &[&str]) -> Result<Fields, Failure> {
        let given = match call.json_or_empty()? {
            Value::Object(given) => given,
            _ => Map::new(),
        };
        Ok(Fields::checked(given, "", known, &[], Mistakes::default()))
    }

    fn checked(
        given: Map<String, Value>,
        path: &'static str,
        known: &[&str],
        shown: &[&str],
        mut mistakes: Mistakes,
    ) -> Fields {
        for name in given.keys().map(String::as_str) {
            if !known.contains(&name) && !shown.contains(&name) {
                let name = crate::failure::shown(name);
                mistakes.add(&format!("{path}{name}"), "it is not known");
            }
        }
        Fields {
            given,
            path,
            mistakes,
        }
    }

    fn wrong(&mut self, name: &str, why: impl std::fmt::Display) {
        self.mistakes.add(&format!("{}{name}", self.path), why);
    }

    fn is_null(&self, name: &str) -> bool {
        matches!(self.given.get(name), Some(Value::Null))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.given.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.wrong(name, "a text is expected");
                None
            }
        }
    }

    fn needed(&mut self, name: &str) -> String {
        let text = self.text(name);
        if text.is_none() && self.given.get(name).is_none_or(|value| value.is_null()) {
            self.wrong(name, "it is missing");
        }
        text.unwrap_or_default()
    }

    fn truth(&mut self, name: &str) -> Option<bool> {
        match self.given.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(truth)) => Some(*truth),
            Some(_) => {
                self.wrong(name, "true or false is expected");
                None
            }
        }
    }

    fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let given = match self.given.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(given)) => given,
            Some(_) => {
                self.wrong(name, "a list of texts is expected");
                return None;
            }
        };
        let texts: Option<Vec<String>> = given
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect();
        if texts.is_none() {
            self.wrong(name, "a list of texts is expected");
        }
        texts
    }

    /// A time to come.
    fn time(&mut self, name: &str, now: UnixMillis) -> Option<UnixMillis> {
        let text = self.text(name)?;
        match parse_iso8601(&text) {
            Some(at) if at > now => Some(at),
            Some(_) => {
                self.wrong(name, "it has passed");
                None
            }
            None => {
                self.wrong(name, "a time such as 2030-01-31T12:00:00Z is expected");
                None
            }
        }
    }

    fn done(self) -> Result<(), Failure> {
        let mistakes = self.mistakes.0;
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(Failure::bad("InvalidProperties", mistakes.join("; ")).details(&mistakes)),
        }
    }
}

/// A password's hash, made where few are made at a time.
async fn hashed(call: &Call, password: String) -> Result<control::directory::Secret, Failure> {
    let made = call.api.tokens.passwords.hash(password).await;
    made.map_err(|_| busy())?
        .map_err(|why| Failure::internal(format!("The password could not be hashed: {why}.")))
}

fn busy() -> Failure {
    Failure::unavailable("Too many passwords are being checked at the moment. Try again.")
}

#[cfg(test)]
mod tests;
