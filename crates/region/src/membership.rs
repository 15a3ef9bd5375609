//! A node's place in the control plane: how it joins, and how the first start of a deployment is told from a lost folder.

use crate::clock::Clock;
use crate::peer::{self, Call, Return, Standing};
use crate::plane::{self, Plane};
use crate::relay;
use bytes::Bytes;
use consensus::{BoxFuture, Consensus, ConsensusError, NodeId, Settings, Times, Transport};
use link::Links;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use types::RegionName;

const RAFT_TIMEOUT: Duration = Duration::from_secs(3);
const STANDING_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who takes part.
pub(crate) struct Members {
    pub me: RegionName,
    /// All nodes of the deployment; a node's place is its number for good.
    pub nodes: Vec<RegionName>,
    /// Those among them that hold no hubs.
    pub witnesses: BTreeSet<RegionName>,
    /// This node's own folder for the control plane.
    pub folder: PathBuf,
    pub times: Times,
    /// Seals what it stores.
    pub storage_key: Option<consensus::StorageKey>,
}

/// Opens this node's copy of the control plane and joins the others.
pub(crate) async fn join(
    members: Members,
    links: Links,
    clock: Arc<dyn Clock>,
) -> Result<Plane, ConsensusError> {
    let (machine, state, changed) = plane::machine();
    let place = members.nodes.iter().position(|node| *node == members.me);
    let me = place
        .ok_or_else(|| ConsensusError::Settings(format!("{} is not among the nodes", members.me)))?
        as NodeId
        + 1;
    let all: Vec<NodeId> = (1..=members.nodes.len() as NodeId).collect();
    let settings = Settings {
        restore_votes: true,
        storage_key: members.storage_key,
        ..Settings::with_times(me, &all, members.folder, members.times)
    };
    let transport = Arc::new(RaftTransport {
        links: links.clone(),
        nodes: members.nodes.clone(),
    });
    let consensus = Consensus::start(settings, transport, Box::new(machine)).await?;
    let plane = Plane::new(
        members.me,
        members.nodes,
        consensus,
        links,
        clock,
        state,
        changed,
    );
    Ok(plane.with_witnesses(members.witnesses))
}

/// What this node is found with, for the node that wants to found the control plane.
pub(crate) fn standing(plane: &Plane, data: bool) -> Standing {
    Standing {
        member: !plane.consensus().is_empty(),
        data,
    }
}

/// Until this node takes part: says what it waits for. The first node founds the control plane once every other one has said
/// that it too is new: a node that lost its folder can never found a second one.
pub(crate) async fn found(plane: Arc<Plane>, links: Links, data: bool) {
    while plane.consensus().is_empty() {
        let why = look(&plane, &links, data).await;
        plane.wait_for(why);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    plane.wait_for(None);
}

/// Founds, or says why not yet.
async fn look(plane: &Plane, links: &Links, data: bool) -> Option<String> {
    let nodes = plane.nodes();
    let me = plane.me();
    if nodes.first() != Some(me) {
        return Some(match nodes.iter().find(|node| links.up(node) && *node != me) {
            Some(_) => "this node's copy of the control plane is empty: waiting for its leader to send it".into(),
            None => format!("no link to another node: {}", why_down(links)),
        });
    }
    for node in nodes.iter().filter(|node| *node != me) {
        match ask(links, node).await {
            Ok(Standing { member: true, .. }) => {
                return Some(format!(
                    "this node's copy of the control plane is empty, but {node} has one: waiting for its leader to send it"
                ));
            }
            Ok(Standing { data: true, .. }) => return Some(lost(node)),
            Ok(_) => {}
            Err(why) => {
                return Some(format!(
                    "the first start needs every node once, and {node} does not answer: {why}"
                ));
            }
        }
    }
    if data {
        return Some(lost(me));
    }
    match plane.consensus().bootstrap().await {
        Ok(()) => {
            tracing::info!(node = %me, "the control plane is founded");
            None
        }
        Err(error) => Some(format!("founding the control plane: {error}")),
    }
}

fn lost(node: &RegionName) -> String {
    format!(
        "no node has a copy of the control plane, but {node} holds data of hubs: restore the `control` folder of one node from a back-up"
    )
}

fn why_down(links: &Links) -> String {
    let down = links.peers().into_iter().filter_map(|peer| {
        let why = peer.why_down?;
        Some(format!("{}: {why}", peer.name))
    });
    down.collect::<Vec<_>>().join("; ")
}

async fn ask(links: &Links, node: &RegionName) -> Result<Standing, String> {
    let body = peer::encode(peer::CALL, &Call::Standing);
    let answer = links
        .call(node, link::Class::Control, body, STANDING_TIMEOUT)
        .await
        .map_err(|error| error.to_string())?;
    match peer::decode::<Return>(&answer)? {
        Return::Standing(standing) => Ok(standing),
        Return::Malformed(why) => Err(why),
        other => Err(format!("unexpected answer {other:?}")),
    }
}

struct RaftTransport {
    links: Links,
    nodes: Vec<RegionName>,
}

impl RaftTransport {
    fn node(&self, number: NodeId) -> Option<&RegionName> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        self.nodes.get(place)
    }
}

impl Transport for RaftTransport {
    fn call(&self, to: NodeId, body: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let node = self
                .node(to)
                .ok_or_else(|| format!("no node has number {to}"))?;
            let framed = [&[peer::RAFT], &body[..]].concat().into();
            let answer = relay::call(&self.links, node, framed, RAFT_TIMEOUT)
                .await
                .map_err(|error| error.to_string())?;
            match answer.first() {
                Some(&RAFT_OK) => Ok(answer.slice(1..)),
                _ => Err(String::from_utf8_lossy(answer.get(1..).unwrap_or_default()).into_owned()),
            }
        })
    }

    fn reachable(&self, to: NodeId) -> bool {
        self.node(to).is_some_and(|node| self.links.up(node))
    }
}

const RAFT_OK: u8 = 0;
const RAFT_FAILED: u8 = 1;

/// Gives a consensus message to this node's member.
pub(crate) async fn receive(plane: &Plane, body: &Bytes) -> Bytes {
    match plane.consensus().receive(body.slice(1..)).await {
        Ok(answer) => [&[RAFT_OK], &answer[..]].concat().into(),
        Err(why) => raft_failed(&why),
    }
}

pub(crate) fn raft_failed(why: &str) -> Bytes {
    [&[RAFT_FAILED], why.as_bytes()].concat().into()
}
