//! `castling events …`.
//!
//! One thread reads each partition; this one prints, and stores what was printed. So a position is never ahead of the output,
//! and stopping needs to wait for nobody.

use super::Context;
use super::failure::Failure;
use super::http::{Answer, Trouble};
use super::json::{at, items, text};
use super::out::written;
use super::service::{Service, nothing_was_done, refusal};
use super::stop;
use clap::Subcommand;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use ureq::http::Method;

const PAGE_EVENTS: usize = 500;
/// Pages read ahead of the printing, over all partitions.
const PAGES_AHEAD: usize = 8;
const WAIT_MS: u64 = 10_000;
const RETRY: Duration = Duration::from_millis(250);
const STORE_EVERY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub enum Events {
    /// Print events as they come, one JSON object a line
    #[command(after_help = "Examples:
  castling events tail my-hub                                   what comes from now on
  castling events tail my-hub --from earliest --until-idle 2    all there is, then end
  castling events tail my-hub --consumer-group reports | jq .body
  castling events tail my-hub --from 2026-11-23T03:20:00Z --partition 0

It goes on across failovers and restarts by itself. After a forced failover that lost events already printed, it says where it goes on
(on standard error), and the sequence numbers after that are used again. With --consumer-group, its position is stored after printing (every second at most): started again, it goes on where it stopped; after a crash the last second may be printed again.

`body` is a text; when `bodyEncoding` is base64, the bytes were no text.")]
    Tail(Tail),
}

#[derive(clap::Args)]
pub struct Tail {
    hub: String,
    /// Go on at this group's stored position, and store it
    #[arg(long, short = 'g', value_name = "NAME")]
    consumer_group: Option<String>,
    /// Where to begin: earliest, latest, a sequence number, or an ISO 8601 time; with a consumer group only where it has no
    /// position yet [default: latest; with a consumer group: earliest]
    #[arg(long, value_parser = from)]
    from: Option<String>,
    /// End when nothing came for so long
    #[arg(long, value_name = "SECONDS")]
    until_idle: Option<u32>,
    /// Read this partition only
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
}

/// What a reader tells.
enum Told {
    Page {
        partition: u16,
        page: Value,
    },
    /// The hub does not answer for the moment; the reader tries again.
    Trouble {
        partition: u16,
        why: String,
    },
    /// The reader cannot go on.
    End(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    next: u64,
    epoch: u64,
}

pub fn run(command: &Events, context: &Context) -> Result<(), Failure> {
    let Events::Tail(tail) = command;
    let stopped = stop::flag()?;
    let service = Service::open(&context.network, &tail.hub)?;
    let ends = partition_ends(&service, tail.partition)?;
    let starts = starts(&service, tail, &ends)?;
    let wait_ms = tail.until_idle.map_or(WAIT_MS, |seconds| {
        (u64::from(seconds) * 500).clamp(100, WAIT_MS)
    });
    let mut printer = Printer::new(&service, tail, ends.keys().copied());
    std::thread::scope(|scope| {
        let (sender, told) = sync_channel(PAGES_AHEAD);
        for (partition, start) in starts {
            let (sender, service) = (sender.clone(), &service);
            scope.spawn(move || read(service, partition, start, wait_ms, &sender));
        }
        drop(sender);
        let ended = printer.run(&told, || stopped.load(Ordering::Relaxed));
        let stored = printer.store();
        // The readers may be waiting for events that never come: the process ends without them.
        super::end(ended.and(stored))
    })
}

/// Where a reading begins, and the epoch in which that was read, if it is known: after a forced failover the hub needs it to
/// put a reader back that had read too far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    from: String,
    epoch: Option<u64>,
}

impl From<Position> for Start {
    fn from(position: Position) -> Start {
        Start {
            from: position.next.to_string(),
            epoch: Some(position.epoch),
        }
    }
}

