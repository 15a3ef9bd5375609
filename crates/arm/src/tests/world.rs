//! A region for tests: the real state machine behind a fake backend, and a client.

use crate::backend::{
    Backend, BoxFuture, By, ControlUnavailable, DeviceFigures, HubFigures, LeaseFigures,
    PartitionLag, Replayed, SalvageError, SalvagePage, Salvages,
};
use crate::tokens::tests::test_key;
use crate::tokens::{Grant, Subject, TokenAuthority};
use crate::{Api, handle};
use axum::body::Body;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode};
use control::checks::{CheckReport, CheckResult, Verdict};
use control::model::{Deployment, FailoverPolicy, Principal, Subscription};
use control::{
    AcceptedLoss, Answer, Command, DirectoryCommand, LossEstimate, Request, State, StepName,
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use types::regions::Catalogue;
use types::{HubId, PartitionId, RegionName, UnixMillis};

pub const SUB: &str = "33333333-3333-3333-3333-333333333333";
pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub const APP: &str = "22222222-2222-2222-2222-222222222222";
pub const SECRET: &str = "local-secret";
pub const HOST: &str = "localhost:8443";
pub const START: i64 = 1_795_403_045_678;
pub const HOUR: i64 = 3_600_000;
pub const HUB: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/RG/providers/Microsoft.Devices/IotHubs/Hub-One";

pub fn region(name: &str) -> RegionName {
    RegionName::parse(name).unwrap()
}

pub struct Fake {
    /// Devices of each bulk that was imported.
    pub imported: Mutex<Vec<Vec<String>>>,
    pub state: Mutex<Arc<State>>,
    pub now: Mutex<i64>,
    /// What the next submit and check give instead of an answer.
    pub broken: Mutex<Option<ControlUnavailable>>,
    pub figures: Mutex<Option<HubFigures>>,
    pub submitted: Mutex<Vec<Command>>,
    /// What a forced check finds lost, and whether the primary is well.
    pub loss: Mutex<Option<LossEstimate>>,
    pub primary_is_well: Mutex<bool>,
    /// So many forced checks find no leader.
    pub leaderless: Mutex<u32>,
    /// Segments with all that is in them, and how many of their events were replayed.
    pub segments: Mutex<Vec<(SalvagePage, u64)>>,
    pub silent: Mutex<Vec<RegionName>>,
    /// What the next use of a segment gives instead.
    pub salvage_error: Mutex<Option<SalvageError>>,
    region: RegionName,
    catalogue: Catalogue,
}

impl Fake {
    pub fn apply(&self, command: Command) -> Answer {
        let now = UnixMillis(*self.now.lock().unwrap());
        let mut state = self.state.lock().unwrap();
        let request = Request {
            now,
            by: "castling:westus2".into(),
            id: String::new(),
            command,
            origin: Default::default(),
        };
        Arc::make_mut(&mut *state).apply(&request)
    }
}

impl Backend for Fake {
    fn region(&self) -> &RegionName {
        &self.region
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(*self.now.lock().unwrap())
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn state(&self) -> Arc<State> {
        self.state.lock().unwrap().clone()
    }

    fn submit(
        &self,
        by: By,
        command: Command,
    ) -> BoxFuture<'_, Result<Answer, ControlUnavailable>> {
        Box::pin(async move {
            self.submitted.lock().unwrap().push(command.clone());
            if let Some(error) = self.broken.lock().unwrap().clone() {
                return Err(error);
            }
            let request = Request {
                now: self.now(),
                by: by.name,
                id: String::new(),
                command,
                origin: by.origin,
            };
            Ok(Arc::make_mut(&mut *self.state.lock().unwrap()).apply(&request))
        })
    }

    fn check(&self, hub: HubId) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>> {
        Box::pin(async move {
            if let Some(error) = self.broken.lock().unwrap().clone() {
                return Err(error);
            }
            let state = self.state();
            let hub = state.hub(hub).unwrap();
            Ok(CheckReport {
                ready: true,
                from: hub.primary.clone(),
                to: hub.secondary().unwrap_or(&hub.primary).clone(),
                at: self.now(),
                results: vec![CheckResult {
                    number: 1,
                    name: "hub-active".into(),
                    verdict: Verdict::Pass,
                    detail: "it is".into(),
                }],
                expected_pause_ms: Some(80),
                expected_loss_records: 0,
                lag_records: Some(0),
                lag_ms: Some(0),
                forced: false,
                loss: None,
                earliest: None,
            })
        })
    }

    fn check_forced(
        &self,
        hub: HubId,
        accept: Option<AcceptedLoss>,
    ) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>> {
        Box::pin(async move {
            if let Some(error) = self.broken.lock().unwrap().clone() {
                return Err(error);
            }
            let state = self.state();
            let hub = state.hub(hub).unwrap();
            let loss = self.loss.lock().unwrap().clone();
            let check = |number, name: &str, verdict, detail: String| CheckResult {
                number,
                name: name.into(),
                verdict,
                detail,
            };
            let well = *self.primary_is_well.lock().unwrap();
            let lost = match well {
                true => check(7, "primary-lost", Verdict::Fail, "it is healthy".into()),
                false => check(7, "primary-lost", Verdict::Pass, "no answer".into()),
            };
            let reachable = match &loss {
                Some(_) => check(8, "secondary-reachable", Verdict::Pass, "it is".into()),
                None => check(8, "secondary-reachable", Verdict::Fail, "no answer".into()),
            };
            let covered = match (&accept, &loss) {
                (Some(accept), Some(loss)) => accept.covers(loss),
                _ => Ok(()),
            };
            let accepted = match covered {
                Ok(()) => check(17, "loss-accepted", Verdict::Pass, "it is".into()),
                Err(why) => check(17, "loss-accepted", Verdict::Fail, why),
            };
            let mut leaderless = self.leaderless.lock().unwrap();
            let leader = match *leaderless {
                0 => check(5, "control-leader", Verdict::Pass, "it has one".into()),
                _ => check(5, "control-leader", Verdict::Fail, "nobody leads".into()),
            };
            *leaderless = leaderless.saturating_sub(1);
            let results = vec![leader, lost, reachable, accepted];
            Ok(CheckReport {
                ready: results.iter().all(|one| one.verdict != Verdict::Fail),
                from: hub.primary.clone(),
                to: hub.secondary().unwrap_or(&hub.primary).clone(),
                at: self.now(),
                results,
                expected_pause_ms: Some(5_100),
                expected_loss_records: loss.as_ref().map_or(0, |loss| loss.records),
                lag_records: None,
                lag_ms: None,
                forced: true,
                loss,
                earliest: None,
            })
        })
    }

    fn salvages(&self, _hub: HubId) -> BoxFuture<'_, Salvages> {
        Box::pin(async move {
            let segments = self.segments.lock().unwrap();
            Salvages {
                found: segments
                    .iter()
                    .map(|(page, _)| page.salvage.clone())
                    .collect(),
                silent: self.silent.lock().unwrap().clone(),
            }
        })
    }

    /// Two changes a page.
    fn salvage(
        &self,
        _hub: HubId,
        id: String,
        from: Option<String>,
    ) -> BoxFuture<'_, Result<SalvagePage, SalvageError>> {
        Box::pin(async move {
            if let Some(error) = self.salvage_error.lock().unwrap().clone() {
                return Err(error);
            }
            let segments = self.segments.lock().unwrap();
            let (whole, _) = segments
                .iter()
                .find(|(page, _)| page.salvage.id == id)
                .ok_or(SalvageError::NotFound)?;
            let from: usize = from.map_or(0, |from| from.parse().unwrap());
            let end = (from + 2).min(whole.changes.len());
            Ok(SalvagePage {
                salvage: whole.salvage.clone(),
                changes: whole.changes[from..end].to_vec(),
                events: if from == 0 {
                    whole.events.clone()
                } else {
                    Vec::new()
                },
                next: (end < whole.changes.len()).then(|| end.to_string()),
            })
        })
    }

    fn replay(&self, _hub: HubId, id: String) -> BoxFuture<'_, Result<Replayed, SalvageError>> {
        Box::pin(async move {
            if let Some(error) = self.salvage_error.lock().unwrap().clone() {
                return Err(error);
            }
            let mut segments = self.segments.lock().unwrap();
            let (page, replayed) = segments
                .iter_mut()
                .find(|(page, _)| page.salvage.id == id)
                .ok_or(SalvageError::NotFound)?;
            let before = std::mem::replace(replayed, page.salvage.events);
            Ok(Replayed {
                appended: page.salvage.events - before,
                skipped: before,
            })
        })
    }

    fn discard(&self, _hub: HubId, id: String) -> BoxFuture<'_, Result<(), SalvageError>> {
        Box::pin(async move {
            if let Some(error) = self.salvage_error.lock().unwrap().clone() {
                return Err(error);
            }
            let mut segments = self.segments.lock().unwrap();
            let before = segments.len();
            segments.retain(|(page, _)| page.salvage.id != id);
            match segments.len() < before {
                true => Ok(()),
                false => Err(SalvageError::NotFound),
            }
        })
    }

    fn devices(
        &self,
        _hub: HubId,
        partition: PartitionId,
        after: Option<types::DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<crate::backend::ExportedDevice>, String>> {
        Box::pin(async move {
            if partition.0 > 1 || after.is_some() {
                return Ok(Vec::new());
            }
            let id = types::DeviceId::parse(&format!("d{}", partition.0 + 1)).unwrap();
            let identity = serde_json::json!({ "deviceId": id, "etag": "e", "status": "enabled",
                "authentication": { "type": "sas", "symmetricKey": { "primaryKey": "k", "secondaryKey": "l" } } });
            let twin = serde_json::json!({ "etag": "t", "tags": { "t": 1 }, "properties": { "desired": {} } });
            Ok(vec![(id, identity, twin)])
        })
    }

    /// Refuses devices named `bad`.
    fn import_devices(
        &self,
        _hub: HubId,
        entries: Vec<crate::backend::DeviceEntry>,
    ) -> BoxFuture<'_, Result<Vec<crate::backend::DeviceError>, String>> {
        Box::pin(async move {
            let names = entries.iter().map(|entry| entry.device.to_string());
            self.imported.lock().unwrap().push(names.collect());
            let bad = entries
                .into_iter()
                .filter(|entry| entry.device.as_str() == "bad");
            Ok(bad
                .map(|entry| crate::backend::DeviceError {
                    device: entry.device,
                    code: "DeviceInvalid".into(),
                    message: "it is bad".into(),
                })
                .collect())
        })
    }

    fn figures(&self, _hub: HubId) -> BoxFuture<'_, Option<HubFigures>> {
        Box::pin(async move { self.figures.lock().unwrap().clone() })
    }
}

