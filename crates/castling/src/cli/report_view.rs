//! Reports of failovers and drills for people.

use super::failover_view::step_line;
use super::failure::Failure;
use super::json::{at, items, number, text};
use super::out::{Cell, Out, Paint, printable};
use super::span::human;
use serde_json::Value;

/// Steps of a planned and of a forced failover, for reports that end before all of them.
const STEPS: (i64, i64) = (7, 4);

pub fn failover(report: &Value, out: &Out) -> Result<(), Failure> {
    let planned = at(report, "planned").and_then(Value::as_bool) != Some(false);
    let mut pairs = who(report, planned);
    match planned {
        true => pairs.push(("Lost", format!("{} records", text(report, "lost.records")))),
        false => pairs.extend(loss(report)),
    }
    pairs.extend(devices(report));
    out.pairs(&pairs)?;
    let error = text(report, "error.message");
    if !error.is_empty() {
        let line = format!("Why it ended: {}: {error}", text(report, "error.code"));
        out.line(format!("\n{}", printable(&line)))?;
    }
    out.line("")?;
    let of = if planned { STEPS.0 } else { STEPS.1 };
    for step in items(report, "steps") {
        out.line(step_line(step, of, out))?;
    }
    partitions(report, out)?;
    lost_ranges(report, out)
}

fn who(report: &Value, planned: bool) -> Vec<(&'static str, String)> {
    let field = |path| text(report, path);
    let ms = |path: &str| {
        number(report, path).map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"))
    };
    let how = if planned { "planned" } else { "forced" };
    vec![
        ("Operation", field("operation")),
        ("Hub", field("hub")),
        ("Kind", format!("{how} {}", field("kind"))),
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
    ]
}

fn devices(report: &Value) -> Vec<(&'static str, String)> {
    let field = |path| text(report, path);
    // Sockets of a lost region cannot be counted.
    let kept = match (field("socketsKept"), field("socketsBefore")) {
        (kept, before) if kept.is_empty() || before.is_empty() => "unknown".to_owned(),
        (kept, before) => format!("{kept} of {before}"),
    };
    vec![
        ("Devices", field("devices")),
        ("Sockets kept", kept),
        ("Requests parked", field("requestsParked")),
    ]
}

/// The loss of a forced failover: shown, accepted, and lost.
fn loss(report: &Value) -> Vec<(&'static str, String)> {
    let field = |path| text(report, path);
    let span = |path: &str| number(report, path).map_or_else(|| "unknown".to_owned(), human);
    let exact = at(report, "lost.exact").and_then(Value::as_bool) == Some(true);
    let how = match exact {
        true => "exactly",
        false => "estimated; exact once the old primary is back",
    };
    let lost = format!(
        "{} records, {} events, {} ({how})",
        field("lost.records"),
        field("lost.events"),
        span("lost.spanMs")
    );
    let shown = format!(
        "{} records, {}, as of {} before",
        field("lossShown.records"),
        span("lossShown.spanMs"),
        span("lossShown.ageMs")
    );
    let confirmed = at(report, "leaseConfirmed").and_then(Value::as_bool) == Some(true);
    let lease = match confirmed {
        true => format!("{} (the old primary confirmed it)", span("leaseWaitMs")),
        false => span("leaseWaitMs"),
    };
    let back = match field("returned.at") {
        at if at.is_empty() => "not yet".to_owned(),
        at => at,
    };
    vec![
        ("Shown", shown),
        ("Accepted", field("lossAccepted.text")),
        ("Lost", lost),
        ("Lease waited", lease),
        ("Returned", back),
    ]
}

fn partitions(report: &Value, out: &Out) -> Result<(), Failure> {
    let row = |partition: &Value| {
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
    };
    let rows: Vec<Vec<Cell>> = items(report, "partitions").iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.table(&["partition", "end", "digests", "digest"], &rows)
}

