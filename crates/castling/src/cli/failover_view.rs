//! Failovers, checks and reports for people.

use super::failure::{Failure, Refused};
use super::json::{at, items, number, text};
use super::out::{Cell, Out, Paint};
use serde_json::{Map, Value};
use types::UnixMillis;

const STEPS: usize = 7;

/// A failover as the management API shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub document: Value,
}

impl Entry {
    /// Takes a resource with its fields below `properties`; its short name becomes the `id`.
    pub fn new(resource: &Value) -> Entry {
        let mut fields = Map::from_iter([("id".to_owned(), Value::String(text(resource, "name")))]);
        if let Some(properties) = at(resource, "properties").and_then(Value::as_object) {
            fields.extend(properties.clone());
        }
        Entry {
            document: Value::Object(fields),
        }
    }

    pub fn id(&self) -> String {
        text(&self.document, "id")
    }

    pub fn status(&self) -> String {
        text(&self.document, "status")
    }

    pub fn is_running(&self) -> bool {
        self.status().eq_ignore_ascii_case("Running")
    }

    pub fn succeeded(&self) -> bool {
        self.status().eq_ignore_ascii_case("Succeeded")
    }

    pub fn started(&self) -> String {
        text(&self.document, "started")
    }

    pub fn from(&self) -> String {
        text(&self.document, "from")
    }

    pub fn to(&self) -> String {
        text(&self.document, "to")
    }

    pub fn pause_ms(&self) -> Option<i64> {
        number(&self.document, "pauseMs")
    }

    /// Why it did not succeed.
    pub fn why(&self) -> String {
        match text(&self.document, "error.message") {
            why if why.is_empty() => "see its report".into(),
            why => why,
        }
    }

    /// One line for each step that has ended.
    pub fn ended_step_lines(&self, out: &Out) -> Vec<String> {
        let steps = items(&self.document, "steps")
            .iter()
            .filter(|step| !text(step, "ended").is_empty());
        steps.map(|step| step_line(step, out)).collect()
    }

    /// The step that runs now.
    pub fn current_step(&self) -> String {
        let running = items(&self.document, "steps")
            .iter()
            .find(|step| !text(step, "started").is_empty() && text(step, "ended").is_empty());
        running.map_or_else(
            || "…".to_owned(),
            |step| format!("{} {}", step_number(step), text(step, "name")),
        )
    }
}

fn step_number(step: &Value) -> String {
    number(step, "number").map_or_else(|| "back".to_owned(), |number| format!("{number}/{STEPS}"))
}

fn step_line(step: &Value, out: &Out) -> String {
    let ms = number(step, "ms").map_or_else(String::new, |ms| format!("{ms:>6} ms"));
    let paint = if number(step, "number").is_some() {
        Paint::Good
    } else {
        Paint::Warning
    };
    format!(
        "{:<4}  {}  {ms}",
        step_number(step),
        out.paint(paint, &format!("{:<8}", text(step, "name")))
    )
}

/// A check with the names and times of the rest of the API: its own are those of the code behind it.
pub fn readable_check(report: Value) -> Value {
    let Value::Object(fields) = report else {
        return report;
    };
    let fields = fields.into_iter().map(|(name, value)| {
        let value = match value.as_i64() {
            Some(millis) if matches!(name.as_str(), "at" | "earliest") => {
                Value::String(control::iso::iso8601(UnixMillis(millis)))
            }
            _ => value,
        };
        (camel_case(&name), value)
    });
    Value::Object(fields.collect())
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|c| c.to_ascii_uppercase());
        all + &initial.into_iter().chain(letters).collect::<String>()
    })
}

pub fn is_ready(report: &Value) -> bool {
    at(report, "ready").and_then(Value::as_bool) == Some(true)
}

/// The table of checks and what a failover would mean.
pub fn check(report: &Value, out: &Out) -> Result<(), Failure> {
    let rows: Vec<Vec<Cell>> = items(report, "results")
        .iter()
        .map(|result| {
            let verdict = text(result, "verdict");
            let paint = match verdict.as_str() {
                "pass" => Paint::Good,
                "warn" => Paint::Warning,
                "fail" => Paint::Bad,
                _ => Paint::Dim,
            };
            vec![
                text(result, "number").into(),
                text(result, "name").into(),
                Cell::painted(paint, verdict),
                text(result, "detail").into(),
            ]
        })
        .collect();
    out.table(&["no", "check", "verdict", "found"], &rows)?;
    out.line("")?;
    out.line(figures(report))?;
    match (is_ready(report), text(report, "earliest")) {
        (true, _) => {
            out.line(out.paint(Paint::Good, "Ready: a failover asked for now would begin."))
        }
        (false, earliest) if earliest.is_empty() => out.line(out.paint(
            Paint::Bad,
            "Not ready: a failover asked for now would be refused.",
        )),
        (false, earliest) => {
            out.line(out.paint(Paint::Bad, &format!("Not ready before {earliest}.")))
        }
    }
}

