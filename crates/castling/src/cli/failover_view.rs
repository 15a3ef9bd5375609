//! Failovers, checks and reports for people.

use super::failure::{Failure, Refused};
use super::json::{at, items, number, text};
use super::out::{Cell, Out, Paint};
use serde_json::{Map, Value};
use types::UnixMillis;

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

    pub fn is_forced(&self) -> bool {
        at(&self.document, "forced").and_then(Value::as_bool) == Some(true)
    }

    pub fn can_cancel(&self) -> bool {
        at(&self.document, "canCancel").and_then(Value::as_bool) == Some(true)
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
        let all = items(&self.document, "steps");
        let steps = all.iter().filter(|step| !text(step, "ended").is_empty());
        steps
            .map(|step| step_line(step, numbered(all), out))
            .collect()
    }

    /// The step that runs now.
    pub fn current_step(&self) -> String {
        let all = items(&self.document, "steps");
        let running = all
            .iter()
            .find(|step| !text(step, "started").is_empty() && text(step, "ended").is_empty());
        running.map_or_else(
            || "…".to_owned(),
            |step| {
                format!(
                    "{} {}",
                    step_number(step, numbered(all)),
                    text(step, "name")
                )
            },
        )
    }
}

/// How many steps of the plan there are, at least those that are named.
fn numbered(steps: &[Value]) -> i64 {
    let numbers = steps.iter().filter_map(|step| number(step, "number"));
    numbers.max().unwrap_or_default()
}

fn step_number(step: &Value, of: i64) -> String {
    number(step, "number").map_or_else(|| "back".to_owned(), |number| format!("{number}/{of}"))
}

