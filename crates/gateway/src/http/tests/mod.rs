//! The router end to end: requests in, answers out, the real hub core behind it.

mod access;
mod auth;
mod cloud_to_device;
mod device;
mod events;
mod lease;
mod registry;
mod serving;
mod surprises;
mod twins;
mod world;

use super::{Metrics, router};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::sync::Arc;
use types::ErrorCode;
use wire::sas;
pub(super) use world::World;

/// 32 bytes each, base64.
pub(super) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(super) const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// A hub `myhub` and a client of it.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) router: Router,
}

impl Client {
    pub(super) fn new() -> Client {
        Client::of(World::with_hubs(&["myhub"]))
    }

    pub(super) fn of(world: World) -> Client {
        let (world, metrics) = (Arc::new(world), Arc::new(Metrics::default()));
        Client {
            router: router(world.clone(), metrics.clone()),
            world,
            metrics,
        }
    }

    /// A request as the owner policy.
    pub(super) fn owner(&self, method: &str, path: &str) -> Call<'_> {
        self.policy("iothubowner", method, path)
    }

    pub(super) fn policy(&self, policy: &str, method: &str, path: &str) -> Call<'_> {
        let token = self.token("myhub.castling.test", KEY, Some(policy));
        self.call(method, path).header("authorization", &token)
    }

    /// A request of a device with its own key [`KEY`].
    pub(super) fn device(&self, device: &str, method: &str, path: &str) -> Call<'_> {
        let token = self.token(&format!("myhub.castling.test/devices/{device}"), KEY, None);
        self.call(method, path).header("authorization", &token)
    }

    /// A token that holds for an hour.
    pub(super) fn token(&self, resource: &str, key: &str, policy: Option<&str>) -> String {
        sas::make(resource, key, policy, self.world.seconds() + 3600)
    }

    /// A request without credentials.
    pub(super) fn call(&self, method: &str, path: &str) -> Call<'_> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        Call {
            client: self,
            request,
        }
        .header("host", "myhub.castling.test")
    }

    /// Registers an enabled device with the key [`KEY`].
    pub(super) async fn register(&self, device: &str) {
        let path = format!("/devices/{}", wire::percent::encode(device));
        self.owner("PUT", &path)
            .json(&device_json(device))
            .send()
            .await
            .ok(StatusCode::OK);
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = TowerToHyperService::new(self.router.clone())
            .call(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }
}

pub(super) fn device_json(device: &str) -> String {
    serde_json::json!({
        "deviceId": device,
        "status": "enabled",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}},
    })
    .to_string()
}

pub(super) struct Call<'a> {
    client: &'a Client,
    request: Request<Body>,
}

impl Call<'_> {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.request
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = Body::from(body.into());
        self
    }

    pub(super) fn json(self, text: &str) -> Self {
        self.header("content-type", "application/json")
            .body(text.to_owned())
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.request.extensions_mut().insert(value);
        self
    }

    pub(super) async fn send(self) -> Answer {
        self.client.send(self.request).await
    }

    /// Sends and checks for a documented error: status, header, body.
    pub(super) async fn refused(self, code: ErrorCode) -> Answer {
        let path = self.request.uri().path().to_owned();
        let answer = self.send().await;
        answer.is_error(code, &path);
        answer
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(super) fn ok(self, status: StatusCode) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.headers.contains_key("x-ms-request-id"));
        self
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.get("content-type"), "application/json; charset=utf-8");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header's text; empty when absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The ETag without quotes, for a path.
    #[track_caller]
    pub(super) fn lock(&self) -> String {
        let etag = self.get(header::ETAG.as_str());
        etag.strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .expect("a quoted etag")
            .to_owned()
    }

    #[track_caller]
    pub(super) fn is_error(&self, code: ErrorCode, path: &str) {
        assert_eq!(
            self.status.as_u16(),
            code.status(),
            "{path}: {}",
            self.text()
        );
        assert_eq!(
            self.get("iothub-errorcode"),
            code.name(),
            "{path}: {}",
            self.text()
        );
        assert_eq!(self.get("x-ms-request-id").len(), 32);
        let body = self.json();
        let message = body["Message"].as_str().unwrap();
        if let Ok(inner) = serde_json::from_str::<Value>(message) {
            assert_eq!(inner["errorCode"], code.number());
        } else {
            assert!(
                message.starts_with(&format!("ErrorCode:{};", code.name())),
                "{message}"
            );
        }
        assert!(
            self.text().contains(self.get("x-ms-request-id")),
            "the body names the tracking id"
        );
    }
}
