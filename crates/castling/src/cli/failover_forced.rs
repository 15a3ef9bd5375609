//! `castling hub failover start --forced`: the loss is shown first, and the operator says how much of it is accepted.

use super::confirm;
use super::failover::Operator;
use super::failover_view::{self as view, Entry};
use super::failure::{Failure, Refused};
use super::json::{at, text};
use super::loss_view as loss;
use super::span;
use serde_json::{Value, json};
use ureq::http::Method;

/// What the operator accepts to lose.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// As typed.
    pub word: String,
    /// In the management API's form.
    body: Value,
}

/// What a forced failover is started with.
pub struct Wanted<'a> {
    pub accepted: Option<&'a Accepted>,
    pub reason: &'a str,
    pub yes: Option<&'a str>,
    pub no_wait: bool,
}

/// Reads `2s`, `100records` or `all`.
pub fn accepted(given: &str) -> Result<Accepted, String> {
    let text = given.trim().to_ascii_lowercase();
    let records = text
        .strip_suffix("records")
        .or_else(|| text.strip_suffix("record"))
        .map(|number| number.trim().parse::<u64>());
    let body = match (text.as_str(), records) {
        ("all", _) => json!({ "all": true }),
        (_, Some(Ok(records))) => json!({ "records": records }),
        (_, Some(Err(_))) => return Err("a whole number must stand before `records`".into()),
        (text, None) => match span::parse(text) {
            Some(millis) => json!({ "span": span::iso(millis) }),
            None => {
                return Err(
                    "it must be a time such as 2s, a count such as 100records, or all".into(),
                );
            }
        },
    };
    Ok(Accepted { word: text, body })
}

impl Operator<'_> {
    /// Says what a forced failover would find and lose; changes nothing.
    pub(super) fn check_forced(&self, accepted: Option<&Accepted>) -> Result<(), Failure> {
        let report = self.ask_check(&forced_question(accepted))?;
        self.context.out.show(&report, |out| {
            view::check(&report, out)?;
            out.line("\nWould be lost, as far as the secondary and the control plane know:")?;
            for line in loss_lines(&report) {
                out.line(line)?;
            }
            Ok(())
        })?;
        match view::is_ready(&report) {
            true => Ok(()),
            false => Err(Failure::NotReady),
        }
    }

    pub(super) fn start_forced(&self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let target = self.target()?;
        if !confirm::can_ask() && (wanted.accepted.is_none() || wanted.yes.is_none()) {
            return Err(Failure::Usage(format!(
                "nobody can be asked here: a forced failover needs --accept-loss and --yes {}",
                self.hub.name
            )));
        }
        if let Some(running) = self.running_forced()? {
            eprintln!("forced failover {} runs already; watching it", running.id());
            return self.follow(&running, wanted.no_wait);
        }
        let report = self.ask_check(&forced_question(wanted.accepted))?;
        eprintln!("{}", summary(&report, &self.hub.name));
        if let Some(refused) = refusal(&report) {
            if refused.code == "PrimaryIsHealthy" {
                eprintln!("what fits: castling hub failover start {}", self.hub.name);
            }
            return Err(Failure::Refused(refused));
        }
        confirm::confirm(&self.hub.name, wanted.yes, "")?;
        let typed;
        let accepted = match wanted.accepted {
            Some(accepted) => accepted,
            None => {
                typed = ask_bound(&report)?;
                &typed
            }
        };
        let body = json!({
            "to": target,
            "forced": true,
            "acceptLoss": accepted.body,
            "shown": at(&report, "loss"),
            "reason": wanted.reason,
        });
        let begun = self
            .management
            .call(Method::POST, &self.path(), Some(&body))?;
        self.follow(&Entry::new(&begun.json()?), wanted.no_wait)
    }

    fn running_forced(&self) -> Result<Option<Entry>, Failure> {
        let entries = self.entries()?;
        Ok(entries
            .into_iter()
            .find(|entry| entry.is_running() && entry.is_forced()))
    }

    fn follow(&self, begun: &Entry, no_wait: bool) -> Result<(), Failure> {
        let id = begun.id();
        if id.is_empty() {
            return Err(Failure::Failed(
                "the management API's answer names no failover; see `castling hub failover status`"
                    .into(),
            ));
        }
        if no_wait {
            return self.context.out.show(&begun.document, |out| {
                out.line(format!("Forced failover {id} has begun."))
            });
        }
        self.conclude(&self.watch(&id)?)
    }
}

