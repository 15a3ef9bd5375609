//! Regions on loopback sockets and temporary folders.

use control::model::{Deployment, FailoverPolicy, OperationStatus, Subscription};
use control::{Answer, Command as ControlCommand, Hub, HubState};
use hub::command::SessionCommand;
use hub::{Command, Effect, Reply};
use link::LinkConfig;
use link::pki::{Authority, Purpose};
use region::clock::SystemClock;
use region::{CallError, Region, RegionConfig, Session, SessionPort};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use types::regions::Catalogue;
use types::{ConnectionId, DeviceId, HubName, Policy, RegionName, Rights};

pub struct World {
    folder: Arc<tempfile::TempDir>,
    names: Vec<RegionName>,
    pub regions: Vec<Arc<Region>>,
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

impl World {
    pub async fn start(names: &[&str]) -> Arc<World> {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let names: Vec<RegionName> = names
            .iter()
            .map(|name| RegionName::parse(name).unwrap())
            .collect();
        let world = Self::open(folder, names).await;
        let deployment = Deployment {
            tenant: "t".into(),
            domain: "castling.localhost".into(),
            regions: world.names.clone(),
            policy: FailoverPolicy {
                cooldown_ms: 0,
                per_day: 1000,
                second_approver: false,
            },
            principals: vec![],
            administrator: None,
            limits: Default::default(),
        };
        let subscriptions = vec![Subscription {
            id: "sub".into(),
            display_name: "test".into(),
        }];
        world
            .submit(ControlCommand::Deploy {
                deployment,
                subscriptions,
            })
            .await;
        let location = world.names[0].clone();
        let group = ControlCommand::PutGroup {
            subscription: "sub".into(),
            name: "g".into(),
            location,
            tags: BTreeMap::new(),
        };
        world.submit(group).await;
        world
    }

