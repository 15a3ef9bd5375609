//! `castling hub drill …`: a failover and a failback on purpose.

use super::confirm::confirm;
use super::failover_view as view;
use super::failure::{Failure, Refused};
use super::json::{at, items, number, text};
use super::management::{HubResource, Management};
use super::out::{Cell, Out, Paint, spinner};
use super::span::human;
use super::{Context, page, report_view, span};
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::Method;

const POLL: Duration = Duration::from_millis(200);
/// How long a watched drill may go without an answer of the management API.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub enum Drill {
    /// Fail over, stay a while, fail back, and write a report
    #[command(after_help = "Examples:
  castling hub drill start my-hub                           asks for the hub's name
  castling hub drill start my-hub --hold 2m --yes my-hub --reason \"drill of the third quarter\"

Both ways are planned failovers: nothing is lost, and the pause is what the report measures.
Exit codes: 0 it succeeded (with --no-wait: it began), 1 it did not succeed, 4 it was refused.")]
    Start {
        hub: String,
        /// How long the hub stays in the other region
        #[arg(long, default_value = "30s", value_parser = hold, value_name = "SPAN")]
        hold: i64,
        /// Why, for the report
        #[arg(long, default_value = "")]
        reason: String,
        /// Confirm without a question: the hub's name again
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// List a hub's drills, newest first
    List { hub: String },
    /// Show a drill: what it waits for, or how it went
    Show {
        hub: String,
        /// From the list [default: the last one]
        id: Option<String>,
    },
    /// Show the report of a drill
    #[command(
        after_help = "Examples:\n  castling hub drill report my-hub\n  castling hub drill report my-hub --html drill.html"
    )]
    Report {
        hub: String,
        /// From the list [default: the last one that ended]
        id: Option<String>,
        /// Write it as a page to look at with a browser
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

pub fn run(command: &Drill, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let open = |name: &str| {
        Ok::<_, Failure>(Exercise {
            management: &management,
            hub: management.hub(name)?,
            context,
        })
    };
    match command {
        Drill::Start {
            hub,
            hold,
            reason,
            yes,
            no_wait,
        } => open(hub)?.start(*hold, reason, yes.as_deref(), *no_wait),
        Drill::List { hub } => open(hub)?.list(),
        Drill::Show { hub, id } => open(hub)?.show(id.as_deref()),
        Drill::Report { hub, id, html } => open(hub)?.report(id.as_deref(), html.as_deref()),
    }
}

fn hold(text: &str) -> Result<i64, String> {
    span::parse(text).ok_or_else(|| "it must be a time such as 30s or 2m".into())
}

/// The drill that runs on a hub, or null.
pub fn running(management: &Management<'_>, hub: &HubResource) -> Result<Value, Failure> {
    let all = management.list(&path(hub))?;
    Ok(all.iter().map(flat).find(is_running).unwrap_or_default())
}

fn path(hub: &HubResource) -> String {
    format!("{}/providers/Castling.Failover/drills", hub.path)
}

/// A drill's properties with its short name as `id`.
fn flat(resource: &Value) -> Value {
    let mut fields = Map::from_iter([("id".to_owned(), Value::String(text(resource, "name")))]);
    let properties = at(resource, "properties").and_then(Value::as_object);
    fields.extend(properties.cloned().unwrap_or_default());
    Value::Object(fields)
}

fn is_running(drill: &Value) -> bool {
    text(drill, "status") == "Running"
}

struct Exercise<'a> {
    management: &'a Management<'a>,
    hub: HubResource,
    context: &'a Context,
}

