//! `castling hub plan …`: planned failovers of many hubs, so many at a time.

use super::Context;
use super::confirm::repeat;
use super::failure::Failure;
use super::json::{items, number, text};
use super::management::Management;
use super::out::{Cell, Out, Paint, spinner};
use clap::Subcommand;
use serde_json::{Value, json};
use std::time::Duration;
use ureq::http::Method;
use wire::percent;

const POLL: Duration = Duration::from_millis(300);

#[derive(Subcommand)]
pub enum Plan {
    /// Fail over many hubs, so many at a time
    #[command(after_help = "Examples:
  castling hub plan start --from westus2 --reason maintenance     asks for the region's name
  castling hub plan start --from westus2 --yes westus2
  castling hub plan start hub-1 hub-2 hub-3 --parallel 3 --yes 3

Exit codes: 0 every hub was failed over (with --no-wait: it began), 1 some were not, 4 the plan was refused.")]
    Start {
        /// Names of hubs
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        hubs: Vec<String>,
        /// Every hub whose primary region it is
        #[arg(long, value_name = "REGION")]
        from: Option<String>,
        /// Failovers that run at the same time
        #[arg(long, value_name = "COUNT", default_value_t = types::limits::PLAN_PARALLEL_DEFAULT)]
        parallel: u16,
        /// Why, for the history and the reports
        #[arg(long, default_value = "")]
        reason: String,
        /// Confirm without a question: the region's name, or the number of hubs
        #[arg(long, value_name = "WORD")]
        yes: Option<String>,
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// List plans, newest first
    List,
    /// Show a plan with what became of each hub
    Show { id: String },
    /// Begin no further failover of a plan; those that run go on
    Cancel { id: String },
}

pub fn run(command: &Plan, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let plans = format!(
        "{}/providers/Castling.Failover/plans",
        management.subscription_path()
    );
    let one = |id: &str| format!("{plans}/{}", percent::encode(id));
    match command {
        Plan::Start {
            hubs,
            from,
            parallel,
            reason,
            yes,
            no_wait,
        } => {
            let mut wanted = json!({ "parallel": parallel, "reason": reason });
            let (what, kind, word) = match from {
                Some(region) => {
                    wanted["from"] = region.as_str().into();
                    let what = format!("every hub whose primary is {region}");
                    (what, "the region's name", region.clone())
                }
                None => {
                    wanted["hubs"] = hubs.clone().into();
                    let count = hubs.len().to_string();
                    (format!("{count} hubs"), "the number of hubs", count)
                }
            };
            let question = format!("This fails over {what}.");
            repeat(kind, &word, yes.as_deref(), &question)?;
            let begun = management
                .call(Method::POST, &plans, Some(&wanted))?
                .json()?;
            if *no_wait {
                return show(&context.out, &begun);
            }
            let ended = watch(&management, &one(&text(&begun, "name")))?;
            show(&context.out, &ended)?;
            match text(&ended, "properties.status").as_str() {
                "Succeeded" => Ok(()),
                status => Err(Failure::Failed(format!("the plan ended as {status}"))),
            }
        }
        Plan::List => list(&context.out, &management.list(&plans)?),
        Plan::Show { id } => show(&context.out, &management.get(&one(id))?),
        Plan::Cancel { id } => {
            let path = format!("{}/cancel", one(id));
            show(
                &context.out,
                &management.call(Method::POST, &path, None)?.json()?,
            )
        }
    }
}

fn watch(management: &Management<'_>, path: &str) -> Result<Value, Failure> {
    let bar = spinner("failing over");
    loop {
        let plan = management.get(path)?;
        let count = |name: &str| number(&plan, &format!("properties.{name}")).unwrap_or(0);
        bar.set_message(format!(
            "{} of {} hubs failed over, {} running, {} failed",
            count("hubsSucceeded"),
            count("hubsTotal"),
            count("hubsRunning"),
            count("hubsFailed")
        ));
        if text(&plan, "properties.status") != "Running" {
            bar.finish_and_clear();
            return Ok(plan);
        }
        std::thread::sleep(POLL);
    }
}

fn list(out: &Out, plans: &[Value]) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&plans.to_vec().into());
    }
    let rows: Vec<Vec<Cell>> = plans
        .iter()
        .map(|plan| {
            let field = |name: &str| text(plan, &format!("properties.{name}"));
            vec![
                Cell::from(text(plan, "name")),
                status(&field("status")),
                Cell::from(field("started")),
                Cell::from(format!(
                    "{} of {}",
                    field("hubsSucceeded"),
                    field("hubsTotal")
                )),
                Cell::from(field("by")),
                Cell::from(field("reason")),
            ]
        })
        .collect();
    out.table(&["id", "status", "started", "hubs", "by", "reason"], &rows)
}

fn show(out: &Out, plan: &Value) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(plan);
    }
    list(out, std::slice::from_ref(plan))?;
    out.line("")?;
    let rows: Vec<Vec<Cell>> = items(plan, "properties.hubs")
        .iter()
        .map(|hub| {
            let pause = number(hub, "pauseMs");
            vec![
                Cell::from(text(hub, "hub")),
                Cell::from(format!("{} → {}", text(hub, "from"), text(hub, "to"))),
                status(&text(hub, "status")),
                Cell::from(pause.map_or(String::new(), |ms| format!("{ms} ms"))),
                Cell::from(text(hub, "error.message")),
            ]
        })
        .collect();
    out.table(&["hub", "way", "status", "pause", "why not"], &rows)
}

fn status(word: &str) -> Cell {
    let paint = match word {
        "Succeeded" => Paint::Good,
        "Failed" | "Refused" => Paint::Bad,
        "Running" => Paint::Warning,
        _ => Paint::Plain,
    };
    Cell::painted(paint, word)
}
