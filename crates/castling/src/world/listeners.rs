//! What a node serves to clients, and how its listeners are bound.

use super::gateway_backend::GatewayBackend;
use super::metrics;
use super::node::Part;
use super::ports::{self, Ports};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use link::tickets::SharedTickets;
use link::tls::Shown;
use region::Region;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// TLS settings of a listener, with a certificate that may be renewed.
///
/// # Errors
/// When TLS cannot be set up.
pub fn tls(
    shown: &Arc<Shown>,
    tickets: &Arc<SharedTickets>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, String> {
    link::tls::server_config_with(shown.clone(), tickets.clone(), alpn, None)
        .map_err(|error| error.to_string())
}

/// Binds the listener of the management API; gives its port.
///
/// # Errors
/// Names the address and the port.
pub async fn management(address: IpAddr, ports: &Ports) -> Result<(TcpListener, u16), String> {
    ports::bind(address, ports.management, "management").await
}

/// Answers 503 as long as the node is not ready: what it knows of the control plane may be old or nothing.
pub fn when_ready(part: Part, api: Router) -> Router {
    api.layer(middleware::from_fn_with_state(part, gate))
}

async fn gate(State(part): State<Part>, request: Request, next: Next) -> Response {
    if part.manages() {
        return next.run(request).await;
    }
    let body = serde_json::json!({ "error": {
        "code": "ServiceUnavailable",
        "message": format!("Region {} is not ready: {}.", part.me(), part.waiting()),
    }});
    let headers = [
        (header::RETRY_AFTER, "1"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body.to_string()).into_response()
}

/// Hands the client's address on, in the management API's own form.
pub async fn with_address(mut request: Request) -> Request {
    let from = request.extensions().get::<gateway::http::ClientAddress>();
    if let Some(address) = from.map(|from| arm::ClientAddress(from.0)) {
        request.extensions_mut().insert(address);
    }
    request
}

/// What a region's gateways need.
pub struct Gateways {
    pub region: Arc<Region>,
    pub shown: Arc<Shown>,
    pub tickets: Arc<SharedTickets>,
    pub figures: Arc<metrics::Gateway>,
    pub health: Router,
}

/// Ports as bound.
pub struct OpenedPorts {
    pub https: u16,
    pub mqtt: u16,
    pub plain_mqtt: Option<u16>,
}

impl Gateways {
    /// Opens MQTT and HTTPS for devices and services.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn open(
        self,
        address: IpAddr,
        ports: &Ports,
        servers: &mut JoinSet<()>,
        stopped: &watch::Receiver<bool>,
        notes: &mut Vec<String>,
    ) -> Result<OpenedPorts, String> {
        let mqtt_tls = tls(&self.shown, &self.tickets, &[])?;
        let http_tls = tls(&self.shown, &self.tickets, link::tls::ALPN_HTTP)?;
        let backend = Arc::new(GatewayBackend::new(self.region));
        let opened = ports::open(address, ports, notes).await?;
        let plain = opened.plain_mqtt.map(|plain| (plain, None));
        for (listener, tls) in [(opened.mqtt, Some(mqtt_tls))].into_iter().chain(plain) {
            servers.spawn(gateway::mqtt::serve(
                listener,
                tls,
                backend.clone(),
                self.figures.mqtt.clone(),
                stopped.clone(),
            ));
        }
        let router = gateway::http::router(backend, self.figures.http.clone());
        let router = gateway::http::with_extra(router, self.health);
        servers.spawn(gateway::http::serve(
            opened.https,
            http_tls,
            router,
            stopped.clone(),
        ));
        Ok(OpenedPorts {
            https: opened.https_port,
            mqtt: opened.mqtt_port,
            plain_mqtt: opened.plain_mqtt_port,
        })
    }
}
