//! Gathering what regions tell of themselves, for checks and reports.

use crate::engine::{self, SourceWord};
use crate::peer::{self, Call, Facts, Return};
use crate::region::Region;
use control::Hub;
use control::checks::{
    CheckReport, ForcedQuestion, evaluate as evaluate_checks,
    evaluate_forced as evaluate_forced_checks,
};
use control::facts::{ControlFacts, PartitionFacts, RegionFacts, Role};
use control::loss::{AcceptedLoss, Words, latest};
use hub::command::RegistryCommand;
use hub::{Command, Reply};
use link::Class;
use std::time::Duration;
use types::{HubId, PartitionId, PartitionKey, RegionName};

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// A forced failover expects that the primary does not answer.
const FORCED_CHECK_TIMEOUT: Duration = Duration::from_millis(600);

/// Asks a region (also this one) for its facts; `None`: no answer in time.
pub async fn ask(region: &Region, of: &RegionName, hub: HubId, timeout: Duration) -> Option<Facts> {
    if *of == region.me {
        return Some(region.facts(hub).await);
    }
    let body = peer::encode(peer::CALL, &Call::Facts { hub });
    let bytes = region
        .links
        .call(of, Class::Control, body, timeout)
        .await
        .ok()?;
    match peer::decode::<Return>(&bytes) {
        Ok(Return::Facts(facts)) => Some(*facts),
        _ => None,
    }
}

/// The checks of a failover to `to`; `operation`: the one whose first step asks, `None` in a dry run.
pub async fn evaluate(
    region: &Region,
    hub: &Hub,
    to: &RegionName,
    operation: Option<&str>,
) -> CheckReport {
    let told = Told::of_both(region, hub, to, CHECK_TIMEOUT).await;
    let control = control_facts(region, operation);
    let excluded = region
        .catalogue
        .get(&hub.home)
        .is_some_and(|home| !home.manual_failover);
    region.plane.with(|state| {
        evaluate_checks(
            state,
            hub,
            to,
            excluded,
            told.primary.as_ref(),
            told.secondary.as_ref(),
            &control,
            told.at,
        )
    })
}

/// The checks of a forced failover to `to`, with what it would lose. `accept`: what its operator accepts, if that was said.
pub async fn evaluate_forced(
    region: &Region,
    hub: &Hub,
    to: &RegionName,
    operation: Option<&str>,
    accept: Option<&AcceptedLoss>,
) -> CheckReport {
    let told = Told::of_both(region, hub, to, FORCED_CHECK_TIMEOUT).await;
    let control = control_facts(region, operation);
    let words = heard_words(region, hub.id).await;
    region.plane.with(|state| {
        evaluate_forced_checks(&ForcedQuestion {
            state,
            hub,
            to,
            primary: told.primary.as_ref(),
            secondary: told.secondary.as_ref(),
            words: &words,
            accept,
            control: &control,
            now: told.at,
        })
    })
}

/// The latest words on the hub that any node heard.
async fn heard_words(region: &Region, hub: HubId) -> Words {
    let body = peer::encode(peer::CALL, &Call::Words { hub });
    let peers = region.links.peers().into_iter().filter(|peer| peer.up);
    let asked = peers.map(|peer| {
        let body = body.clone();
        async move {
            let answer = region
                .links
                .call(&peer.name, Class::Control, body, FORCED_CHECK_TIMEOUT)
                .await;
            match answer.map(|bytes| peer::decode::<Return>(&bytes)) {
                Ok(Ok(Return::Words(words))) => words,
                _ => Vec::new(),
            }
        }
    });
    let mut heard = futures_util::future::join_all(asked).await;
    heard.push(region.words_heard(hub));
    let of_node = |words: Vec<(PartitionId, SourceWord, i64)>| -> Words {
        let words = words.iter();
        words
            .map(|(partition, word, age)| (*partition, (of_word(word), *age)))
            .collect()
    };
    latest(heard.into_iter().map(of_node))
}

/// What both regions of a hub told, at one moment.
struct Told {
    primary: Option<RegionFacts>,
    secondary: Option<RegionFacts>,
    at: types::UnixMillis,
}

impl Told {
    async fn of_both(region: &Region, hub: &Hub, to: &RegionName, within: Duration) -> Told {
        let asked = region.clock.now();
        let other = if *to == hub.primary {
            hub.secondary().unwrap_or(to)
        } else {
            to
        };
        let (primary, secondary) = tokio::join!(
            ask(region, &hub.primary, hub.id, within),
            ask(region, other, hub.id, within),
        );
        let at = region.clock.now();
        // A far clock is compared with the middle of the round trip.
        let middle = asked.plus(at.since(asked) / 2);
        Told {
            primary: primary.and_then(|facts| of_region(&facts, other, middle)),
            secondary: secondary.and_then(|facts| of_region(&facts, &hub.primary, middle)),
            at,
        }
    }
}

