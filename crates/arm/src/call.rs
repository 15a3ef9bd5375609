//! One request, read: who asks what about which resource.

use crate::Api;
use crate::backend::By;
use crate::failure::{Failure, shown};
use crate::ids;
use crate::tokens::hex;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use control::naming::clip;
use control::{Answer, Command, Hub, Origin, ResourceGroup, State};
use ring::digest;
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use types::{UnixMillis, limits};
use wire::percent;

/// Characters of a client's own description that are kept.
const AGENT_CHARS_MAX: usize = 160;

/// A request with its path taken apart. `state` is the region's copy of the control plane when the request came.
#[derive(Clone)]
pub struct Call {
    pub api: Arc<Api>,
    pub state: Arc<State>,
    pub now: UnixMillis,
    /// Host and port as the client wrote them.
    pub host: String,
    pub params: Vec<(&'static str, String)>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Who asks, as it stands in records: a user's name or a client id; empty where no token is asked for.
    pub by: String,
    pub caller: Caller,
    /// Address the request came from, where the listener tells it.
    pub address: Option<IpAddr>,
    /// This request's ids.
    pub correlation: String,
}

/// Who a token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub kind: CallerKind,
    /// Object id; empty for nobody.
    pub object_id: String,
    /// A user's name or a client id.
    pub name: String,
    /// For people to read.
    pub display_name: String,
    /// Groups of an external provider, as `PROVIDER:GROUP`.
    pub groups: Vec<String>,
    /// The session its token belongs to, for users.
    pub session: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallerKind {
    /// Without a token.
    #[default]
    Nobody,
    Application,
    User,
}

impl Caller {
    /// As rights are asked for.
    pub fn asker(&self) -> control::access::Asker<'_> {
        control::access::Asker {
            object_id: &self.object_id,
            groups: &self.groups,
        }
    }
}

impl Call {
    /// A part of the path; empty if the route has none of this name.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A query parameter, its name in any case.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self
            .query
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// The api-version: any date, with or without `-preview`.
    ///
    /// # Errors
    /// 400 if it is missing or no date.
    pub fn api_version(&self) -> Result<&str, Failure> {
        let missing = || {
            Failure::bad(
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        };
        let version = self
            .query("api-version")
            .filter(|version| !version.is_empty())
            .ok_or_else(missing)?;
        if is_version(version) {
            return Ok(version);
        }
        Err(Failure::bad(
            "InvalidApiVersionParameter",
            format!(
                "The api-version '{}' is invalid. The form is YYYY-MM-DD or YYYY-MM-DD-preview.",
                shown(version)
            ),
        ))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// 400 if it is empty or malformed, or anything but an object.
    pub fn json(&self) -> Result<Value, Failure> {
        let wrong = |why: String| {
            Failure::bad(
                "InvalidRequestContent",
                format!("The request content was invalid and could not be read: {why}."),
            )
        };
        let text = self
            .body
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&self.body);
        if text.is_empty() {
            return Err(wrong("it is empty, a JSON object is expected".into()));
        }
        let value: Value = crate::strict::json(text).map_err(wrong)?;
        match value.is_object() {
            true => Ok(value),
            false => Err(wrong("a JSON object is expected".into())),
        }
    }

    /// The body as JSON, or an empty object where there is none.
    pub fn json_or_empty(&self) -> Result<Value, Failure> {
        match self.body.trim_ascii() {
            b"" | b"null" => Ok(Value::Object(serde_json::Map::new())),
            _ => self.json(),
        }
    }

    /// The id of the subscription in the path, as it was laid down.
    pub fn subscription(&self) -> Result<&control::model::Subscription, Failure> {
        let id = self.param("subscription");
        self.state.subscription(id).ok_or_else(|| {
            Failure::not_found(
                "SubscriptionNotFound",
                format!("The subscription '{}' could not be found.", shown(id)),
            )
        })
    }

    /// The resource group in the path.
    pub fn group(&self) -> Result<&ResourceGroup, Failure> {
        let subscription = &self.subscription()?.id;
        let name = self.param("group");
        self.state.group(subscription, name).ok_or_else(|| {
            Failure::not_found(
                "ResourceGroupNotFound",
                format!("Resource group '{}' could not be found.", shown(name)),
            )
        })
    }

    /// The hub in the path, if it is there.
    pub fn hub_if_there(&self) -> Option<&Hub> {
        hub_of(
            &self.state,
            self.param("subscription"),
            self.param("group"),
            self.param("hub"),
        )
    }

    /// The hub in the path.
    pub fn hub(&self) -> Result<&Hub, Failure> {
        let group = self.group()?;
        self.hub_if_there().ok_or_else(|| {
            Failure::not_found(
                "ResourceNotFound",
                format!(
                    "The Resource 'Microsoft.Devices/IotHubs/{}' under resource group '{}' was not found.",
                    shown(self.param("hub")),
                    group.name
                ),
            )
        })
    }

    /// Who asks and from where, for the control plane's records.
    pub fn who(&self) -> By {
        By {
            name: self.by.clone(),
            origin: Origin {
                object_id: self.caller.object_id.clone(),
                address: self.address.map(|address| address.to_string()),
                correlation: Some(self.correlation.clone()),
                agent: self
                    .header("user-agent")
                    .map(|agent| clip(agent, AGENT_CHARS_MAX)),
            },
        }
    }

    /// Has the control plane's leader do something.
    ///
    /// # Errors
    /// Its refusal, or that it did not answer.
    pub async fn submit(&self, command: Command) -> Result<Answer, Failure> {
        let answer = self.api.backend.submit(self.who(), command).await?;
        match answer {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    /// An id for an operation that this request starts.
    ///
    /// A client that repeats a request sends the same `x-ms-client-request-id`: the id is made from it, so that a repeated
    /// request finds the operation of the first one instead of starting another. Some clients always send the same one, so
    /// the id of an operation that has ended is used again only for a short while, and only if `repeat_finds_ended`.
    pub fn operation_id(&self, what: &str, repeat_finds_ended: bool) -> Result<String, Failure> {
        let Some(given) = ids::given(&self.headers, "x-ms-client-request-id") else {
            return ids::operation_id();
        };
        let text = format!("{}\n{given}\n{what}", self.by);
        let id = hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..16]);
        let drill = || self.state.drills.get(&id).and_then(|drill| drill.ended);
        let ended = self.state.operations.get(&id).and_then(|op| op.ended);
        let ended = ended.or_else(drill);
        let recent = |at| self.now.since(at) <= limits::MANAGEMENT_REPEAT_MS;
        match ended {
            Some(at) if !(repeat_finds_ended && recent(at)) => ids::operation_id(),
            _ => Ok(id),
        }
    }
}

/// The hub of this name, if it lives in this group of this subscription.
pub fn hub_of<'a>(
    state: &'a State,
    subscription: &str,
    group: &str,
    name: &str,
) -> Option<&'a Hub> {
    use control::naming::key;
    state.hub_named(name).filter(|hub| {
        key(&hub.subscription) == key(subscription) && key(&hub.resource_group) == key(group)
    })
}

