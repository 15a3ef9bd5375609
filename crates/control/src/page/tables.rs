//! The parts of the page that are lists and tables.

use super::markup::{escape, facts, items, millis, table, text};
use serde_json::Value;

/// Why it did not succeed.
pub(super) fn error(report: &Value) -> String {
    let error = &report["error"];
    match error.is_object() {
        true => format!(
            "<p class=\"bad\">{}: {}</p>\n",
            escape(&text(&error["code"])),
            escape(&text(&error["message"]))
        ),
        false => String::new(),
    }
}

pub(super) fn who(report: &Value) -> String {
    facts([
        ("Asked for by", text(&report["by"])),
        ("Reason", text(&report["reason"])),
        ("Cancelled by", text(&report["cancelledBy"])),
        ("Operation", text(&report["operation"])),
        ("Took over", text(&report["tookOver"])),
        ("Drill", text(&report["drill"])),
        ("Started", text(&report["started"])),
        ("Ended", text(&report["ended"])),
        ("Took", millis(&report["durationMs"])),
        ("Stayed in the other region", millis(&report["holdMs"])),
        (
            "Epoch",
            pair(&report["epochBefore"], " → ", &report["epochAfter"]),
        ),
    ])
}

pub(super) fn figures(report: &Value) -> String {
    let lag = &report["lagBefore"];
    facts([
        ("Pause", millis(&report["pauseMs"])),
        ("Recovery time (RTO)", millis(&report["recoveryMs"])),
        ("Records lost (RPO)", lost_records(report)),
        ("Wait for the old lease", millis(&report["leaseWaitMs"])),
        (
            "Lag before the fence",
            joined(&[counted(&lag["records"], "records"), millis(&lag["ms"])]),
        ),
        ("Devices registered", text(&report["devices"])),
        (
            "Device connections kept",
            pair(&report["socketsKept"], " of ", &report["socketsBefore"]),
        ),
        (
            "Requests held in the pause",
            text(&report["requestsParked"]),
        ),
    ])
}

fn lost_records(report: &Value) -> String {
    let lost = &report["lost"];
    match (lost["records"].as_u64(), lost["exact"].as_bool()) {
        (None, _) => String::new(),
        (Some(records), Some(false)) => {
            format!("about {records}: the old primary has not returned")
        }
        (Some(records), _) => records.to_string(),
    }
}

/// The loss of a forced failover: shown, accepted, checked, found.
pub(super) fn loss(report: &Value) -> String {
    if report["planned"] != Value::Bool(false) {
        return String::new();
    }
    let row = |name: &str, loss: &Value| {
        loss.is_object().then(|| {
            vec![
                ("", name.to_owned()),
                ("", text(&loss["records"])),
                ("", text(&loss["events"])),
                ("", text(&loss["bytes"])),
                ("", millis(&loss["spanMs"])),
                ("", text(&loss["devices"])),
                ("", millis(&loss["ageMs"])),
                ("", millis(&loss["worstMs"])),
            ]
        })
    };
    let found = if report["lost"]["exact"] == Value::Bool(true) {
        "Found when it returned"
    } else {
        "Expected"
    };
    let rows = [
        row("Shown to the operator", &report["lossShown"]),
        row("Found by the checks", &report["lossChecked"]),
        row(found, &report["lost"]),
    ];
    let columns = [
        ("", false),
        ("Records", true),
        ("Events", true),
        ("Bytes", true),
        ("Span", true),
        ("Devices", true),
        ("Age of the figure", true),
        ("At worst", true),
    ];
    let accepted = facts([
        ("Accepted", text(&report["lossAccepted"]["text"])),
        ("Old primary returned", text(&report["returned"]["at"])),
    ]);
    let figures = table(&columns, rows.into_iter().flatten().collect());
    [accepted, figures, ranges(&report["lost"]["partitions"])].concat()
}

fn ranges(partitions: &Value) -> String {
    let rows = items(partitions).iter().map(|p| {
        vec![
            ("", text(&p["partition"])),
            ("", pair(&p["from"], " – ", &p["to"])),
            ("", text(&p["records"])),
            ("", text(&p["events"])),
            ("", text(&p["bytes"])),
            ("", pair(&p["firstTime"], " – ", &p["lastTime"])),
        ]
    });
    let columns = [
        ("Partition", true),
        ("Lost records", true),
        ("Records", true),
        ("Events", true),
        ("Bytes", true),
        ("Written", false),
    ];
    table(&columns, rows.collect())
}