fn control_facts(region: &Region, operation: Option<&str>) -> ControlFacts {
    let status = region.plane.consensus().status();
    let links = region.links.peers();
    let voters_up = 1 + links.iter().filter(|peer| peer.up).count();
    ControlFacts {
        leader: region.plane.leader().map(|leader| leader.to_string()),
        voters: status.voters.len() as u32,
        voters_up: voters_up.min(status.voters.len()) as u32,
        applied: status.last_applied,
        operation: operation.map(str::to_owned),
    }
}

fn of_region(facts: &Facts, other: &RegionName, middle: types::UnixMillis) -> Option<RegionFacts> {
    let link = facts.links.iter().find(|(name, ..)| name == other.as_str());
    Some(RegionFacts {
        region: RegionName::parse(&facts.region).ok()?,
        version: facts.version.clone(),
        log_format: 1,
        uptime_ms: facts.uptime_ms as i64,
        roles_known: facts.roles_trusted,
        lease_held: facts.lease_left_ms > 0,
        lease_left_ms: facts.lease_left_ms,
        control_applied: facts.control_applied,
        store_healthy: facts.store_trouble.is_none(),
        store_detail: facts.store_trouble.clone().unwrap_or_default(),
        disk_free_bytes: facts.disk_free,
        fsync_ms: (facts.turn_micros_max / 1000) as u32,
        engine_queue: facts.queue_depth as usize,
        gateway_listening: facts.gateway_listening,
        sessions: facts.sessions,
        link_up: link.is_some_and(|(_, up, _)| *up),
        link_rtt_us: link.and_then(|(_, _, rtt)| rtt.map(|ms| (ms * 1000.0) as u64)),
        certificate_days: facts.certificate_days,
        clock_offset_ms: facts.now.since(middle),
        partitions: facts.partitions.iter().map(of_partition).collect(),
    })
}

fn of_partition(facts: &engine::PartitionFacts) -> PartitionFacts {
    PartitionFacts {
        partition: PartitionId(facts.partition.0),
        role: if facts.primary {
            Role::Primary
        } else {
            Role::Secondary
        },
        epoch: facts.epoch,
        lsn: facts.lsn,
        digest: Some(facts.state.clone()),
        follower_lsn: facts.follower_connected.then_some(facts.confirmed),
        lag_records: facts.lag_records,
        lag_ms: facts.lag_ms,
        fenced: facts.fenced,
        corrupt: facts.broken.clone(),
        time: facts.time,
        word: facts
            .word
            .as_ref()
            .map(|(word, age_ms)| (of_word(word), *age_ms)),
        tail: facts.primary.then(|| of_tail(&facts.tail)),
        returning: facts.returning.clone(),
    }
}

/// A primary's word, for the control plane.
pub fn of_word(word: &engine::SourceWord) -> control::facts::Word {
    control::facts::Word {
        epoch: word.epoch,
        lsn: word.lsn,
        next_sequence: word.next_sequence,
        time: word.time,
        tail: of_tail(&word.tail),
    }
}

fn of_tail(tail: &engine::Tail) -> control::facts::Tail {
    control::facts::Tail {
        after: tail.after,
        records: tail.records,
        bytes: tail.bytes,
        oldest: tail.oldest,
        devices: tail.devices,
        devices_cut: tail.devices_cut,
        kinds: tail.kinds.clone(),
    }
}

/// Devices registered in a hub, from its primary; `None`: no answer.
pub async fn devices(region: &Region, hub: &Hub) -> Option<u64> {
    Some(statistics(region, hub).await?.total)
}

/// Device counts of a hub over all its partitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceCounts {
    pub total: u64,
    pub enabled: u64,
    pub disabled: u64,
    pub connected: u64,
}

pub async fn statistics(region: &Region, hub: &Hub) -> Option<DeviceCounts> {
    let asked = (0..hub.partition_count).map(|number| {
        let at = PartitionKey {
            hub: hub.id,
            partition: PartitionId(number),
        };
        region
            .router
            .call(at, Command::Registry(RegistryCommand::Statistics))
    });
    let mut sum = DeviceCounts::default();
    for answer in futures_util::future::join_all(asked).await {
        let Ok(Reply::Statistics {
            total,
            enabled,
            disabled,
            connected,
        }) = answer
        else {
            return None;
        };
        sum.total += total;
        sum.enabled += enabled;
        sum.disabled += disabled;
        sum.connected += connected;
    }
    Some(sum)
}
