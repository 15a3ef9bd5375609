//! A witness: a voter of the control plane without hubs, for deployments of two regions.

use crate::clock::Clock;
use crate::membership::{self, Members};
use crate::peer::{self, Call, Cast, Return};
use crate::plane::Plane;
use crate::region::{CallFuture, StartError};
use crate::relay;
use crate::words::Words;
use bytes::Bytes;
use link::{Class, Handler, LinkConfig, Links};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use types::RegionName;

/// Everything a witness needs to start.
pub struct WitnessConfig {
    pub me: RegionName,
    /// All nodes of the deployment; a node's place is its number in the control plane for good.
    pub nodes: Vec<RegionName>,
    pub witnesses: Vec<RegionName>,
    /// This witness's own folder.
    pub folder: PathBuf,
    pub link: LinkConfig,
    pub link_listener: TcpListener,
    pub clock: Arc<dyn Clock>,
    pub times: consensus::Times,
    /// Seals what the control plane stores here.
    pub storage_key: Option<consensus::StorageKey>,
}

/// A running witness.
pub struct Witness {
    pub me: RegionName,
    pub plane: Arc<Plane>,
    pub links: Links,
    founding: JoinHandle<()>,
    started: Instant,
}

impl Witness {
    /// Opens its copy of the control plane and joins the others.
    ///
    /// # Errors
    /// When the folder, the links or consensus cannot be opened.
    pub async fn start(config: WitnessConfig) -> Result<Arc<Witness>, StartError> {
        let me = config.me.clone();
        let say = |what: &str, error: &dyn std::fmt::Display| {
            StartError(format!("witness {me}: {what}: {error}"))
        };
        std::fs::create_dir_all(&config.folder).map_err(|error| say("its folder", &error))?;
        let voice = Arc::new(Voice::default());
        let links = Links::start(config.link, config.link_listener, voice.clone())
            .await
            .map_err(|error| say("links", &error))?;
        let members = Members {
            me: config.me.clone(),
            nodes: config.nodes,
            witnesses: config.witnesses.into_iter().collect(),
            folder: config.folder.join("control"),
            times: config.times,
            storage_key: config.storage_key,
        };
        let plane = membership::join(members, links.clone(), config.clock)
            .await
            .map_err(|error| say("control plane", &error))?;
        let plane = Arc::new(plane);
        voice.attach(plane.clone(), links.clone());
        let founding = tokio::spawn(membership::found(plane.clone(), links.clone(), false));
        Ok(Arc::new(Witness {
            me: config.me,
            plane,
            links,
            founding,
            started: Instant::now(),
        }))
    }

    /// It votes, or follows, in a control plane that has a leader.
    pub fn ready(&self) -> bool {
        let status = self.plane.consensus().status();
        status.leader.is_some() && status.failed.is_none()
    }

    pub fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub async fn stop(&self) {
        self.founding.abort();
        self.plane.consensus().shutdown().await;
        self.links.shutdown().await;
    }
}

/// What a witness answers.
#[derive(Default)]
struct Voice {
    inner: OnceLock<(Arc<Plane>, Links)>,
    words: Words,
}

impl Voice {
    fn attach(&self, plane: Arc<Plane>, links: Links) {
        if self.inner.set((plane, links)).is_err() {
            tracing::error!("a witness was attached twice");
        }
    }
}

impl Handler for Voice {
    fn call(&self, from: RegionName, _class: Class, body: Bytes) -> CallFuture<'_> {
        Box::pin(async move {
            let Some((plane, links)) = self.inner.get() else {
                return starting(&body);
            };
            match body.first() {
                Some(&peer::RAFT) => membership::receive(plane, &body).await,
                Some(&relay::RELAY) => relay::pass_on(links, &body).await,
                _ => peer::encode_return(&answer(plane, &self.words, &from, &body).await),
            }
        })
    }

    /// Regions tell every peer where hubs opened, and what only they have; a witness keeps the latter.
    fn cast(&self, from: RegionName, _class: Class, body: Bytes) {
        match peer::decode::<Cast>(&body) {
            Ok(Cast::Words { words }) => {
                self.words.take(words);
                if let Some((plane, _)) = self.inner.get() {
                    plane.with(|state| self.words.keep(|hub| state.hub(hub).is_some()));
                }
            }
            Ok(_) => {}
            Err(why) => tracing::warn!(%from, %why, "a message was not understood"),
        }
    }

    fn changed(&self, peer: RegionName, up: bool) {
        tracing::info!(%peer, up, "link");
    }
}

fn starting(body: &Bytes) -> Bytes {
    let why = "this witness is starting";
    match body.first() {
        Some(&peer::RAFT) => membership::raft_failed(why),
        _ => peer::encode_return(&Return::Malformed(why.into())),
    }
}

async fn answer(plane: &Plane, words: &Words, from: &RegionName, body: &[u8]) -> Return {
    match peer::decode::<Call>(body) {
        Ok(Call::Submit { request }) => Return::Submitted(plane.submit_here(request).await),
        Ok(Call::Barrier) => Return::Barrier(plane.leaders_barrier().await),
        Ok(Call::Renew { words: told, .. }) => {
            words.take(told);
            Return::Barrier(plane.leaders_barrier().await)
        }
        Ok(Call::Words { hub }) => Return::Words(
            words
                .of_hub(hub)
                .into_iter()
                .map(|(partition, (word, age))| (partition, word, age))
                .collect(),
        ),
        Ok(Call::Standing) => Return::Standing(membership::standing(plane, false)),
        Ok(_) => Return::Malformed("this is a witness: it holds no hubs".into()),
        Err(why) => {
            tracing::warn!(%from, %why, "a call was not understood");
            Return::Malformed(why)
        }
    }
}
