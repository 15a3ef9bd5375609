//! The management API as this program uses it: tokens, hubs, long-running operations.

use super::failure::{Failure, Refused};
use super::http::{Answer, Door, Network, Request};
use super::json::{items, text};
use super::out::spinner;
use super::signing_in;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Method;
use wire::percent;

const API_VERSION: &str = "2023-06-30";
/// A token with less life left is not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// Longer than any operation should take.
const OPERATION_PATIENCE: Duration = Duration::from_secs(300);

pub struct Management<'a> {
    pub network: &'a Network,
    /// In memory only.
    token: Mutex<Option<(String, Instant)>>,
}

/// A hub as the management API shows it.
#[derive(Clone, Debug)]
pub struct HubResource {
    pub name: String,
    /// `/subscriptions/…/IotHubs/{name}`.
    pub path: String,
    pub document: Value,
}

impl HubResource {
    fn new(document: Value) -> HubResource {
        HubResource {
            name: text(&document, "name"),
            path: text(&document, "id"),
            document,
        }
    }

    /// The region in a role, in the form of the catalogue's names.
    pub fn region(&self, role: &str) -> Option<String> {
        let found = items(&self.document, "properties.locations")
            .iter()
            .find(|location| text(location, "role").eq_ignore_ascii_case(role))?;
        Some(region_key(&text(found, "location")))
    }

    pub fn host_name(&self) -> Result<String, Failure> {
        let host = text(&self.document, "properties.hostName");
        if host.is_empty() {
            return Err(Failure::Failed(format!(
                "hub `{}` is {} and has no host name yet",
                self.name,
                text(&self.document, "properties.state")
            )));
        }
        Ok(host)
    }
}

/// `West US 2` as `westus2`.
pub fn region_key(display_name: &str) -> String {
    display_name
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect::<String>()
        .to_ascii_lowercase()
}

impl<'a> Management<'a> {
    pub fn new(network: &'a Network) -> Self {
        Management {
            network,
            token: Mutex::new(None),
        }
    }

    pub fn subscription_path(&self) -> String {
        format!("/subscriptions/{}", self.network.up().subscription)
    }

    pub fn group_path(&self, group: &str) -> String {
        format!(
            "{}/resourceGroups/{}",
            self.subscription_path(),
            percent::encode(group)
        )
    }

    /// Asks, and takes any answer.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.ask_as("application/json", method, path, body)
    }

    fn ask_as(
        &self,
        accept: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let answer = self.ask_with(&self.token()?, accept, &method, path, body)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // Another key signs tokens since a restart with another folder, or the clock jumped: one fresh token is worth a try.
        self.forget_token();
        self.ask_with(&self.token()?, accept, &method, path, body)
    }

    /// Asks, and takes only success.
    ///
    /// # Errors
    /// [`Failure::Refused`] with code and message of the service; [`Failure::Failed`] for what is not there.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let answer = self.ask(method, path, body)?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(refusal(&answer))
        }
    }

    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None)?.json()
    }

    /// A document as a page for a browser.
    ///
    /// # Errors
    /// As [`Management::call`]; [`Failure::Failed`] when what is there has no such form.
    pub fn page(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.ask_as("text/html", Method::GET, path, None)?;
        if !answer.is_success() {
            return Err(refusal(&answer));
        }
        let kind = answer.header("content-type").unwrap_or_default();
        match kind.starts_with("text/html") {
            true => Ok(answer.body),
            false => Err(Failure::Failed(format!(
                "the management API answers with {kind}, not with a page"
            ))),
        }
    }

    /// All pages of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut found = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next)?;
            found.extend_from_slice(items(&page, "value"));
            match local_path(&text(&page, "nextLink")) {
                Some(path) => next = path,
                None => return Ok(found),
            }
        }
    }

    pub fn hubs(&self) -> Result<Vec<HubResource>, Failure> {
        let path = format!(
            "{}/providers/Microsoft.Devices/IotHubs",
            self.subscription_path()
        );
        Ok(self
            .list(&path)?
            .into_iter()
            .map(HubResource::new)
            .collect())
    }

    /// # Errors
    /// Names the hubs that there are.
    pub fn hub(&self, name: &str) -> Result<HubResource, Failure> {
        let hubs = self.hubs()?;
        if let Some(found) = hubs.iter().find(|hub| hub.name.eq_ignore_ascii_case(name)) {
            return Ok(found.clone());
        }
        let names: Vec<&str> = hubs.iter().map(|hub| hub.name.as_str()).collect();
        let there = if names.is_empty() {
            "there are none; make one with `castling hub create`".to_owned()
        } else {
            format!("hubs here: {}", names.join(", "))
        };
        Err(Failure::Failed(format!(
            "no hub is named `{name}`; {there}"
        )))
    }

    /// A policy with its keys.
    pub fn policy(&self, hub: &HubResource, name: &str) -> Result<Value, Failure> {
        let path = format!("{}/IotHubKeys/{}/listkeys", hub.path, percent::encode(name));
        self.call(Method::POST, &path, None)?.json()
    }

    /// Waits for what an answer began.
    ///
    /// # Errors
    /// With code and text of the service when it did not succeed.
    pub fn finish(&self, begun: &Answer, resource: &str, what: &str) -> Result<(), Failure> {
        let bar = spinner(what);
        let status_path = begun.header("azure-asyncoperation").and_then(local_path);
        let location = begun.header("location").and_then(local_path);
        let started = Instant::now();
        while started.elapsed() < OPERATION_PATIENCE {
            let ended = match (&status_path, &location) {
                (Some(path), _) => operation_end(&self.get(path)?)?,
                (None, Some(path)) => self.call(Method::GET, path, None)?.status != 202,
                (None, None) => operation_end(
                    &json!({ "status": text(&self.get(resource)?, "properties.provisioningState") }),
                )?,
            };
            if ended {
                bar.finish_and_clear();
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err(Failure::Failed(format!(
            "{what} takes longer than {} s; look again later",
            OPERATION_PATIENCE.as_secs()
        )))
    }

    fn ask_with(
        &self,
        token: &str,
        accept: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut headers = vec![
            ("authorization".to_owned(), format!("Bearer {token}")),
            ("accept".to_owned(), accept.to_owned()),
        ];
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let request = Request {
            method: method.clone(),
            door: Door::Management,
            host: None,
            path_and_query: versioned(path),
            headers,
            body: body.map(|body| body.to_string().into_bytes()),
        };
        Ok(self.network.send(&request)?)
    }

    fn token(&self) -> Result<String, Failure> {
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = &*kept
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let refused = kept.as_ref().map(|(token, _)| token.as_str());
        let (token, life) = signing_in::token(self.network, refused)?;
        *kept = Some((
            token.clone(),
            Instant::now() + life.saturating_sub(TOKEN_MARGIN),
        ));
        Ok(token)
    }

    /// Keeps it as one that is not taken any more.
    fn forget_token(&self) {
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, until)) = kept.as_mut() {
            *until = Instant::now();
        }
    }
}

