//! One request, taken apart: hub, path, query, headers, body within its bound.

use super::failure::Failure;
use super::header_names::HeaderNames;
use super::serve::{ClientAddress, ClientCertificate};
use super::{Api, auth};
use crate::backend::HubView;
use axum::body::{Body, BodyDataStream};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hub::command::IfMatch;
use hub::{Command, Reply};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::{DeviceId, ErrorCode, PartitionId, limits, partition_of};

/// More segments than any route has: the rest of a path is not looked at.
const PATH_SEGMENTS_MAX: usize = 16;
/// How long a refused client may go on sending.
const DRAIN_TIME: Duration = Duration::from_secs(5);

pub(super) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) hub: Arc<HubView>,
    pub(super) method: Method,
    /// Decoded segments; trailing slashes are gone.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) certificate: Option<ClientCertificate>,
    /// Where the request came from; `None` where the listener cannot tell.
    pub(super) address: Option<ClientAddress>,
    names: HeaderNames,
    upload: Upload,
    /// Answers come from what is stored in this region.
    stored: bool,
}

/// A request's body as it comes in; what is left of it outlives the [`Call`].
#[derive(Clone)]
pub(super) struct Upload(Arc<Mutex<BodyDataStream>>);

impl Upload {
    pub(super) fn new(body: Body) -> Upload {
        Upload(Arc::new(Mutex::new(body.into_data_stream())))
    }

    fn take(&self) -> BodyDataStream {
        std::mem::replace(&mut *self.0.lock(), Body::empty().into_data_stream())
    }

    /// Reads what the client is still sending, within bounds, so that it gets to reading its refusal: closing with bytes
    /// unread would reset the connection and take the answer away.
    pub(super) async fn drain(&self) {
        let mut pieces = self.take();
        let rest = async {
            let mut count = 0;
            while let Some(Ok(piece)) = pieces.next().await {
                count += piece.len();
                if count > limits::HTTP_BODY_BYTES_MAX {
                    return;
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIME, rest).await.is_err() {
            tracing::debug!("a refused client kept sending");
        }
    }
}

impl Call {
    pub(super) fn read(api: Arc<Api>, parts: Parts, upload: Upload) -> Result<Call, Failure> {
        let path = split_path(parts.uri.path())?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let host = match parts.uri.host() {
            Some(host) => Some(host),
            None => parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok()),
        };
        let hub = find_hub(&api, host.unwrap_or_default(), &parts.headers)?;
        Ok(Call {
            api,
            hub,
            method: parts.method,
            path,
            query,
            certificate: parts.extensions.get::<ClientCertificate>().cloned(),
            address: parts.extensions.get::<ClientAddress>().copied(),
            names: parts
                .extensions
                .get::<HeaderNames>()
                .cloned()
                .unwrap_or_default(),
            headers: parts.headers,
            upload,
            stored: false,
        })
    }

    /// From now on nobody else is asked.
    pub(super) fn read_what_is_stored(&mut self) {
        self.stored = true;
    }

    pub(super) fn reads_current(&self) -> bool {
        !self.stored
    }

    /// The text of a header; `None` when it is absent.
    ///
    /// # Errors
    /// ArgumentInvalid when it is not UTF-8.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Failure> {
        self.headers
            .get(name)
            .map(|value| header_text(name, value.as_bytes()))
            .transpose()
    }

    /// Headers in order, with the names of application properties spelled as the client wrote them.
    ///
    /// # Errors
    /// ArgumentInvalid when one that belongs to a message is not UTF-8.
    pub(super) fn message_headers(&self) -> Result<Vec<(String, &str)>, Failure> {
        let mut found = Vec::new();
        for (name, value) in &self.headers {
            let name = name.as_str();
            if let Some(property) = name.strip_prefix(super::header_names::APPLICATION_PREFIX) {
                let spelled = format!(
                    "{}{}",
                    super::header_names::APPLICATION_PREFIX,
                    self.names.original(property)
                );
                found.push((spelled, header_text(name, value.as_bytes())?));
            } else if name.starts_with("iothub-") || name == "dt-subject" {
                found.push((name.to_owned(), header_text(name, value.as_bytes())?));
            }
        }
        Ok(found)
    }

    pub(super) fn if_match(&self) -> Result<IfMatch, Failure> {
        Ok(match wire::IfMatch::parse(self.header("if-match")?) {
            wire::IfMatch::Absent => IfMatch::Absent,
            wire::IfMatch::Any => IfMatch::Any,
            wire::IfMatch::Etag(etag) => IfMatch::Etag(etag.to_owned()),
        })
    }

    /// The device named by segment `index` of the path.
    pub(super) fn device(&self, index: usize) -> Result<DeviceId, Failure> {
        Ok(DeviceId::parse(self.segment(index))?)
    }

    pub(super) fn segment(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }

    /// Reads the body, once.
    ///
    /// # Errors
    /// MessageTooLarge beyond `bytes_max`, ArgumentInvalid when it ends early.
    pub(super) async fn body(&self, bytes_max: usize) -> Result<Bytes, Failure> {
        let declared = self
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        if declared
            .and_then(|length| length.parse::<u64>().ok())
            .is_some_and(|length| length > bytes_max as u64)
        {
            return Err(too_large(bytes_max));
        }
        let mut pieces = self.upload.take();
        let body = collect(&mut pieces, bytes_max).await;
        *self.upload.0.lock() = pieces;
        body
    }