    async fn open(folder: Arc<tempfile::TempDir>, names: Vec<RegionName>) -> Arc<World> {
        let authority = Authority::load_or_make(
            &folder.path().join("pki"),
            Purpose::Regions,
            SystemTime::now(),
        )
        .unwrap();
        let mut listeners = Vec::new();
        for _ in &names {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let mut regions = Vec::new();
        for (at, link_listener) in listeners.into_iter().enumerate() {
            let me = names[at].clone();
            let peers = names
                .iter()
                .cloned()
                .zip(addresses.iter().map(ToString::to_string))
                .filter(|(name, _)| *name != me)
                .collect();
            let link = LinkConfig {
                me: me.clone(),
                listen: addresses[at],
                peers,
                identity: authority.issue_region(&me, SystemTime::now()).unwrap(),
                roots: Arc::new(authority.roots().unwrap()),
                deployment: "test".into(),
                speaks: region::speaks(),
            };
            let config = RegionConfig {
                nodes: names.clone(),
                witnesses: Vec::new(),
                folder: folder.path().join(me.as_str()),
                me,
                store: store::Options::default(),
                link,
                link_listener,
                catalogue: Arc::new(Catalogue::builtin()),
                clock: Arc::new(SystemClock),
                certificate_days: 300,
                times: region::lease::LeaseTimes::default(),
                control_times: consensus::Times::default(),
                storage_key: None,
            };
            regions.push(Region::start(config).await.unwrap());
        }
        let world = Arc::new(World {
            folder,
            names,
            regions,
        });
        for region in &world.regions {
            region
                .gateway_listening
                .store(true, std::sync::atomic::Ordering::Relaxed);
            world.wait("the region serves", || region.ready()).await;
            world
                .wait("the checks trust its uptime", || region.uptime_ms() > 1000)
                .await;
        }
        world
    }

    pub async fn restart(self: Arc<Self>) -> Arc<World> {
        self.stop().await;
        let (folder, names) = (self.folder.clone(), self.names.clone());
        drop(self);
        Self::open(folder, names).await
    }

    pub async fn stop(&self) {
        for region in &self.regions {
            region.stop().await;
        }
    }

    pub async fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited too long: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn submit(&self, command: ControlCommand) -> Answer {
        let answer = self.regions[0]
            .plane
            .submit("tester", command)
            .await
            .unwrap();
        assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
        answer
    }

    pub async fn create_hub(&self, home: &str) {
        let home = RegionName::parse(home).unwrap();
        let partner = Catalogue::builtin().get(&home).unwrap().paired_with.clone();
        let policy = Policy {
            name: "iothubowner".into(),
            primary_key: "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U=".into(),
            secondary_key: "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U=".into(),
            rights: Rights {
                registry_read: true,
                registry_write: true,
                service_connect: true,
                device_connect: true,
            },
        };
        let spec = control::command::HubSpec {
            subscription: "sub".into(),
            group: "g".into(),
            name: HubName::parse("hub-one").unwrap(),
            location: home,
            partner,
            sku_name: "S1".into(),
            sku_capacity: 1,
            tags: BTreeMap::new(),
            partition_count: None,
            retention_days: None,
            replication: None,
            partner_away: None,
            lag_max_ms: None,
            cloud_to_device: None,
            policies: None,
            default_policies: vec![policy],
            stored_properties: serde_json::Value::Null,
            if_match: None,
        };
        self.submit(ControlCommand::PutHub {
            operation: "create".into(),
            spec: Box::new(spec),
        })
        .await;
        self.wait("the hub is active", || self.hub().state == HubState::Active)
            .await;
        for region in &self.regions {
            self.wait("its route is known", || {
                region.router.by_name("hub-one").is_some()
            })
            .await;
        }
    }

    pub fn hub(&self) -> Hub {
        self.regions[0]
            .plane
            .with(|state| state.hub_named("hub-one").unwrap().clone())
    }

    pub async fn call(
        &self,
        region: usize,
        name: &str,
        command: Command,
    ) -> Result<Reply, CallError> {
        let hub = self.hub();
        let partition = types::partition_of(&device(name), hub.partition_count);
        self.regions[region]
            .router
            .call(
                types::PartitionKey {
                    hub: hub.id,
                    partition,
                },
                command,
            )
            .await
    }

    /// A hub that was just made is followed a moment later; until then the checks refuse.
    async fn wait_until_checks_pass(&self, to: &str) {
        let to = RegionName::parse(to).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let found = region::facts::evaluate(&self.regions[0], &self.hub(), &to, None).await;
            if found.ready {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not ready: {}",
                found.why_not()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a planned failover to its end and gives its report.
    pub async fn failover(&self, to: &str) -> serde_json::Value {
        self.wait_until_checks_pass(to).await;
        let operation = region::random_text(8);
        let command = ControlCommand::StartFailover {
            hub: self.hub().id,
            to: RegionName::parse(to).unwrap(),
            operation: operation.clone(),
            reason: "test".into(),
            excluded: false,
            drill: None,
        };
        self.submit(command).await;
        let status = || {
            self.regions[0]
                .plane
                .with(|state| state.operations[&operation].status)
        };
        self.wait("the failover ends", || status() != OperationStatus::Running)
            .await;
        self.regions[0]
            .plane
            .with(|state| state.operations[&operation].report.clone().unwrap())
    }

    /// Opens a session of a device at a region's gateway.
    pub async fn connect(&self, region: usize, name: &str) -> Effects {
        let identity = self
            .call(
                region,
                name,
                Command::Session(SessionCommand::Identity {
                    device: device(name),
                }),
            )
            .await
            .unwrap();
        let Reply::Identity(identity) = identity else {
            panic!("{identity:?}")
        };
        let here = &self.regions[region];
        let (connection, since) = (ConnectionId(77), here.clock.now());
        let open = SessionCommand::Open {
            device: device(name),
            generation: identity.generation,
            connection,
            gateway: here.me.clone(),
            since,
            clean: false,
        };
        self.call(region, name, Command::Session(open))
            .await
            .unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let hub = self.hub();
        let partition = types::partition_of(&device(name), hub.partition_count);
        let at = types::PartitionKey {
            hub: hub.id,
            partition,
        };
        here.router.session_opened(Session {
            at,
            device: device(name),
            connection,
            since,
            port: Arc::new(Port(sender)),
        });
        Effects(tokio::sync::Mutex::new(receiver))
    }
}

struct Port(mpsc::UnboundedSender<Effect>);

impl SessionPort for Port {
    fn deliver(&self, effect: Effect) {
        let _ = self.0.send(effect);
    }

    fn interests(&self) -> (bool, Option<u64>) {
        (true, Some(1))
    }
}

pub struct Effects(tokio::sync::Mutex<mpsc::UnboundedReceiver<Effect>>);

impl Effects {
    pub async fn recv_one(&self) -> Effect {
        self.0.lock().await.recv().await.unwrap()
    }
}
