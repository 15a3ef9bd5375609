//! `castling hub failover …`: what an operator does to swap a hub's regions.

use super::confirm::confirm;
use super::drill;
use super::failover_forced::{self as forced, Accepted, Wanted};
use super::failover_view::{self as view, Entry};
use super::failure::{Failure, Refused};
use super::json::{at, items, text};
use super::management::{HubResource, Management};
use super::out::spinner;
use super::{Context, page, report_view};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::Method;

const POLL: Duration = Duration::from_millis(100);
/// How long a watched failover may go without an answer of the management API.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub enum Failover {
    /// Say whether a failover would begin now, and what it would cost; changes nothing (exit code 3 if not ready)
    #[command(after_help = "Examples:
  castling hub failover check my-hub
  castling hub failover check my-hub --forced                     what a forced one would lose
  castling hub failover check my-hub --forced --accept-loss 2s    and whether that much is enough")]
    Check {
        name: String,
        /// Ask about a forced failover: the primary is lost
        #[arg(long)]
        forced: bool,
        /// What would be accepted to lose: 2s, 100records or all
        #[arg(long, requires = "forced", value_parser = forced::accepted, value_name = "LOSS")]
        accept_loss: Option<Accepted>,
    },
    /// Make the secondary region the primary: planned if both are healthy, nothing is lost; --forced if the primary is lost
    #[command(after_help = "Examples:
  castling hub failover start my-hub                            asks for the hub's name
  castling hub failover start my-hub --yes my-hub --reason drill
  castling hub failover start my-hub --yes my-hub --no-wait
  castling hub failover start my-hub --forced                   shows the loss, asks for the name and the loss accepted
  castling hub failover start my-hub --forced --accept-loss 2s --yes my-hub

The same command fails back: it always goes to the other region.
A forced failover loses what only the lost region has. It is refused if that is more than accepted, or if the primary is healthy.
Exit codes: 0 it succeeded (with --no-wait: it began), 1 it was rolled back or failed, 4 it was refused.")]
    Start {
        name: String,
        /// Why, for the history and the report
        #[arg(long, default_value = "")]
        reason: String,
        /// Confirm without a question: the hub's name again
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
        /// The primary is lost, hung or cut off: go on without it, and lose what only it has
        #[arg(long)]
        forced: bool,
        /// What is accepted to lose: a time such as 2s, a count such as 100records, or all
        #[arg(long, requires = "forced", value_parser = forced::accepted, value_name = "LOSS")]
        accept_loss: Option<Accepted>,
    },
    /// Call off a failover that runs; possible until its step commit
    Cancel { name: String },
    /// Show a hub's roles and the failover that runs, or the last one
    Status { name: String },
    /// List a hub's failovers, newest first
    History { name: String },
    /// Show the report of a failover
    #[command(
        after_help = "Examples:\n  castling hub failover report my-hub\n  castling hub failover report my-hub ID --output json    all of it"
    )]
    Report {
        name: String,
        /// Id from the history [default: the last one that ended]
        id: Option<String>,
        /// Write it as a page to look at with a browser
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

pub fn run(command: &Failover, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let open = |name: &str| {
        Ok::<_, Failure>(Operator {
            management: &management,
            hub: management.hub(name)?,
            context,
        })
    };
    match command {
        Failover::Check {
            name,
            forced: true,
            accept_loss,
        } => open(name)?.check_forced(accept_loss.as_ref()),
        Failover::Check { name, .. } => open(name)?.check(),
        Failover::Start {
            name,
            reason,
            yes,
            no_wait,
            forced: true,
            accept_loss,
        } => open(name)?.start_forced(&Wanted {
            accepted: accept_loss.as_ref(),
            reason,
            yes: yes.as_deref(),
            no_wait: *no_wait,
        }),
        Failover::Start {
            name,
            reason,
            yes,
            no_wait,
            ..
        } => open(name)?.start(reason, yes.as_deref(), *no_wait),
        Failover::Cancel { name } => open(name)?.cancel(),
        Failover::Status { name } => open(name)?.status(),
        Failover::History { name } => open(name)?.history(),
        Failover::Report { name, id, html } => open(name)?.report(id.as_deref(), html.as_deref()),
    }
}

/// Who swaps a hub's regions.
pub struct Operator<'a> {
    pub management: &'a Management<'a>,
    pub hub: HubResource,
    pub context: &'a Context,
}