/// An answer, read whole.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Checks a refusal: status, code, part of its message, and that no client would wait and repeat it.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, text: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code().as_str()),
            (status, code),
            "{}",
            self.text
        );
        assert!(
            self.message().contains(text),
            "`{text}` in: {}",
            self.message()
        );
        assert_eq!(self.header("retry-after"), None);
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

pub struct World {
    pub fake: Arc<Fake>,
    pub api: Arc<Api>,
}

impl World {
    /// Regions westus2, westcentralus and eastus (manual failover is not offered there, its pair does not run).
    pub fn new() -> World {
        let tokens = TokenAuthority::new();
        let fake = Arc::new(Fake {
            state: Mutex::default(),
            now: Mutex::new(START),
            broken: Mutex::default(),
            figures: Mutex::new(Some(HubFigures {
                devices: Some(DeviceFigures {
                    total: 5,
                    enabled: 4,
                    disabled: 1,
                    connected: 3,
                }),
                partitions: vec![
                    PartitionLag {
                        partition: PartitionId(0),
                        records: 7,
                        ms: 12,
                    },
                    PartitionLag {
                        partition: PartitionId(1),
                        records: 0,
                        ms: 0,
                    },
                ],
                partner_connected: true,
                degraded: false,
                lease: LeaseFigures {
                    held: true,
                    left_ms: 4_700,
                },
            })),
            submitted: Mutex::default(),
            imported: Mutex::default(),
            loss: Mutex::default(),
            primary_is_well: Mutex::new(false),
            leaderless: Mutex::new(0),
            segments: Mutex::default(),
            silent: Mutex::default(),
            salvage_error: Mutex::default(),
            region: region("westus2"),
            catalogue: Catalogue::builtin(),
        });
        let salted =
            ring::digest::digest(&ring::digest::SHA256, format!("salt{SECRET}").as_bytes());
        let answer = fake.apply(Command::Deploy {
            deployment: Deployment {
                tenant: TENANT.into(),
                domain: "hubs.localhost".into(),
                regions: [
                    "westus2",
                    "westcentralus",
                    "eastus",
                    "westus",
                    "polandcentral",
                ]
                .map(region)
                .to_vec(),
                policy: FailoverPolicy::default(),
                principals: vec![Principal {
                    client_id: APP.into(),
                    object_id: "object".into(),
                    secret_sha256: crate::tokens::hex(salted.as_ref()),
                    salt: "salt".into(),
                }],
                administrator: None,
                limits: control::model::DeploymentLimits {
                    private_containers: true,
                    ..Default::default()
                },
            },
            subscriptions: vec![Subscription {
                id: SUB.into(),
                display_name: "One".into(),
            }],
        });
        assert_eq!(answer, Answer::Done);
        let key = DirectoryCommand::AddKey(test_key());
        assert_eq!(fake.apply(Command::Directory(key)), Answer::Done);
        let backend: Arc<dyn Backend> = fake.clone();
        let api = Arc::new(Api {
            backend,
            tokens,
            guard: Default::default(),
        });
        World { fake, api }
    }