/// A step as it went; `of`: how many the plan has.
pub fn step_line(step: &Value, of: i64, out: &Out) -> String {
    let ms = number(step, "ms").map_or_else(String::new, |ms| format!("{ms:>6} ms"));
    let paint = if number(step, "number").is_some() {
        Paint::Good
    } else {
        Paint::Warning
    };
    format!(
        "{:<4}  {}  {ms}",
        step_number(step, of),
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
    let forced = at(report, "forced").and_then(Value::as_bool) == Some(true);
    let what = if forced {
        "forced failover"
    } else {
        "failover"
    };
    match (is_ready(report), text(report, "earliest")) {
        (true, _) => {
            let line = format!("Ready: a {what} asked for now would begin.");
            out.line(out.paint(Paint::Good, &line))
        }
        (false, earliest) if earliest.is_empty() => out.line(out.paint(
            Paint::Bad,
            &format!("Not ready: a {what} asked for now would be refused."),
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
    let passed = items(report, "results")
        .iter()
        .filter(|result| text(result, "verdict") == "pass");
    let mut lines = vec![
        format!("Failover of hub `{hub}`, {}.", figures(report)),
        format!(
            "{} of {} checks pass.",
            passed.count(),
            items(report, "results").len()
        ),
    ];
    lines.extend(warnings(report));
    lines
        .iter()
        .map(|line| super::out::printable(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// One line for each check that warns.
pub fn warnings(report: &Value) -> Vec<String> {
    let warned = items(report, "results")
        .iter()
        .filter(|result| text(result, "verdict") == "warn");
    let line = |result: &Value| {
        let (name, detail) = (text(result, "name"), text(result, "detail"));
        format!("Warning: {name}: {detail}")
    };
    warned.map(line).collect()
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
    old_primary(document, out)?;
    if let Some(drill) = at(document, "drill").filter(|drill| drill.is_object()) {
        out.line(format!("\nRunning drill {}", text(drill, "id")))?;
        waits(drill, out)?;
    }
    let Some(entry) = shown else {
        out.line("It was never failed over.")?;
        return out.line(next_command(document, None));
    };
    let what = if entry.is_running() {
        "Running"
    } else {
        "Last"
    };
    out.line(format!(
        "\n{what} {}failover {}: {} → {}, {}",
        if entry.is_forced() { "forced " } else { "" },
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
        waits(&entry.document, out)?;
    }
    out.line(next_command(document, Some(entry)))
}

/// What something that runs waits for, and what may come next; nothing once it has ended.
pub fn waits(document: &Value, out: &Out) -> Result<(), Failure> {
    let waits = text(document, "waitsFor");
    if waits.is_empty() {
        return Ok(());
    }
    out.line(super::out::printable(&format!("waits for: {waits}")))?;
    let next = format!("next: {}", text(document, "legalNext"));
    out.line(super::out::printable(&next))
}

/// The region that a forced failover left: away, or back with what it alone had.
fn old_primary(document: &Value, out: &Out) -> Result<(), Failure> {
    let region = text(document, "oldPrimary.region");
    if region.is_empty() {
        return Ok(());
    }
    let since = text(document, "oldPrimary.since");
    let line = match at(document, "oldPrimary.returned").and_then(Value::as_bool) {
        Some(true) => format!("Old primary {region} has returned, at {since}."),
        _ => format!("Old primary {region} has not returned; the hub was forced away at {since}."),
    };
    out.line(out.paint(Paint::Warning, &super::out::printable(&line)))
}

/// The next legal command, as it is typed.
fn next_command(document: &Value, shown: Option<&Entry>) -> String {
    let hub = text(document, "name");
    let yes = |path: &str| at(document, path).and_then(Value::as_bool);
    let running = shown.filter(|entry| entry.is_running());
    let command = match (running, yes("oldPrimary.returned")) {
        (Some(entry), _) if entry.can_cancel() => format!("castling hub failover cancel {hub}"),
        // Forced and committed, it only goes forward; any other may wait for a region that is lost.
        (Some(entry), _) if entry.is_forced() => {
            return "command: none; it goes on by itself".into();
        }
        (Some(_), _) => format!(
            "none while it goes on by itself; if the primary is lost, castling hub failover start {hub} --forced"
        ),
        (None, _) if at(document, "drill").is_some_and(Value::is_object) => {
            format!("castling hub drill show {hub}")
        }
        (None, Some(false)) => {
            return format!(
                "command: none until the old primary returns; then castling hub salvage list {hub}"
            );
        }
        (None, Some(true)) => format!(
            "castling hub salvage list {hub}, then castling hub failover start {hub} to go back"
        ),
        (None, None) => format!("castling hub failover check {hub}"),
    };
    super::out::printable(&format!("command: {command}"))
}

fn kind(entry: &Entry) -> String {
    let kind = text(&entry.document, "kind");
    match (entry.is_forced(), text(&entry.document, "drill").is_empty()) {
        (true, _) => format!("forced {kind}"),
        (false, true) => kind,
        (false, false) => format!("{kind} (drill)"),
    }
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
                kind(entry).into(),
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
            "Succeeded. {} is the primary now; the pause was {pause}; {}.",
            ended.to(),
            lost(ended)
        ),
    ))
}

/// What a failover that succeeded lost; of a forced one only the estimate is known until the old primary is back.
fn lost(ended: &Entry) -> String {
    if !ended.is_forced() {
        return "nothing is lost".into();
    }
    let count = |path: &str| number(&ended.document, path);
    if let Some(records) = count("lost.records") {
        return format!("{records} records are lost");
    }
    let shown = count("report.lost.records").or(count("lossShown.records"));
    let shown = shown.map_or_else(
        || "an unknown number of".to_owned(),
        |records| format!("about {records}"),
    );
    format!(
        "{shown} records are lost; exactly what is known once {} returns",
        ended.from()
    )
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
            ["1/3   check         12 ms"]
        );
        assert_eq!(entry().current_step(), "2/3 warm");
        assert_eq!(entry().id(), "op1");
    }

    #[test]
    fn the_next_legal_command_is_named_in_every_state() {
        let hub =
            |old: Value, drill: Value| json!({"name": "h", "oldPrimary": old, "drill": drill});
        let plain = hub(Value::Null, Value::Null);
        let running = |more: Value| {
            let mut properties = json!({"status": "Running"});
            for (name, value) in more.as_object().unwrap() {
                properties[name] = value.clone();
            }
            Entry::new(&json!({"name": "op", "properties": properties}))
        };
        let check = |document: &Value, shown: Option<&Entry>, text: &str| {
            let command = next_command(document, shown);
            assert!(command.contains(text), "`{text}` in: {command}");
        };
        check(&plain, None, "castling hub failover check h");
        check(
            &plain,
            Some(&running(json!({"canCancel": true}))),
            "castling hub failover cancel h",
        );
        check(
            &plain,
            Some(&running(json!({"forced": true}))),
            "goes on by itself",
        );
        check(
            &plain,
            Some(&running(json!({"canCancel": false}))),
            "start h --forced",
        );
        let ended = Entry::new(&json!({"name": "op", "properties": {"status": "Succeeded"}}));
        check(
            &hub(json!({"returned": false}), Value::Null),
            Some(&ended),
            "until the old primary returns",
        );
        check(
            &hub(json!({"returned": true}), Value::Null),
            Some(&ended),
            "salvage list h",
        );
        check(
            &hub(Value::Null, json!({"id": "d"})),
            Some(&ended),
            "castling hub drill show h",
        );
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