    /// The body of a request that carries JSON, checked for size and nesting only.
    pub(super) async fn json(&self) -> Result<Bytes, Failure> {
        let body = self.body(limits::HTTP_BODY_BYTES_MAX).await?;
        check_depth(&body)?;
        Ok(body)
    }

    pub(super) fn partition_of(&self, device: &DeviceId) -> PartitionId {
        partition_of(device, self.hub.settings.partition_count)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.hub.settings.partition_count).map(PartitionId)
    }

    /// Asks one partition.
    pub(super) async fn ask(
        &self,
        partition: PartitionId,
        command: Command,
    ) -> Result<Reply, Failure> {
        let (backend, hub) = (&self.api.backend, self.hub.settings.id);
        let reply = if self.stored {
            backend.stale_call(hub, partition, command)
        } else {
            backend.call(hub, partition, command)
        };
        Ok(reply.await?)
    }

    /// Asks the partition of a device.
    pub(super) async fn ask_for(
        &self,
        device: &DeviceId,
        command: Command,
    ) -> Result<Reply, Failure> {
        self.ask(self.partition_of(device), command).await
    }
}

async fn collect(pieces: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|_| Failure::new(ErrorCode::ArgumentInvalid, "The body ended early."))?;
        if body.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn too_large(bytes_max: usize) -> Failure {
    Failure::new(
        ErrorCode::MessageTooLarge,
        format!("The body exceeds {bytes_max} bytes."),
    )
}

fn header_text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(value).map_err(|_| {
        Failure::new(
            ErrorCode::ArgumentInvalid,
            format!("The header {name} is not UTF-8."),
        )
    })
}

fn split_path(path: &str) -> Result<Vec<String>, Failure> {
    let path = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    let decode = |segment| match wire::percent::decode(segment) {
        Ok(text) => Ok(text.into_owned()),
        Err(error) => Err(Failure::new(
            ErrorCode::ArgumentInvalid,
            format!("The path is badly encoded: {error}."),
        )),
    };
    path.split('/')
        .take(PATH_SEGMENTS_MAX)
        .map(decode)
        .collect()
}

/// Host name, else token, else the only hub there is.
fn find_hub(api: &Api, host: &str, headers: &HeaderMap) -> Result<Arc<HubView>, Failure> {
    let backend = &api.backend;
    let named = match wire::host::label(host) {
        Some(label) => return backend.hub(label).ok_or_else(no_such_hub),
        None => auth::token_host_label(headers).and_then(|label| backend.hub(&label)),
    };
    named.or_else(|| backend.only_hub()).ok_or_else(no_such_hub)
}

fn no_such_hub() -> Failure {
    Failure::new(
        ErrorCode::IotHubNotFound,
        "There is no IoT hub of this name.",
    )
}

/// Refuses JSON nested deeper than any document of this API, before anything recursive sees it.
fn check_depth(json: &[u8]) -> Result<(), Failure> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::JSON_DEPTH_MAX {
            let text = format!(
                "The JSON is nested deeper than {} levels.",
                limits::JSON_DEPTH_MAX
            );
            return Err(Failure::new(ErrorCode::IotHubFormatError, text));
        }
    }
    Ok(())
}

/// Query parameters, decoded; names compare without case. A literal `+` is a plus.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text| wire::percent::decode_leniently(text).into_owned();
            (decoded(name), decoded(value))
        });
        Query(pairs.collect())
    }

    /// The first value of a parameter; empty when it has none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A number within `range`, or `default` when the parameter is absent.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        match text.parse::<u64>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => {
                let text = format!(
                    "The query parameter {name} must be a number from {} to {}.",
                    range.start(),
                    range.end()
                );
                Err(Failure::new(ErrorCode::ArgumentInvalid, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_by_segment_and_lose_trailing_slashes() {
        let check =
            |path, expected: &[&str]| assert_eq!(split_path(path).unwrap(), expected, "{path}");
        check("/", &[""]);
        check("/devices", &["devices"]);
        check("/devices/", &["devices"]);
        check("/devices//", &["devices"]);
        check("/devices/a%23b%2Fc+d", &["devices", "a#b/c+d"]);
        assert!(split_path("/devices/%zz").is_err());
        assert!(split_path("/devices/%ff").is_err());
        assert_eq!(
            split_path(&"/a".repeat(1000)).unwrap().len(),
            PATH_SEGMENTS_MAX
        );
    }

    #[test]
    fn brackets_inside_texts_are_not_nesting() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(check_depth(deep(limits::JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(check_depth(deep(limits::JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        let text = format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(100), "{".repeat(100));
        assert!(check_depth(text.as_bytes()).is_ok());
    }

    #[test]
    fn query_numbers_are_bounded() {
        let query = Query::parse("TOP=5&max=x&reject&big=99999999999999999999&e=%2B+");
        assert_eq!(query.number("top", 1..=10, 3).ok(), Some(5));
        assert_eq!(query.number("none", 1..=10, 3).ok(), Some(3));
        assert!(query.number("top", 6..=10, 6).is_err());
        assert!(query.number("max", 1..=10, 3).is_err());
        assert!(query.number("big", 1..=10, 3).is_err());
        assert_eq!(query.get("reject"), Some(""));
        assert_eq!(query.get("e"), Some("++"));
    }
}