impl Operator<'_> {
    fn check(&self) -> Result<(), Failure> {
        let report = self.ask_check(&Value::Null)?;
        self.context
            .out
            .show(&report, |out| view::check(&report, out))?;
        if view::is_ready(&report) {
            Ok(())
        } else {
            Err(Failure::NotReady)
        }
    }

    fn start(&self, reason: &str, yes: Option<&str>, no_wait: bool) -> Result<(), Failure> {
        let target = self.target()?;
        if yes.is_none() {
            // A check that says no is what the service would say, without a question for nothing.
            let report = self.ask_check(&Value::Null)?;
            if let Some(refused) = view::refusal(&report) {
                return Err(Failure::Refused(refused));
            }
            confirm(
                &self.hub.name,
                None,
                &view::summary(&report, &self.hub.name),
            )?;
        } else {
            confirm(&self.hub.name, yes, "")?;
        }
        let before: Vec<String> = self.entries()?.iter().map(Entry::id).collect();
        let body = json!({ "failoverRegion": target, "reason": reason });
        self.management.call(
            Method::POST,
            &format!("{}/failover", self.hub.path),
            Some(&body),
        )?;
        let begun = self
            .entries()?
            .into_iter()
            .find(|entry| !before.contains(&entry.id()));
        let begun = begun.ok_or_else(|| Failure::Failed("it began, but the management API does not show it yet; see `castling hub failover status`".into()))?;
        if no_wait {
            let id = begun.id();
            return self.context.out.show(&begun.document, |out| {
                out.line(format!("Failover {id} has begun."))
            });
        }
        self.conclude(&self.watch(&begun.id())?)
    }

    /// The region that a failover goes to.
    pub(super) fn target(&self) -> Result<String, Failure> {
        self.hub.region("secondary").ok_or_else(|| {
            Failure::Refused(Refused {
                code: "FailoverNoPair".into(),
                message: format!("hub `{}` has no second region", self.hub.name),
                earliest: None,
            })
        })
    }

    fn cancel(&self) -> Result<(), Failure> {
        let running = self.entries()?.into_iter().find(Entry::is_running);
        let running = running.ok_or_else(|| {
            Failure::Failed(format!("no failover of hub `{}` is running", self.hub.name))
        })?;
        self.management.call(
            Method::POST,
            &format!("{}/{}/cancel", self.path(), running.id()),
            None,
        )?;
        let ended = self.watch(&running.id())?;
        match ended.status().as_str() {
            "Cancelled" | "Canceled" | "RolledBack" => {
                let text = format!(
                    "Failover {} is cancelled; {} is primary as before.",
                    ended.id(),
                    ended.from()
                );
                self.context.out.show(&ended.document, |out| out.line(text))
            }
            other => Err(Failure::Failed(format!(
                "it could not be called off any more: failover {} ended as {other}",
                ended.id()
            ))),
        }
    }

    fn status(&self) -> Result<(), Failure> {
        let entries = self.entries()?;
        let shown = entries
            .iter()
            .find(|entry| entry.is_running())
            .or(entries.first());
        // The list leaves the steps out.
        let shown = shown.map(|entry| self.entry(&entry.id())).transpose()?;
        let shown = shown.as_ref();
        let hub = self.management.get(&self.hub.path)?;
        let drill = drill::running(self.management, &self.hub)?;
        let document = json!({
            "name": self.hub.name,
            "state": text(&hub, "properties.state"),
            "primary": self.hub.region("primary"),
            "secondary": self.hub.region("secondary"),
            "oldPrimary": at(&hub, "properties.castling.oldPrimary"),
            "failover": shown.map(|entry| &entry.document),
            "drill": drill,
        });
        self.context
            .out
            .show(&document, |out| view::status(&document, shown, out))
    }

    fn history(&self) -> Result<(), Failure> {
        let entries = self.entries()?;
        let documents = Value::Array(entries.iter().map(|entry| entry.document.clone()).collect());
        self.context
            .out
            .show(&documents, |out| view::history(&entries, out))
    }

    fn report(&self, id: Option<&str>, html: Option<&Path>) -> Result<(), Failure> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => {
                let ended = self
                    .entries()?
                    .into_iter()
                    .find(|entry| !entry.is_running());
                ended.map(|entry| entry.id()).ok_or_else(|| {
                    Failure::Failed(format!(
                        "hub `{}` has no failover that has ended",
                        self.hub.name
                    ))
                })?
            }
        };
        let path = format!("{}/{}/report", self.path(), wire::percent::encode(&id));
        if let Some(file) = html {
            return page::save(self.management, &path, file, self.context);
        }
        let report = self.management.get(&path)?;
        self.context
            .out
            .show(&report, |out| report_view::failover(&report, out))
    }

    /// The dry run; `question` is null for a planned failover.
    pub(super) fn ask_check(&self, question: &Value) -> Result<Value, Failure> {
        let bar = spinner("checking both regions");
        let path = format!("{}/providers/Castling.Failover/check", self.hub.path);
        let body = Some(question).filter(|question| !question.is_null());
        let report = view::readable_check(self.management.call(Method::POST, &path, body)?.json()?);
        bar.finish_and_clear();
        if at(&report, "ready").and_then(Value::as_bool).is_none()
            || items(&report, "results").is_empty()
        {
            return Err(Failure::Failed(
                "the management API's answer is no check".into(),
            ));
        }
        Ok(report)
    }

    pub(super) fn path(&self) -> String {
        format!("{}/providers/Castling.Failover/failovers", self.hub.path)
    }

    /// All failovers, newest first.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let mut entries: Vec<Entry> = self
            .management
            .list(&self.path())?
            .iter()
            .map(Entry::new)
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.started()));
        Ok(entries)
    }

    fn entry(&self, id: &str) -> Result<Entry, Failure> {
        Ok(Entry::new(&self.management.get(&format!(
            "{}/{}",
            self.path(),
            wire::percent::encode(id)
        ))?))
    }

    /// Shows the steps as they end, until the failover has ended.
    pub(super) fn watch(&self, id: &str) -> Result<Entry, Failure> {
        let bar = spinner("starting");
        let mut shown = 0;
        let mut heard = Instant::now();
        loop {
            match self.entry(id) {
                Ok(entry) => {
                    heard = Instant::now();
                    let lines = entry.ended_step_lines(&self.context.out);
                    if !self.context.out.is_json() {
                        for line in lines.iter().skip(shown) {
                            bar.suspend(|| self.context.out.line(line))?;
                        }
                    }
                    shown = shown.max(lines.len());
                    bar.set_message(entry.current_step());
                    if !entry.is_running() {
                        bar.finish_and_clear();
                        return Ok(entry);
                    }
                }
                // The operation does not depend on who watches it.
                Err(Failure::Failed(_)) if heard.elapsed() < SILENCE_MAX => {}
                Err(other) => return Err(other),
            }
            std::thread::sleep(POLL);
        }
    }

    /// Says how it ended.
    pub(super) fn conclude(&self, ended: &Entry) -> Result<(), Failure> {
        self.context
            .out
            .show(&ended.document, |out| view::conclusion(ended, out))?;
        if ended.succeeded() {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "the failover ended as {}: {}",
            ended.status(),
            ended.why()
        )))
    }
}