    /// With the group `RG` in westus2.
    pub async fn with_group() -> World {
        let world = World::new();
        let path = format!("/subscriptions/{SUB}/resourceGroups/RG");
        world
            .put(&path, r#"{"location":"westus2","tags":{"a":"b"}}"#)
            .await
            .is(201);
        world
    }

    /// With the Active hub `Hub-One` in it.
    pub async fn with_hub() -> World {
        let world = World::with_group().await;
        world.put(HUB, BODY).await.is(201);
        world.finish_running();
        world
    }

    pub fn token(&self) -> String {
        self.token_for("https://localhost:8443/")
    }

    pub fn token_for(&self, audience: &str) -> String {
        let state = self.fake.state();
        let grant = Grant {
            authority: HOST,
            audience,
            tenant: TENANT,
            subject: Subject::Application(&state.directory.applications[APP]),
        };
        self.api
            .tokens
            .issue(&state, &grant, self.fake.now())
            .unwrap()
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: HttpRequest<Body>) -> Reply {
        let response = handle(axum::extract::State(self.api.clone()), request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        assert!(parts.headers.contains_key("x-ms-request-id"));
        assert!(parts.headers.contains_key("x-ms-correlation-request-id"));
        let cached = parts.headers["cache-control"].to_str().unwrap();
        assert!(cached.contains("no-cache"), "{cached}");
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// With a token and, unless the path has a query, an api-version.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let uri = match path.contains('?') {
            true => path.to_owned(),
            false => format!("{path}?api-version=2023-06-30"),
        };
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(uri)
            .header("host", HOST)
            .header("authorization", format!("Bearer {}", self.token()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "", &[]).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Reply {
        self.call("PUT", path, body, &[]).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.call("POST", path, body, &[]).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, "", &[]).await
    }

    /// Follows an address that an answer gave.
    pub async fn follow(&self, address: &str) -> Reply {
        let path = address
            .strip_prefix("https://localhost:8443")
            .expect("an absolute address with the Host header's authority");
        self.get(path).await
    }

    pub fn advance(&self, millis: i64) {
        *self.fake.now.lock().unwrap() += millis;
    }

    /// Ends every running operation that is not a failover; groups after their hubs.
    pub fn finish_running(&self) {
        for _ in 0..3 {
            let state = self.fake.state();
            for op in state
                .running_operations()
                .filter(|op| op.switch().is_none())
            {
                self.fake.apply(Command::Finish {
                    operation: op.id.clone(),
                    report: None,
                    error: None,
                });
            }
        }
    }

    /// The id of the one running operation.
    pub fn running(&self) -> String {
        let state = self.fake.state();
        let ids: Vec<_> = state.running_operations().map(|op| op.id.clone()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        ids[0].clone()
    }

    /// Brings a failover through its steps, up to and with `last`.
    pub fn walk(&self, operation: &str, last: StepName) {
        for step in StepName::PLANNED {
            self.advance(100);
            let operation = operation.to_owned();
            let detail = serde_json::json!({ "seen": step.name() });
            let started = Command::StepStarted {
                operation: operation.clone(),
                step,
            };
            assert!(matches!(self.fake.apply(started), Answer::Operation(_)));
            self.advance(10);
            let ended = match step {
                StepName::Commit => Command::CommitFailover {
                    operation,
                    detail,
                    caught_up: None,
                },
                _ => Command::StepEnded {
                    operation,
                    step,
                    detail,
                },
            };
            assert!(
                !matches!(self.fake.apply(ended), Answer::Refused(_)),
                "{step:?}"
            );
            if step == last {
                return;
            }
        }
    }

    /// A whole failover with a report.
    pub fn complete(&self, operation: &str) {
        self.walk(operation, StepName::Reverse);
        let report = Some(serde_json::json!({ "format": 1, "outcome": "Succeeded" }));
        let finish = Command::Finish {
            operation: operation.into(),
            report,
            error: None,
        };
        assert!(matches!(self.fake.apply(finish), Answer::Operation(_)));
    }
}

/// The body of `az iot hub create` with its defaults.
pub const BODY: &str = r#"{"location":"westus2","sku":{"name":"S1","capacity":1},"tags":{"k":"v"},"properties":{
    "eventHubEndpoints":{"events":{"retentionTimeInDays":1,"partitionCount":4}},
    "storageEndpoints":{"$default":{"sasTtlAsIso8601":"PT1H","connectionString":"","containerName":""}},
    "messagingEndpoints":{"fileNotifications":{"lockDurationAsIso8601":"PT5S","ttlAsIso8601":"PT1H","maxDeliveryCount":10}},
    "enableFileUploadNotifications":false,
    "cloudToDevice":{"maxDeliveryCount":10,"defaultTtlAsIso8601":"PT1H",
        "feedback":{"lockDurationAsIso8601":"PT5S","ttlAsIso8601":"PT1H","maxDeliveryCount":10}}}}"#;