/// Partitions to read, each with the position that its next event will have.
fn partition_ends(
    service: &Service<'_>,
    only: Option<u16>,
) -> Result<BTreeMap<u16, Position>, Failure> {
    let known = service
        .call(Method::GET, "/messages/events/partitions", &[], None)?
        .json()?;
    let end = |partition: &Value| {
        Some((
            at(partition, "partition")?.as_u64()?.try_into().ok()?,
            Position {
                next: at(partition, "nextSequenceNumber")?.as_u64()?,
                epoch: at(partition, "epoch")?.as_u64()?,
            },
        ))
    };
    let mut ends: BTreeMap<u16, Position> = items(&known, "").iter().filter_map(end).collect();
    let count = ends.len();
    ends.retain(|partition, _| only.is_none_or(|only| only == *partition));
    if ends.is_empty() {
        return Err(Failure::Usage(format!(
            "--partition {}: the hub has partitions 0 to {}",
            only.unwrap_or_default(),
            count.saturating_sub(1)
        )));
    }
    Ok(ends)
}

/// Where each partition's reading begins.
fn starts(
    service: &Service<'_>,
    tail: &Tail,
    ends: &BTreeMap<u16, Position>,
) -> Result<Vec<(u16, Start)>, Failure> {
    let otherwise = tail
        .from
        .as_deref()
        .unwrap_or(if tail.consumer_group.is_some() {
            "earliest"
        } else {
            "latest"
        });
    let mut starts = Vec::new();
    for (&partition, end) in ends {
        let stored = match &tail.consumer_group {
            Some(group) => {
                let path = offset_path(group, partition);
                position(&service.call(Method::GET, &path, &[], None)?.json()?)
            }
            None => None,
        };
        // "latest" means now, also when the first read must be tried again later.
        let otherwise = match otherwise.eq_ignore_ascii_case("latest") {
            true => Start::from(*end),
            false => Start {
                from: otherwise.to_owned(),
                epoch: None,
            },
        };
        starts.push((partition, stored.map_or(otherwise, Start::from)));
    }
    Ok(starts)
}

/// The position that a page or a stored offset names.
fn position(document: &Value) -> Option<Position> {
    Some(Position {
        next: at(document, "next")?.as_u64()?,
        epoch: at(document, "epoch")?.as_u64()?,
    })
}

fn offset_path(group: &str, partition: u16) -> String {
    format!(
        "/messages/events/consumerGroups/{}/partitions/{partition}/offset",
        wire::percent::encode(group)
    )
}

/// Reads one partition until nobody listens or it cannot go on.
fn read(
    service: &Service<'_>,
    partition: u16,
    start: Start,
    wait_ms: u64,
    sender: &SyncSender<Told>,
) {
    let mut from = start;
    loop {
        let path = page_path(partition, &from, wait_ms);
        let told = match next_page(service, &path) {
            Ok(page) => {
                match position(&page) {
                    Some(next) => from = next.into(),
                    None => {
                        return drop(sender.send(Told::End(Failure::Failed(
                            "a page of events without its next position".into(),
                        ))));
                    }
                }
                Told::Page { partition, page }
            }
            Err(Ok(why)) => Told::Trouble { partition, why },
            Err(Err(failure)) => Told::End(failure),
        };
        let pause = matches!(told, Told::Trouble { .. });
        let end = matches!(told, Told::End(_));
        if sender.send(told).is_err() || end {
            return;
        }
        if pause {
            std::thread::sleep(RETRY);
        }
    }
}

fn page_path(partition: u16, start: &Start, wait_ms: u64) -> String {
    let from = wire::percent::encode(&start.from);
    let epoch = start
        .epoch
        .map_or_else(String::new, |epoch| format!("&epoch={epoch}"));
    format!(
        "/messages/events/partitions/{partition}?from={from}{epoch}&max={PAGE_EVENTS}&wait={wait_ms}"
    )
}

/// A page; else why to try again (`Ok`) or why not (`Err`).
fn next_page(service: &Service<'_>, path: &str) -> Result<Value, Result<String, Failure>> {
    match service.ask(&Method::GET, path, &[], None) {
        Ok(answer) if answer.is_success() => answer.json().map_err(Err),
        // A server that made a mistake, or ends, made no promise: what is read is read again.
        Ok(answer) if nothing_was_done(&answer) || answer.status >= 500 => {
            Err(Ok(format!("the hub answers {}", answer.status)))
        }
        Ok(answer) => Err(Err(refusal(&answer))),
        Err(Trouble::Unreachable(why) | Trouble::Interrupted(why)) => Err(Ok(why)),
    }
}