/// What the old primary alone had, exactly, once it is back.
fn lost_ranges(report: &Value, out: &Out) -> Result<(), Failure> {
    let row = |range: &Value| {
        let range_text = match number(range, "records") {
            Some(0) | None => "–".to_owned(),
            Some(_) => format!("{}–{}", text(range, "from"), text(range, "to")),
        };
        vec![
            text(range, "partition").into(),
            range_text.into(),
            text(range, "records").into(),
            text(range, "events").into(),
            text(range, "firstTime").into(),
            text(range, "lastTime").into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = items(report, "lost.partitions").iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let headings = [
        "partition",
        "lost lsn",
        "records",
        "events",
        "first",
        "last",
    ];
    out.table(&headings, &rows)
}

pub fn drill(report: &Value, out: &Out) -> Result<(), Failure> {
    let field = |path| text(report, path);
    let span = |path: &str| number(report, path).map_or_else(|| "unknown".to_owned(), human);
    out.pairs(&[
        ("Drill", field("drill")),
        ("Hub", field("hub")),
        ("Outcome", field("outcome")),
        (
            "There and back",
            format!("{} → {} → {}", field("from"), field("to"), field("from")),
        ),
        ("Asked by", field("by")),
        ("Reason", field("reason")),
        ("Started", field("started")),
        ("Duration", span("durationMs")),
        ("Held", span("holdMs")),
        ("Pause there", span("measured.pauseThereMs")),
        ("Pause back", span("measured.pauseBackMs")),
        ("Recovery time", span("measured.recoveryMs")),
        ("Lost", format!("{} records", field("measured.lostRecords"))),
        ("Largest lag", span("measured.lagMsMax")),
        (
            "Connected",
            format!(
                "{} before, {} at least, {} after",
                field("measured.connectedBefore"),
                field("measured.connectedMin"),
                field("measured.connectedAfter")
            ),
        ),
    ])?;
    let error = field("error.message");
    if !error.is_empty() {
        let line = format!("Why it did not succeed: {}: {error}", field("error.code"));
        out.line(format!("\n{}", printable(&line)))?;
    }
    let rows: Vec<Vec<Cell>> = items(report, "invariants").iter().map(invariant).collect();
    out.line("")?;
    out.table(&["must hold", "", "evidence"], &rows)
}

fn invariant(found: &Value) -> Vec<Cell> {
    let holds = match at(found, "holds").and_then(Value::as_bool) {
        Some(true) => Cell::painted(Paint::Good, "holds"),
        Some(false) => Cell::painted(Paint::Bad, "BROKEN"),
        None => Cell::painted(Paint::Dim, "not reached"),
    };
    vec![
        text(found, "name").into(),
        holds,
        text(found, "detail").into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(pairs: &[(&str, String)], name: &str) -> String {
        let found = pairs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn a_forced_report_says_what_was_shown_accepted_and_lost() {
        let mut report = json!({
            "lossShown": {"records": 9, "spanMs": 800, "ageMs": 1500},
            "lossAccepted": {"text": "2.0 s"},
            "lost": {"records": 9, "events": 7, "spanMs": 800, "exact": false},
            "leaseWaitMs": 5100, "leaseConfirmed": false, "returned": null});
        let pairs = loss(&report);
        assert_eq!(
            value(&pairs, "Shown"),
            "9 records, 800 ms, as of 1.5 s before"
        );
        assert_eq!(value(&pairs, "Accepted"), "2.0 s");
        assert!(value(&pairs, "Lost").contains("estimated"));
        assert_eq!(
            (value(&pairs, "Lease waited"), value(&pairs, "Returned")),
            ("5.1 s".into(), "not yet".into())
        );
        report["lost"]["exact"] = json!(true);
        report["returned"] = json!({"at": "t"});
        let pairs = loss(&report);
        assert!(value(&pairs, "Lost").contains("exactly"));
        assert_eq!(value(&pairs, "Returned"), "t");
    }

    #[test]
    fn a_broken_invariant_is_loud() {
        let row = invariant(&json!({"name": "n", "holds": false, "detail": "d"}));
        assert_eq!(row[1], Cell::painted(Paint::Bad, "BROKEN"));
    }
}