impl Exercise<'_> {
    fn path_of(&self, id: &str) -> String {
        format!("{}/{}", path(&self.hub), wire::percent::encode(id))
    }

    /// Newest first.
    fn all(&self) -> Result<Vec<Value>, Failure> {
        let found = self.management.list(&path(&self.hub))?;
        Ok(found.iter().map(flat).collect())
    }

    fn one(&self, id: &str) -> Result<Value, Failure> {
        Ok(flat(&self.management.get(&self.path_of(id))?))
    }

    fn start(
        &self,
        hold_ms: i64,
        reason: &str,
        yes: Option<&str>,
        no_wait: bool,
    ) -> Result<(), Failure> {
        let Some(other) = self.hub.region("secondary") else {
            return Err(Failure::Refused(Refused {
                code: "FailoverNoPair".into(),
                message: format!("hub `{}` has no second region", self.hub.name),
                earliest: None,
            }));
        };
        let question = format!(
            "Drill of hub `{}`: it goes to {other}, stays {}, and comes back. Requests wait during two short pauses; nothing is lost.",
            self.hub.name,
            human(hold_ms)
        );
        confirm(&self.hub.name, yes, &question)?;
        let body = json!({ "holdSeconds": hold_ms as f64 / 1000.0, "reason": reason });
        let begun = self
            .management
            .call(Method::POST, &path(&self.hub), Some(&body))?;
        let drill = flat(&begun.json()?);
        let id = text(&drill, "id");
        if no_wait {
            return self
                .context
                .out
                .show(&drill, |out| out.line(format!("Drill {id} has begun.")));
        }
        self.conclude(&self.watch(&id)?)
    }

    /// Says what the drill waits for until it has ended.
    fn watch(&self, id: &str) -> Result<Value, Failure> {
        let bar = spinner("starting");
        let mut heard = Instant::now();
        loop {
            match self.one(id) {
                Ok(drill) => {
                    heard = Instant::now();
                    if !is_running(&drill) {
                        bar.finish_and_clear();
                        return Ok(drill);
                    }
                    bar.set_message(format!("waiting for {}", text(&drill, "waitsFor")));
                }
                // The drill does not depend on who watches it.
                Err(Failure::Failed(_)) if heard.elapsed() < SILENCE_MAX => {}
                Err(other) => return Err(other),
            }
            std::thread::sleep(POLL);
        }
    }

    fn conclude(&self, ended: &Value) -> Result<(), Failure> {
        self.context.out.show(ended, |out| {
            show(ended, out)?;
            out.line(format!(
                "\nAll of it: castling hub drill report {} --html drill.html",
                self.hub.name
            ))
        })?;
        match text(ended, "status").as_str() {
            "Succeeded" => Ok(()),
            other => Err(Failure::Failed(format!(
                "the drill ended as {other}: {}",
                text(ended, "error.message")
            ))),
        }
    }

    fn list(&self) -> Result<(), Failure> {
        let all = self.all()?;
        self.context.out.show(&Value::Array(all.clone()), |out| {
            if all.is_empty() {
                return out.line("No drill yet. Make one: castling hub drill start HUB");
            }
            let rows: Vec<Vec<Cell>> = all.iter().map(row).collect();
            let headings = [
                "id", "status", "from", "to", "started", "duration", "pauses", "by", "reason",
            ];
            out.table(&headings, &rows)
        })
    }

    fn show(&self, id: Option<&str>) -> Result<(), Failure> {
        let id = self.named(id, |_| true)?;
        let drill = self.one(&id)?;
        self.context.out.show(&drill, |out| show(&drill, out))
    }

    fn report(&self, id: Option<&str>, html: Option<&Path>) -> Result<(), Failure> {
        let id = self.named(id, |drill| !is_running(drill))?;
        let path = format!("{}/report", self.path_of(&id));
        if let Some(file) = html {
            return page::save(self.management, &path, file, self.context);
        }
        let report = self.management.get(&path)?;
        self.context
            .out
            .show(&report, |out| report_view::drill(&report, out))
    }

    /// The id given, or that of the newest that fits.
    fn named(&self, id: Option<&str>, fits: impl Fn(&Value) -> bool) -> Result<String, Failure> {
        if let Some(id) = id {
            return Ok(id.rsplit('/').next().unwrap_or(id).to_owned());
        }
        let found = self.all()?.into_iter().find(fits);
        found.map(|drill| text(&drill, "id")).ok_or_else(|| {
            Failure::Failed(format!("hub `{}` has no such drill yet", self.hub.name))
        })
    }
}

fn paint(drill: &Value) -> Paint {
    match text(drill, "status").as_str() {
        "Succeeded" => Paint::Good,
        "Running" => Paint::Warning,
        _ => Paint::Bad,
    }
}

fn pauses(drill: &Value) -> String {
    let of = |leg: &Value| number(leg, "pauseMs").map_or_else(|| "–".into(), human);
    let all: Vec<String> = items(drill, "legs").iter().map(of).collect();
    all.join(" / ")
}

fn row(drill: &Value) -> Vec<Cell> {
    let field = |name: &str| Cell::from(text(drill, name));
    let duration = number(drill, "durationMs").map_or_else(String::new, human);
    vec![
        field("id"),
        Cell::painted(paint(drill), text(drill, "status")),
        field("from"),
        field("to"),
        field("started"),
        duration.into(),
        pauses(drill).into(),
        field("by"),
        field("reason"),
    ]
}

fn show(drill: &Value, out: &Out) -> Result<(), Failure> {
    let field = |name: &str| text(drill, name);
    out.line(out.paint(
        paint(drill),
        &format!(
            "Drill {}: {} → {} and back, {}",
            field("id"),
            field("from"),
            field("to"),
            field("status")
        ),
    ))?;
    for leg in items(drill, "legs") {
        let pause =
            number(leg, "pauseMs").map_or_else(String::new, |ms| format!(", pause {}", human(ms)));
        let status = match text(leg, "status") {
            status if status.is_empty() => "not begun".to_owned(),
            status => status,
        };
        let line = format!(
            "{:<8}  {}  {status}{pause}",
            text(leg, "kind"),
            text(leg, "failover")
        );
        out.line(super::out::printable(&line))?;
    }
    view::waits(drill, out)?;
    match field("error.message") {
        why if why.is_empty() => Ok(()),
        why => out.line(super::out::printable(&format!(
            "Why it did not succeed: {}: {why}",
            field("error.code")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_is_listed_with_both_pauses() {
        let drill = flat(
            &json!({"name": "d1", "properties": {"status": "Running", "durationMs": null,
            "legs": [{"pauseMs": 130}, {"pauseMs": null}]}}),
        );
        assert!(is_running(&drill));
        assert_eq!(pauses(&drill), "130 ms / –");
        assert_eq!(row(&drill)[0], Cell::from("d1"));
        assert_eq!(paint(&json!({"status": "Failed"})), Paint::Bad);
    }

    #[test]
    fn a_hold_is_a_time() {
        assert_eq!(hold("2m"), Ok(120_000));
        assert!(hold("long").is_err());
    }
}