/// Prints pages and keeps the positions behind what was printed.
struct Printer<'a> {
    service: &'a Service<'a>,
    group: Option<&'a str>,
    idle: Option<Duration>,
    printed: BTreeMap<u16, Position>,
    stored: BTreeMap<u16, Position>,
    /// Partitions whose last word was "nothing more".
    at_end: BTreeMap<u16, bool>,
    last_event: Instant,
    last_store: Instant,
    troubled: bool,
}

impl<'a> Printer<'a> {
    fn new(
        service: &'a Service<'a>,
        tail: &'a Tail,
        partitions: impl Iterator<Item = u16>,
    ) -> Self {
        Printer {
            service,
            group: tail.consumer_group.as_deref(),
            idle: tail
                .until_idle
                .map(|seconds| Duration::from_secs(seconds.into())),
            printed: BTreeMap::new(),
            stored: BTreeMap::new(),
            at_end: partitions.map(|partition| (partition, false)).collect(),
            last_event: Instant::now(),
            last_store: Instant::now(),
            troubled: false,
        }
    }

    fn run(&mut self, told: &Receiver<Told>, stopped: impl Fn() -> bool) -> Result<(), Failure> {
        while !stopped() && !self.is_idle() {
            match told.recv_timeout(TICK) {
                Ok(Told::Page { partition, page }) => self.print(partition, &page)?,
                Ok(Told::Trouble { partition, why }) => self.trouble(partition, &why),
                Ok(Told::End(failure)) => return Err(failure),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Failed("the readers ended".into()));
                }
            }
            if self.last_store.elapsed() >= STORE_EVERY {
                // A hub that fails over now stores it the next time.
                self.store_where_possible()?;
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.idle.is_some_and(|idle| {
            self.last_event.elapsed() >= idle && self.at_end.values().all(|end| *end)
        })
    }

    fn print(&mut self, partition: u16, page: &Value) -> Result<(), Failure> {
        let events = items(page, "events");
        self.at_end.insert(partition, events.is_empty());
        if self.troubled {
            self.troubled = false;
            eprintln!("the hub answers again");
        }
        if !events.is_empty() {
            self.last_event = Instant::now();
        }
        if let Some(line) = rewound(partition, page) {
            eprintln!("{}", super::out::printable(&line));
        }
        let mut lines = BufWriter::new(std::io::stdout().lock());
        for event in events {
            written(writeln!(lines, "{event}"))?;
        }
        written(lines.flush())?;
        if let Some(next) = position(page) {
            self.printed.insert(partition, next);
        }
        Ok(())
    }

    fn trouble(&mut self, partition: u16, why: &str) {
        self.at_end.insert(partition, false);
        if !self.troubled {
            self.troubled = true;
            eprintln!("waiting for the hub: {}", super::out::printable(why));
        }
    }

    fn unstored(&self) -> Vec<(u16, Position)> {
        let differs = |(partition, position): &(&u16, &Position)| {
            self.stored.get(partition) != Some(position)
        };
        self.printed
            .iter()
            .filter(differs)
            .map(|(partition, position)| (*partition, *position))
            .collect()
    }

    /// Stores every position, and waits for the hub if it must.
    fn store(&mut self) -> Result<(), Failure> {
        let Some(group) = self.group else {
            return Ok(());
        };
        for (partition, position) in self.unstored() {
            let (path, body) = (offset_path(group, partition), offset_body(position));
            let answer = self.service.call_any(
                Method::PUT,
                &path,
                &[("content-type", "application/json".to_owned())],
                Some(&body),
            )?;
            match answer.is_success() {
                true => drop(self.stored.insert(partition, position)),
                false if is_diverged(&answer) => eprintln!(
                    "partition {partition}: the position {} is not stored: a forced failover lost what was read there",
                    position.next
                ),
                false => return Err(refusal(&answer)),
            }
        }
        Ok(())
    }

