//! `castling hub salvage …`: what a returned region had and the hub had not.

use super::Context;
use super::confirm;
use super::failure::Failure;
use super::json::{at, items, number, text};
use super::management::{HubResource, Management};
use super::out::{Cell, Out, Paint};
use clap::Subcommand;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use ureq::http::Method;

/// Pages of one segment that `show` reads.
const PAGES_MAX: usize = 100;
/// Characters of a value in the table; JSON has all of it.
const VALUE_CHARS_MAX: usize = 60;

#[derive(Subcommand)]
pub enum Salvage {
    /// List what the hub's regions keep aside since a forced failover
    List { hub: String },
    /// Show a segment: what was lost, and what is there now instead
    #[command(
        after_help = "Examples:\n  castling hub salvage show my-hub h1-p0-e1-120\n  castling hub salvage show my-hub h1-p0-e1-120 --output json | jq '.changes[] | select(.conflict)'"
    )]
    Show {
        hub: String,
        /// From the list
        id: String,
    },
    /// Append a segment's telemetry to the hub, as late events; repeating it appends nothing twice
    #[command(after_help = "Examples:
  castling hub salvage replay my-hub h1-p0-e1-120
  castling hub salvage replay my-hub --all

Replayed events carry the properties castling-salvaged (where they come from) and castling-enqueued-time (when the hub took them first). Twins, devices and queued messages are not replayed: `show` puts what was lost beside what is there.")]
    Replay {
        hub: String,
        /// From the list
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Every segment of the hub
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Make sure of the hub: its name again
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Delete a segment for good
    Discard {
        hub: String,
        /// From the list
        id: String,
        /// Confirm without a question: the segment's id again
        #[arg(long, value_name = "ID")]
        yes: Option<String>,
    },
}

pub fn run(command: &Salvage, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let open = |name: &str| {
        Ok::<_, Failure>(Keeper {
            management: &management,
            hub: management.hub(name)?,
            context,
        })
    };
    match command {
        Salvage::List { hub } => open(hub)?.list(),
        Salvage::Show { hub, id } => open(hub)?.show(id),
        Salvage::Replay { hub, id, yes, .. } => {
            let keeper = open(hub)?;
            if yes.is_some() {
                confirm::confirm(&keeper.hub.name, yes.as_deref(), "")?;
            }
            keeper.replay(id.as_deref())
        }
        Salvage::Discard { hub, id, yes } => open(hub)?.discard(id, yes.as_deref()),
    }
}

struct Keeper<'a> {
    management: &'a Management<'a>,
    hub: HubResource,
    context: &'a Context,
}