fn forced_question(accepted: Option<&Accepted>) -> Value {
    let mut body = json!({ "forced": true });
    if let Some(accepted) = accepted {
        body["acceptLoss"] = accepted.body.clone();
    }
    body
}

fn loss_lines(report: &Value) -> Vec<String> {
    match at(report, "loss") {
        Some(estimate) if estimate.is_object() => loss::lines(estimate),
        _ => vec!["  unknown: the secondary did not answer".into()],
    }
}

/// What stands before the question.
fn summary(report: &Value, hub: &str) -> String {
    let (from, to) = (text(report, "from"), text(report, "to"));
    let mut lines = vec![format!(
        "FORCED failover of hub `{hub}`, {from} → {to}. What {from} acknowledged and {to} does not have is lost to the hub; \
         if {from} returns, it is kept there as salvage. It would be:"
    )];
    lines.extend(loss_lines(report));
    lines.extend(view::warnings(report));
    let lines: Vec<String> = lines
        .iter()
        .map(|line| super::out::printable(line))
        .collect();
    lines.join("\n")
}

/// The "no" that a forced check announces, with the code that the service would give.
fn refusal(report: &Value) -> Option<Refused> {
    let refused = view::refusal(report)?;
    let code = text(report, "refusal");
    match code.is_empty() {
        true => Some(refused),
        false => Some(Refused { code, ..refused }),
    }
}

/// What the operator types as the accepted loss.
fn ask_bound(report: &Value) -> Result<Accepted, Failure> {
    let least = at(report, "loss").map(loss::least).unwrap_or_default();
    let prompt = match least.as_str() {
        "all" => "Not all of the loss is known. Type all to accept whatever it is: ".to_owned(),
        least => format!(
            "Type what you accept to lose (a time such as {least}, a count such as 100records, or all): "
        ),
    };
    match accepted(&confirm::ask(&prompt)?) {
        Ok(accepted) => Ok(accepted),
        Err(why) => Err(Failure::Usage(format!("{why}; nothing was done"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_loss_is_a_time_a_count_or_all() {
        for (word, body) in [
            ("2s", json!({"span": "PT2S"})),
            ("1.5S", json!({"span": "PT1.5S"})),
            ("100records", json!({"records": 100})),
            ("1 record", json!({"records": 1})),
            ("0records", json!({"records": 0})),
            (" All ", json!({"all": true})),
        ] {
            assert_eq!(accepted(word).map(|a| a.body), Ok(body), "{word}");
        }
        for bad in [
            "",
            "records",
            "-1records",
            "1.5records",
            "everything",
            "2 days",
            "-2s",
        ] {
            assert!(accepted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_question_names_the_loss_and_what_becomes_of_it() {
        let report = json!({"from": "west", "to": "east", "ready": true,
            "loss": {"records": 3, "events": 3, "span_ms": 10, "worst_ms": 40},
            "results": [{"name": "lease", "verdict": "warn", "detail": "must be waited out"}]});
        let text = summary(&report, "h");
        for part in [
            "west → east",
            "3 (3 events)",
            "salvage",
            "Warning: lease: must be waited out",
        ] {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(summary(&json!({}), "h").contains("unknown"));
    }

    #[test]
    fn a_refusal_has_the_code_of_the_service() {
        let report = json!({"ready": false, "refusal": "PrimaryIsHealthy",
            "results": [{"name": "primary-down", "verdict": "fail", "detail": "it answers"}]});
        let refused = refusal(&report).unwrap();
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            ("PrimaryIsHealthy", "primary-down: it answers")
        );
        assert_eq!(refusal(&json!({"ready": true})), None);
    }
}