fn figures(report: &Value) -> String {
    let known = |path: &str, unit: &str| {
        number(report, path).map_or_else(|| "unknown".to_owned(), |value| format!("{value}{unit}"))
    };
    format!(
        "{} → {}: expected pause {}, expected loss {} records, secondary behind by {} records ({})",
        text(report, "from"),
        text(report, "to"),
        known("expectedPauseMs", " ms"),
        known("expectedLossRecords", ""),
        known("lagRecords", ""),
        known("lagMs", " ms"),
    )
}

/// What an operator should know before confirming.
pub fn summary(report: &Value, hub: &str) -> String {
    let verdicts = |word: &str| {
        items(report, "results")
            .iter()
            .filter(|result| text(result, "verdict") == word)
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut lines = vec![
        format!("Failover of hub `{hub}`, {}.", figures(report)),
        format!(
            "{} of {} checks pass.",
            verdicts("pass").len(),
            items(report, "results").len()
        ),
    ];
    lines.extend(verdicts("warn").iter().map(|result| {
        format!(
            "Warning: {}: {}",
            text(result, "name"),
            text(result, "detail")
        )
    }));
    lines
        .iter()
        .map(|line| super::out::printable(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The "no" that a check announces; `None` when it is ready.
pub fn refusal(report: &Value) -> Option<Refused> {
    if is_ready(report) {
        return None;
    }
    let failed: Vec<String> = items(report, "results")
        .iter()
        .filter(|result| text(result, "verdict") == "fail")
        .map(|result| format!("{}: {}", text(result, "name"), text(result, "detail")))
        .collect();
    Some(Refused {
        code: "FailoverChecksFailed".into(),
        message: failed.join("; "),
        earliest: Some(text(report, "earliest")).filter(|text| !text.is_empty()),
    })
}

pub fn status(document: &Value, shown: Option<&Entry>, out: &Out) -> Result<(), Failure> {
    let or_none = |path: &str| {
        Some(text(document, path))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "none".into())
    };
    out.pairs(&[
        ("Hub", text(document, "name")),
        ("State", text(document, "state")),
        ("Primary", or_none("primary")),
        ("Secondary", or_none("secondary")),
    ])?;
    let Some(entry) = shown else {
        return out.line("It was never failed over.");
    };
    let what = if entry.is_running() {
        "Running"
    } else {
        "Last"
    };
    out.line(format!(
        "\n{what} failover {}: {} → {}, {}",
        entry.id(),
        entry.from(),
        entry.to(),
        entry.status()
    ))?;
    for line in entry.ended_step_lines(out) {
        out.line(line)?;
    }
    if entry.is_running() {
        out.line(format!("now: {}", entry.current_step()))?;
        out.line(format!("next: {}", text(&entry.document, "legalNext")))?;
    }
    Ok(())
}

pub fn history(entries: &[Entry], out: &Out) -> Result<(), Failure> {
    if entries.is_empty() {
        return out.line("It was never failed over.");
    }
    let rows: Vec<Vec<Cell>> = entries
        .iter()
        .map(|entry| {
            let paint = match entry.status().as_str() {
                "Succeeded" => Paint::Good,
                "Running" => Paint::Warning,
                _ => Paint::Bad,
            };
            vec![
                entry.id().into(),
                text(&entry.document, "kind").into(),
                entry.from().into(),
                entry.to().into(),
                Cell::painted(paint, entry.status()),
                entry.started().into(),
                entry
                    .pause_ms()
                    .map_or_else(String::new, |ms| format!("{ms} ms"))
                    .into(),
                text(&entry.document, "by").into(),
                text(&entry.document, "reason").into(),
            ]
        })
        .collect();
    out.table(
        &[
            "id", "kind", "from", "to", "status", "started", "pause", "by", "reason",
        ],
        &rows,
    )
}

pub fn conclusion(ended: &Entry, out: &Out) -> Result<(), Failure> {
    if !ended.succeeded() {
        return Ok(());
    }
    let pause = ended
        .pause_ms()
        .map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"));
    out.line(out.paint(
        Paint::Good,
        &format!(
            "Succeeded. {} is the primary now; the pause was {pause}; nothing is lost.",
            ended.to()
        ),
    ))
}

pub fn report(report: &Value, out: &Out) -> Result<(), Failure> {
    let field = |path| text(report, path);
    let ms = |path: &str| {
        number(report, path).map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"))
    };
    out.pairs(&[
        ("Operation", field("operation")),
        ("Hub", field("hub")),
        ("Kind", format!("planned {}", field("kind"))),
        ("Outcome", field("outcome")),
        ("From → to", format!("{} → {}", field("from"), field("to"))),
        (
            "Epoch",
            format!("{} → {}", field("epochBefore"), field("epochAfter")),
        ),
        ("Asked by", field("by")),
        ("Reason", field("reason")),
        ("Started", field("started")),
        ("Duration", ms("durationMs")),
        ("Pause", ms("pauseMs")),
        ("Lost", format!("{} records", field("lost.records"))),
        ("Devices", field("devices")),
        (
            "Sockets kept",
            format!("{} of {}", field("socketsKept"), field("socketsBefore")),
        ),
        ("Requests parked", field("requestsParked")),
    ])?;
    let error = field("error.message");
    if !error.is_empty() {
        out.line(format!("\nWhy it ended: {}: {error}", field("error.code")))?;
    }
    out.line("")?;
    for step in items(report, "steps") {
        out.line(step_line(step, out))?;
    }
    let rows: Vec<Vec<Cell>> = items(report, "partitions")
        .iter()
        .map(|partition| {
            let equal = match at(partition, "equal").and_then(Value::as_bool) {
                Some(true) => Cell::painted(Paint::Good, "equal"),
                Some(false) => Cell::painted(Paint::Bad, "different"),
                None => Cell::painted(Paint::Dim, "not compared"),
            };
            vec![
                text(partition, "partition").into(),
                text(partition, "end").into(),
                equal,
                text(partition, "digestBefore").into(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.line("")?;
        out.table(&["partition", "end", "digests", "digest"], &rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::out::Format;
    use super::*;
    use serde_json::json;

    fn entry() -> Entry {
        Entry::new(
            &json!({"id": "/x/failovers/op1", "name": "op1", "properties": {
                "status": "Running", "from": "a", "to": "b",
                "steps": [
                    {"number": 1, "name": "check", "started": "t", "ended": "t", "ms": 12},
                    {"number": 2, "name": "warm", "started": "t", "ended": null, "ms": null},
                    {"number": 3, "name": "fence", "started": null, "ended": null, "ms": null},
                ],
            }}),
        )
    }

    #[test]
    fn steps_are_numbered_and_shown_when_they_ended() {
        let out = Out::new(Format::Table, true);
        assert_eq!(
            entry().ended_step_lines(&out),
            ["1/7   check         12 ms"]
        );
        assert_eq!(entry().current_step(), "2/7 warm");
        assert_eq!(entry().id(), "op1");
    }

    #[test]
    fn a_check_that_says_no_is_a_refusal_with_its_reasons() {
        let report = json!({"ready": false, "earliest": "2026-01-01T00:00:00.000Z", "results": [
            {"number": 5, "name": "time-between-failovers", "verdict": "fail", "detail": "too soon"},
            {"number": 6, "name": "daily-limit", "verdict": "pass", "detail": ""}]});
        let refused = refusal(&report).unwrap();
        assert_eq!(refused.message, "time-between-failovers: too soon");
        assert_eq!(
            refused.earliest.as_deref(),
            Some("2026-01-01T00:00:00.000Z")
        );
        assert_eq!(refusal(&json!({"ready": true})), None);
    }

    #[test]
    fn a_check_is_read_in_either_spelling() {
        let report = readable_check(
            json!({"ready": true, "expected_pause_ms": 40, "lagMs": 1, "earliest": 0, "at": "t"}),
        );
        assert_eq!(
            report,
            json!({"ready": true, "expectedPauseMs": 40, "lagMs": 1, "earliest": "1970-01-01T00:00:00.000Z", "at": "t"})
        );
    }

    #[test]
    fn a_summary_names_pause_and_warnings() {
        let report = json!({"ready": true, "from": "a", "to": "b", "expectedPauseMs": 40, "results": [
            {"name": "clocks", "verdict": "warn", "detail": "2 s apart"}]});
        let text = summary(&report, "h");
        assert!(
            text.contains("a → b")
                && text.contains("40 ms")
                && text.contains("Warning: clocks: 2 s apart"),
            "{text}"
        );
    }
}