pub(super) fn steps(report: &Value) -> String {
    let rows = items(&report["steps"]).iter().map(|step| {
        let detail = match &step["detail"] {
            Value::Null => String::new(),
            detail => shortened(&detail.to_string()),
        };
        vec![
            ("", text(&step["number"])),
            ("", text(&step["name"])),
            ("", text(&step["started"])),
            ("", millis(&step["ms"])),
            ("", detail),
        ]
    });
    let columns = [
        ("", true),
        ("Step", false),
        ("Began", false),
        ("Took", true),
        ("Recorded", false),
    ];
    table(&columns, rows.collect())
}

/// Where the histories meet: handover records of a planned failover, positions of a forced one.
pub(super) fn partitions(report: &Value) -> String {
    let handovers = items(&report["partitions"]).iter().map(|p| {
        let (class, equal) = match p["equal"].as_bool() {
            Some(true) => ("good", "equal"),
            Some(false) => ("bad", "different"),
            None => ("", "not compared"),
        };
        vec![
            ("", text(&p["partition"])),
            ("", text(&p["end"])),
            ("", text(&p["digestBefore"])),
            ("", text(&p["digestAfter"])),
            (class, equal.to_owned()),
        ]
    });
    let columns = [
        ("Partition", true),
        ("Ends at", true),
        ("Digest before", false),
        ("Digest after", false),
        ("", false),
    ];
    let handovers = table(&columns, handovers.collect());
    let positions = items(&report["positions"]).iter().map(|p| {
        vec![
            ("", text(&p["partition"])),
            ("", text(&p["lsn"])),
            ("", text(&p["nextSequence"])),
        ]
    });
    let columns = [
        ("Partition", true),
        ("Opened after record", true),
        ("Next sequence", true),
    ];
    handovers + &table(&columns, positions.collect())
}

pub(super) fn checks(report: &Value) -> String {
    let rows = items(&report["checks"]["results"]).iter().map(|check| {
        let verdict = text(&check["verdict"]);
        let class = match verdict.as_str() {
            "pass" => "good",
            "warn" => "warn",
            "fail" => "bad",
            _ => "",
        };
        vec![
            ("", text(&check["number"])),
            ("", text(&check["name"])),
            (class, verdict),
            ("", text(&check["detail"])),
        ]
    });
    let columns = [("", true), ("Check", false), ("", false), ("Found", false)];
    table(&columns, rows.collect())
}

/// The figures of a whole drill.
pub(super) fn measured(report: &Value) -> String {
    let of = &report["measured"];
    facts([
        ("Recovery time (RTO)", millis(&of["recoveryMs"])),
        ("Records lost (RPO)", text(&of["lostRecords"])),
        ("Pause, there", millis(&of["pauseThereMs"])),
        ("Pause, back", millis(&of["pauseBackMs"])),
        (
            "Longest time without an acknowledgement",
            millis(&of["silentMs"]),
        ),
        (
            "Most acknowledged, events/s",
            text(&of["acknowledgedPerSMax"]),
        ),
        ("Greatest lag", millis(&of["lagMsMax"])),
        ("Devices connected at first", text(&of["connectedBefore"])),
        ("Fewest connected", text(&of["connectedMin"])),
        ("Devices connected at last", text(&of["connectedAfter"])),
    ])
}

pub(super) fn invariants(report: &Value) -> String {
    let rows = items(&report["invariants"]).iter().map(|invariant| {
        let (class, holds) = match invariant["holds"].as_bool() {
            Some(true) => ("good", "holds"),
            Some(false) => ("bad", "broken"),
            None => ("", "not reached"),
        };
        vec![
            ("", text(&invariant["name"])),
            (class, holds.to_owned()),
            ("", text(&invariant["detail"])),
        ]
    });
    let columns = [("Invariant", false), ("", false), ("Found", false)];
    table(&columns, rows.collect())
}

fn pair(one: &Value, between: &str, two: &Value) -> String {
    match (text(one), text(two)) {
        (one, two) if one.is_empty() => two,
        (one, two) if two.is_empty() => one,
        (one, two) => format!("{one}{between}{two}"),
    }
}

fn counted(value: &Value, what: &str) -> String {
    value
        .as_u64()
        .map_or_else(String::new, |count| format!("{count} {what}"))
}

fn joined(parts: &[String]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .cloned()
        .collect();
    parts.join(", ")
}

/// Long details stand in the report itself.
fn shortened(detail: &str) -> String {
    const MOST: usize = 400;
    match detail.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &detail[..at]),
        None => detail.to_owned(),
    }
}