/// An answer that does not fit its command: a mistake of this program, not of the client.
pub fn unexpected(answer: &Answer) -> Failure {
    tracing::error!(
        ?answer,
        "the control plane's answer does not fit the command"
    );
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "OutcomeUnknown",
        "The control plane gave an answer that does not fit the request, which may have been carried out.",
    )
}

fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    let form = |(at, b): (usize, u8)| match at {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    };
    date.len() == 10 && date.bytes().enumerate().all(form)
}

/// Host and port under which the client reached us; they stand in the addresses we give.
///
/// # Errors
/// 400 if they are missing or hold what no authority may.
pub fn authority(parts: &Parts) -> Result<String, Failure> {
    let host = parts
        .headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
        .unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if (1..=255).contains(&host.len()) && host.bytes().all(plain) {
        return Ok(host.to_owned());
    }
    Err(Failure::bad(
        "InvalidHostHeader",
        "The Host header is missing or malformed.",
    ))
}

/// Query or form parameters, decoded as far as they can be.
pub fn query(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced: Cow<'_, str> = match text.contains('+') {
            true => text.replace('+', " ").into(),
            false => text.into(),
        };
        percent::decode_leniently(&spaced).into_owned()
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Reads the body up to its bound; less is read from those who are not known yet.
///
/// # Errors
/// 413 beyond the bound, 400 when it breaks off.
pub async fn read_body(body: Body, headers: &HeaderMap, open: bool) -> Result<Bytes, Failure> {
    let most = match open {
        true => limits::MANAGEMENT_FORM_BYTES_MAX,
        false => limits::HTTP_BODY_BYTES_MAX,
    };
    let too_large = || {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("The request content exceeds {most} bytes."),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > most as u64) {
        return Err(too_large());
    }
    let late = |_| {
        Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            format!(
                "The request content did not arrive within {} ms.",
                limits::MANAGEMENT_BODY_MS_MAX
            ),
        )
    };
    let arrives = axum::body::to_bytes(body, most);
    let arrived = tokio::time::timeout(
        Duration::from_millis(limits::MANAGEMENT_BODY_MS_MAX),
        arrives,
    );
    arrived.await.map_err(late)?.map_err(|error| {
        let broke_off = error.to_string();
        match broke_off.contains("limit") {
            true => too_large(),
            false => Failure::bad(
                "InvalidRequestContent",
                format!("The request content could not be read: {broke_off}."),
            ),
        }
    })
}