    fn store_where_possible(&mut self) -> Result<(), Failure> {
        self.last_store = Instant::now();
        let Some(group) = self.group else {
            return Ok(());
        };
        for (partition, position) in self.unstored() {
            let (path, body) = (offset_path(group, partition), offset_body(position));
            match self.service.ask(
                &Method::PUT,
                &path,
                &[("content-type", "application/json".to_owned())],
                Some(&body),
            ) {
                Ok(answer) if answer.is_success() => drop(self.stored.insert(partition, position)),
                Ok(answer) if nothing_was_done(&answer) || answer.status >= 500 => return Ok(()),
                // The reader is put back with its next page, and that position is stored then.
                Ok(answer) if is_diverged(&answer) => {}
                Ok(answer) => return Err(refusal(&answer)),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// What a page says of a reader that had read past the point where a forced failover left its partition.
fn rewound(partition: u16, page: &Value) -> Option<String> {
    let back = at(page, "rewound").filter(|back| back.is_object())?;
    Some(format!(
        "partition {partition}: put back from {} to {}: a forced failover began epoch {} there, and what was read beyond is lost or salvaged",
        text(back, "from"),
        text(back, "to"),
        text(back, "epoch")
    ))
}

/// The position lies in what a forced failover lost.
fn is_diverged(answer: &Answer) -> bool {
    answer.header("iothub-errorcode") == Some("ConsumerOffsetDiverged")
}

fn offset_body(position: Position) -> Vec<u8> {
    json!({ "next": position.next, "epoch": position.epoch })
        .to_string()
        .into_bytes()
}

fn from(text: &str) -> Result<String, String> {
    let word = text.eq_ignore_ascii_case("earliest") || text.eq_ignore_ascii_case("latest");
    if word || text.parse::<u64>().is_ok() || wire::timestamp::parse_iso(text).is_some() {
        return Ok(text.to_owned());
    }
    Err(
        "it must be earliest, latest, a sequence number, or a time such as 2026-11-23T03:20:00Z"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_words_numbers_or_times() {
        for good in ["earliest", "LATEST", "0", "17", "2026-11-23T03:20:00Z"] {
            assert_eq!(from(good).as_deref(), Ok(good));
        }
        for bad in ["", "-1", "yesterday", "2026-13-01", "1.5"] {
            assert!(from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_are_encoded_in_paths() {
        assert_eq!(
            offset_path("$Default", 3),
            "/messages/events/consumerGroups/%24Default/partitions/3/offset"
        );
    }

    #[test]
    fn a_reader_goes_on_in_the_epoch_in_which_it_read() {
        let next = position(&json!({"next": 7, "epoch": 2, "events": []})).unwrap();
        assert_eq!(
            page_path(3, &next.into(), 100),
            "/messages/events/partitions/3?from=7&epoch=2&max=500&wait=100"
        );
        let word = Start {
            from: "2026-11-23T03:20:00Z".into(),
            epoch: None,
        };
        assert_eq!(
            page_path(0, &word, 1),
            "/messages/events/partitions/0?from=2026-11-23T03%3A20%3A00Z&max=500&wait=1"
        );
        assert_eq!(position(&json!({"next": null})), None);
    }

    #[test]
    fn a_reader_that_is_put_back_is_told_so() {
        let page =
            json!({"events": [], "next": 90, "rewound": {"from": 120, "to": 90, "epoch": 3}});
        let line = rewound(2, &page).unwrap();
        assert!(
            line.starts_with(
                "partition 2: put back from 120 to 90: a forced failover began epoch 3"
            ),
            "{line}"
        );
        assert_eq!(rewound(2, &json!({"rewound": null})), None);
        assert_eq!(rewound(2, &json!({})), None);
    }

    #[test]
    fn a_position_is_told_with_its_epoch() {
        assert_eq!(
            offset_body(Position { next: 5, epoch: 2 }),
            br#"{"next":5,"epoch":2}"#
        );
    }
}