impl Keeper<'_> {
    fn path(&self) -> String {
        format!("{}/providers/Castling.Failover/salvage", self.hub.path)
    }

    fn path_of(&self, id: &str) -> String {
        format!("{}/{}", self.path(), wire::percent::encode(short_name(id)))
    }

    fn all(&self) -> Result<(Vec<Value>, Value), Failure> {
        let answer = self.management.get(&self.path())?;
        let found = items(&answer, "value").iter().map(flat).collect();
        Ok((found, at(&answer, "silent").cloned().unwrap_or_default()))
    }

    fn list(&self) -> Result<(), Failure> {
        let (found, silent) = self.all()?;
        let document = json!({ "value": found, "silent": silent });
        self.context.out.show(&document, |out| {
            if found.is_empty() && items(&silent, "").is_empty() {
                return out.line("Nothing is kept aside.");
            }
            out.table(&HEADINGS, &found.iter().map(row).collect::<Vec<_>>())?;
            for region in items(&silent, "") {
                let line = format!("{} does not answer: it may keep more.", text(region, ""));
                out.line(out.paint(Paint::Warning, &line))?;
            }
            Ok(())
        })
    }

    fn show(&self, id: &str) -> Result<(), Failure> {
        let document = self.read(id)?;
        self.context
            .out
            .show(&document, |out| view(&document, &self.hub.name, out))
    }

    /// All pages as one document.
    fn read(&self, id: &str) -> Result<Value, Failure> {
        let path = self.path_of(id);
        let (mut changes, mut events) = (Vec::new(), Vec::new());
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = match &next {
                None => self.management.get(&path)?,
                Some(from) => self
                    .management
                    .get(&format!("{path}?from={}", wire::percent::encode(from)))?,
            };
            changes.extend_from_slice(items(&page, "properties.page.changes"));
            events.extend_from_slice(items(&page, "properties.page.events"));
            let more = text(&page, "properties.page.next");
            if more.is_empty() {
                return Ok(whole(flat(&page), changes, events, None));
            }
            next = Some(more);
        }
        let salvage = flat(&self.management.get(&path)?);
        Ok(whole(salvage, changes, events, next))
    }

    fn replay(&self, id: Option<&str>) -> Result<(), Failure> {
        let ids = match id {
            Some(id) => vec![id.to_owned()],
            None => {
                let (found, silent) = self.all()?;
                if let Some(region) = items(&silent, "").first() {
                    return Err(Failure::Failed(format!(
                        "{} does not answer: it may keep segments too, so not all can be replayed; name one instead",
                        text(region, "")
                    )));
                }
                found.iter().map(|one| text(one, "id")).collect()
            }
        };
        let mut done = Vec::new();
        for id in &ids {
            let path = format!("{}/replay", self.path_of(id));
            let answer = self.management.call(Method::POST, &path, None)?.json()?;
            done.push(json!({
                "id": id,
                "appended": number(&answer, "appended"),
                "skipped": number(&answer, "skipped"),
            }));
            if !self.context.out.is_json() {
                self.context.out.line(replayed_line(id, &answer))?;
            }
        }
        self.context.out.show(&Value::Array(done.clone()), |out| {
            if done.is_empty() {
                return out.line("Nothing is kept aside.");
            }
            Ok(())
        })
    }

    fn discard(&self, id: &str, yes: Option<&str>) -> Result<(), Failure> {
        let id = short_name(id);
        if yes.is_none() {
            let salvage = flat(&self.management.get(&self.path_of(id))?);
            let question = format!(
                "This deletes segment {id} for good: {} records, {} events, from {}.",
                text(&salvage, "records"),
                text(&salvage, "events"),
                text(&salvage, "firstTime")
            );
            confirm::repeat("the segment's id", id, None, &question)?;
        } else {
            confirm::repeat("the segment's id", id, yes.map(short_name), "")?;
        }
        let path = format!("{}?confirm={}", self.path_of(id), wire::percent::encode(id));
        self.management.call(Method::DELETE, &path, None)?;
        let document = json!({ "id": id, "discarded": true });
        self.context.out.show(&document, |out| {
            out.line(format!("Segment {id} is discarded."))
        })
    }
}

