//! One hub's service REST, reached through any region, with a token of one of its policies.

use super::failure::{Failure, Refused};
use super::http::{Answer, Door, Network, Request, Trouble};
use super::json::text;
use super::management::Management;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ureq::http::Method;

const API_VERSION: &str = "2021-04-12";
const TOKEN_LIFE_S: i64 = 3600;
const TOKEN_MARGIN_S: i64 = 300;
/// How long a command waits for a hub that is failing over or starting.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);
const POLICY: &str = "iothubowner";

pub struct Service<'a> {
    network: &'a Network,
    pub host: String,
    pub policy: String,
    key: String,
    /// Token and the second in which it ends; in memory only.
    token: Mutex<Option<(String, i64)>>,
}

impl<'a> Service<'a> {
    /// The hub of this name, with the rights of its owner.
    pub fn open(network: &'a Network, name: &str) -> Result<Service<'a>, Failure> {
        Service::with_policy(network, name, POLICY)
    }

    pub fn with_policy(
        network: &'a Network,
        name: &str,
        policy: &str,
    ) -> Result<Service<'a>, Failure> {
        let management = Management::new(network);
        let hub = management.hub(name)?;
        let rule = management.policy(&hub, policy)?;
        let host = hub.host_name()?;
        Ok(Service {
            network,
            host,
            policy: policy.to_owned(),
            key: text(&rule, "primaryKey"),
            token: Mutex::new(None),
        })
    }

    /// Asks once, and takes any answer.
    pub fn ask(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Trouble> {
        let mut all: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        all.push(("authorization".into(), self.token()));
        let separator = if path.contains('?') { '&' } else { '?' };
        self.network.send(&Request {
            method: method.clone(),
            door: Door::Https,
            host: Some(self.host.clone()),
            path_and_query: format!("{path}{separator}api-version={API_VERSION}"),
            headers: all,
            body: body.map(<[u8]>::to_vec),
        })
    }

    /// Asks, waits while the hub is failing over or not ready, and takes only success.
    ///
    /// # Errors
    /// [`Failure::Refused`] with the hub's code and message.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let answer = self.call_any(method, path, headers, body)?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(refusal(&answer))
        }
    }

    /// As [`Service::call`], for those who read refusals themselves.
    pub fn call_any(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        loop {
            let answer = self.ask(&method, path, headers, body);
            let again = match &answer {
                Ok(answer) => nothing_was_done(answer),
                Err(Trouble::Unreachable(_)) => false,
                Err(Trouble::Interrupted(_)) => method == Method::GET,
            };
            if !again || started.elapsed() > PATIENCE {
                return Ok(answer?);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn token(&self) -> String {
        let now = unix_now_s();
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = &*kept
            && *until > now + TOKEN_MARGIN_S
        {
            return token.clone();
        }
        let until = now + TOKEN_LIFE_S;
        let token = self.token_for(&self.host, until);
        *kept = Some((token.clone(), until));
        token
    }

    /// A token of this policy for a resource of the hub.
    pub fn token_for(&self, resource: &str, until_unix_s: i64) -> String {
        wire::sas::make(resource, &self.key, Some(&self.policy), until_unix_s)
    }
}

/// Seconds of the wall clock: tokens live by it.
pub fn unix_now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

/// The hub says that it did nothing and may soon do it: failing over, not ready, too busy.
pub fn nothing_was_done(answer: &Answer) -> bool {
    let code = answer.header("iothub-errorcode").unwrap_or_default();
    answer.status == 429 || answer.status == 503 || code == "IotHubFailingOver"
}

/// What an answer without success says.
pub fn refusal(answer: &Answer) -> Failure {
    let code = answer
        .header("iothub-errorcode")
        .unwrap_or("error")
        .to_owned();
    let message = answer
        .json()
        .map_or_else(|_| String::new(), |body| message(&text(&body, "Message")));
    let message = if message.is_empty() {
        format!("the hub answered {}", answer.status)
    } else {
        message
    };
    if matches!(answer.status, 401 | 404) || answer.status >= 500 {
        return Failure::Failed(format!("{code}: {message}"));
    }
    Failure::Refused(Refused {
        code,
        message,
        earliest: None,
    })
}

/// The text for a person in either form of error bodies.
fn message(raw: &str) -> String {
    if let Ok(inner) = serde_json::from_str::<serde_json::Value>(raw) {
        let found = text(&inner, "message");
        if !found.is_empty() {
            return found;
        }
    }
    match raw.split_once(';') {
        Some((code, rest)) if code.starts_with("ErrorCode:") => rest.trim().to_owned(),
        _ => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_error_bodies_give_their_text() {
        assert_eq!(
            message("ErrorCode:DeviceNotFound;There is none."),
            "There is none."
        );
        assert_eq!(
            message(r#"{"errorCode":404001,"message":"There is none."}"#),
            "There is none."
        );
        assert_eq!(message("plain"), "plain");
    }

    #[test]
    fn tokens_are_accepted_by_those_who_check_them() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let token = wire::sas::make(
            "h.castling.localhost",
            key,
            Some("iothubowner"),
            unix_now_s() + 60,
        );
        let token = wire::Token::parse(&token).unwrap();
        assert_eq!(token.resource, "h.castling.localhost");
        assert!(wire::sas::verify(&token, &[key], types::UnixMillis(unix_now_s() * 1000)).is_ok());
    }
}