/// Path and query of an absolute address, without its api-version; `None` when it is none.
fn local_path(address: &str) -> Option<String> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    let path = match rest {
        Some(rest) => &rest[rest.find('/')?..],
        None if address.starts_with('/') => address,
        None => return None,
    };
    Some(path.to_owned())
}

fn versioned(path: &str) -> String {
    match path.split_once('?') {
        None => format!("{path}?api-version={API_VERSION}"),
        Some((_, query)) if query.to_ascii_lowercase().contains("api-version=") => path.to_owned(),
        Some(_) => format!("{path}&api-version={API_VERSION}"),
    }
}

/// Whether an operation has ended well.
fn operation_end(document: &Value) -> Result<bool, Failure> {
    let status = text(document, "status");
    if status.eq_ignore_ascii_case("Succeeded") {
        return Ok(true);
    }
    if !["Failed", "Canceled", "Cancelled"]
        .iter()
        .any(|word| status.eq_ignore_ascii_case(word))
    {
        return Ok(false);
    }
    Err(Failure::Failed(
        format!(
            "{status}: {} {}",
            text(document, "error.code"),
            text(document, "error.message")
        )
        .trim_end()
        .to_owned(),
    ))
}

/// What an answer without success says.
pub fn refusal(answer: &Answer) -> Failure {
    let document = answer.json().unwrap_or(Value::Null);
    let inner = document.get("error").unwrap_or(&document);
    let or = |text: String, other: String| if text.is_empty() { other } else { text };
    let code = or(text(inner, "code"), answer.status.to_string());
    let message = or(
        text(inner, "message"),
        format!("the management API answered {}", answer.status),
    );
    if matches!(answer.status, 401 | 404) || answer.status >= 500 {
        return Failure::Failed(format!("{code}: {message}"));
    }
    Failure::Refused(Refused {
        code,
        message,
        earliest: earliest(inner),
    })
}

/// The earliest time a refusal names: a field of its own, or one of its details.
fn earliest(error: &Value) -> Option<String> {
    let direct = ["earliest", "earliestTime", "innererror.earliest"]
        .iter()
        .map(|path| text(error, path));
    let infos = items(error, "additionalInfo")
        .iter()
        .chain(items(error, "details"));
    let nested = infos.flat_map(|info| [text(info, "earliest"), text(info, "info.earliest")]);
    direct.chain(nested).find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_operations_become_paths_of_any_region() {
        assert_eq!(
            local_path("https://127.0.0.1:8444/a/b?x=1&y").as_deref(),
            Some("/a/b?x=1&y")
        );
        assert_eq!(local_path(""), None);
        assert_eq!(local_path("https://host"), None);
    }

    #[test]
    fn a_version_is_added_once() {
        assert_eq!(versioned("/a"), "/a?api-version=2023-06-30");
        assert_eq!(versioned("/a?b=1"), "/a?b=1&api-version=2023-06-30");
        assert_eq!(versioned("/a?API-version=2"), "/a?API-version=2");
    }

    #[test]
    fn operations_end_by_their_status() {
        assert_eq!(operation_end(&json!({"status": "Running"})), Ok(false));
        assert_eq!(operation_end(&json!({"status": "succeeded"})), Ok(true));
        let failed =
            operation_end(&json!({"status": "Failed", "error": {"code": "C", "message": "m"}}));
        assert_eq!(failed, Err(Failure::Failed("Failed: C m".into())));
    }

    #[test]
    fn display_names_become_names_of_the_catalogue() {
        let hub = HubResource::new(
            json!({"name": "h", "id": "/x", "properties": {"locations": [
            {"location": "West Central US", "role": "primary"}, {"location": "West US 2", "role": "secondary"}]}}),
        );
        assert_eq!(hub.region("primary").as_deref(), Some("westcentralus"));
        assert_eq!(hub.region("secondary").as_deref(), Some("westus2"));
        assert!(hub.host_name().is_err());
    }

    #[test]
    fn the_earliest_time_is_found_wherever_it_stands() {
        for error in [
            json!({"earliest": "t"}),
            json!({"details": [{"earliest": "t"}]}),
            json!({"additionalInfo": [{"info": {"earliest": "t"}}]}),
        ] {
            assert_eq!(earliest(&error).as_deref(), Some("t"));
        }
        assert_eq!(earliest(&json!({})), None);
    }
}