/// The last part of an id as the management API writes it, or the id as the list shows it.
fn short_name(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// A segment's properties with its short name as `id`; pages are left out.
fn flat(resource: &Value) -> Value {
    let mut fields = json!({ "id": text(resource, "name") });
    for (name, value) in at(resource, "properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.as_str() != "page")
    {
        fields[name] = value.clone();
    }
    fields
}

fn whole(salvage: Value, changes: Vec<Value>, events: Vec<Value>, more: Option<String>) -> Value {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for change in &changes {
        *counts.entry(text(change, "kind")).or_default() += 1;
    }
    let mut document = salvage;
    document["counts"] = json!(counts);
    document["changes"] = Value::Array(changes);
    document["telemetry"] = Value::Array(events);
    document["next"] = more.into();
    document
}

const HEADINGS: [&str; 9] = [
    "id",
    "region",
    "partition",
    "epoch",
    "lsn",
    "records",
    "events",
    "bytes",
    "from",
];

fn row(salvage: &Value) -> Vec<Cell> {
    let field = |name: &str| Cell::from(text(salvage, name));
    vec![
        field("id"),
        field("region"),
        field("partition"),
        field("epoch"),
        format!("{}–{}", text(salvage, "first"), text(salvage, "last")).into(),
        field("records"),
        field("events"),
        field("bytes"),
        field("firstTime"),
    ]
}

fn replayed_line(id: &str, answer: &Value) -> String {
    let count = |name: &str| number(answer, name).unwrap_or_default();
    let before = match count("skipped") {
        0 => String::new(),
        skipped => format!(", {skipped} were there already"),
    };
    format!("{id}: {} late events appended{before}.", count("appended"))
}

fn view(document: &Value, hub: &str, out: &Out) -> Result<(), Failure> {
    let field = |name: &str| text(document, name);
    out.pairs(&[
        ("Segment", field("id")),
        ("Kept in", field("region")),
        ("Partition", field("partition")),
        ("Epoch", field("epoch")),
        (
            "Records",
            format!(
                "{} ({}–{})",
                field("records"),
                field("first"),
                field("last")
            ),
        ),
        ("Events", field("events")),
        ("Bytes", field("bytes")),
        (
            "Written",
            format!("{} – {}", field("firstTime"), field("lastTime")),
        ),
        ("Set aside", field("made")),
    ])?;
    let changes = items(document, "changes");
    if changes.is_empty() {
        out.line("\nNo device, twin or queued message was changed in it.")?;
    } else {
        out.line("")?;
        let rows: Vec<Vec<Cell>> = changes.iter().map(change_row).collect();
        out.table(&["kind", "device", "what", "lost", "present", ""], &rows)?;
    }
    if !field("next").is_empty() {
        out.line(out.paint(
            Paint::Warning,
            "There is more; --output json names where it goes on (next).",
        ))?;
    }
    match number(document, "events") {
        Some(0) | None => Ok(()),
        Some(_) => out.line(format!(
            "\nPut its telemetry back in: castling hub salvage replay {hub} {}",
            field("id")
        )),
    }
}

fn change_row(change: &Value) -> Vec<Cell> {
    let conflict = at(change, "conflict").and_then(Value::as_bool) == Some(true);
    let (paint, word) = match conflict {
        true => (Paint::Warning, "differs"),
        false => (Paint::Dim, "same"),
    };
    vec![
        text(change, "kind").into(),
        text(change, "device").into(),
        text(change, "what").into(),
        short(change, "lost").into(),
        short(change, "present").into(),
        Cell::painted(paint, word),
    ]
}

fn short(change: &Value, name: &str) -> String {
    let full = match at(change, name) {
        None | Some(Value::Null) => return "–".into(),
        Some(value) => text(value, ""),
    };
    if full.chars().count() <= VALUE_CHARS_MAX {
        return full;
    }
    let cut: String = full.chars().take(VALUE_CHARS_MAX).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_from_its_resource() {
        let resource = json!({"id": "/x/salvage/s1", "name": "s1", "properties": {"records": 3, "page": {"next": "7"}}});
        assert_eq!(flat(&resource), json!({"id": "s1", "records": 3}));
    }

    #[test]
    fn changes_are_counted_by_kind() {
        let changes = vec![
            json!({"kind": "twin"}),
            json!({"kind": "twin"}),
            json!({"kind": "c2d"}),
        ];
        let document = whole(json!({"id": "s"}), changes, Vec::new(), None);
        assert_eq!(document["counts"], json!({"twin": 2, "c2d": 1}));
        assert_eq!(document["next"], Value::Null);
    }

    #[test]
    fn a_replay_says_what_it_appended_and_what_was_there() {
        assert_eq!(
            replayed_line("s", &json!({"appended": 5, "skipped": 0})),
            "s: 5 late events appended."
        );
        assert_eq!(
            replayed_line("s", &json!({"appended": 0, "skipped": 5})),
            "s: 0 late events appended, 5 were there already."
        );
    }

    #[test]
    fn lost_and_present_stand_side_by_side_and_long_ones_are_cut() {
        let row = change_row(
            &json!({"kind": "twin", "device": "d", "what": "reported", "lost": {"a": 1}, "present": null, "conflict": true}),
        );
        assert_eq!(row[3], Cell::from("{\"a\":1}"));
        assert_eq!(row[4], Cell::from("–"));
        assert_eq!(row[5], Cell::painted(Paint::Warning, "differs"));
        let long = json!({"lost": "x".repeat(100)});
        assert_eq!(short(&long, "lost").chars().count(), VALUE_CHARS_MAX + 1);
    }
}
