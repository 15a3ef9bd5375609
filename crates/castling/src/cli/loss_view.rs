//! What a forced failover would lose, or lost, for people.

use super::json::{at, items, number, text};
use super::out::printable;
use super::span::human;
use serde_json::Value;
use std::collections::BTreeMap;

/// The estimate of a forced check, one line a figure. Every figure says how old it is: the primary cannot be asked any more.
pub fn lines(loss: &Value) -> Vec<String> {
    let count = |name: &str| number(loss, name).unwrap_or_default();
    let devices = match at(loss, "devices_cut").and_then(Value::as_bool) {
        Some(true) => format!("at least {}", count("devices")),
        _ => count("devices").to_string(),
    };
    let blind = !items(loss, "unknown").is_empty();
    let least = if blind { "at least " } else { "" };
    let mut lines = vec![
        line(
            "records",
            &format!("{least}{} ({} events)", count("records"), count("events")),
        ),
        line("bytes", &bytes(count("bytes"))),
        line(
            "oldest",
            &format!("{} before the newest", human(count("span_ms"))),
        ),
        line("devices", &devices),
        line("kinds", &kinds(loss)),
        line("known as of", &format!("{} ago", human(count("age_ms")))),
        line(
            "worst case",
            &match blind {
                true => "not known".to_owned(),
                false => format!("{} of writes", human(count("worst_ms"))),
            },
        ),
    ];
    let behind = items(loss, "partitions")
        .iter()
        .filter(|partition| number(partition, "records").is_some_and(|records| records > 0));
    lines.extend(behind.map(partition));
    let unknown: Vec<String> = items(loss, "unknown")
        .iter()
        .map(|number| text(number, ""))
        .collect();
    if !unknown.is_empty() {
        let what = "nothing is known of their loss; only accepting all covers that";
        lines.push(line(&format!("partitions {}", unknown.join(", ")), what));
    }
    lines.iter().map(|line| printable(line)).collect()
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<12}  {value}")
}

fn partition(partition: &Value) -> String {
    let what = format!(
        "{} records: the primary was at {}, the secondary is at {}",
        text(partition, "records"),
        text(partition, "known_lsn"),
        text(partition, "have_lsn")
    );
    line(
        &format!("partition {}", text(partition, "partition")),
        &what,
    )
}

/// Records per kind of data; the word "none" where there are none.
fn kinds(loss: &Value) -> String {
    let kinds = at(loss, "kinds").and_then(Value::as_object);
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in kinds.into_iter().flatten() {
        *sums.entry(kind_in_words(kind)).or_default() += count.as_u64().unwrap_or(0);
    }
    let named: Vec<String> = sums
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    match named.is_empty() {
        true => "none".into(),
        false => named.join(", "),
    }
}

/// Entries are counted by the first letter of their key (docs/formats/state.md).
fn kind_in_words(kind: &str) -> &str {
    match kind {
        "d" => "identities",
        "t" => "twins",
        "m" => "sessions",
        "q" | "c" | "x" => "C2D queue entries",
        "f" | "F" => "feedback",
        "o" => "consumer positions",
        "l" => "replays",
        "s" => "counters",
        other => other,
    }
}

fn bytes(count: i64) -> String {
    match count {
        0..10_240 => format!("{count} bytes"),
        10_240..10_485_760 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

/// The smallest bound that takes this estimate, as it is typed.
pub fn least(loss: &Value) -> String {
    if !items(loss, "unknown").is_empty() {
        return "all".into();
    }
    let worst = number(loss, "worst_ms").unwrap_or_default().max(0);
    // Rounded up to a tenth of a second: what is typed must not be smaller than what is shown.
    let tenths = (worst + 99) / 100;
    match tenths % 10 {
        0 => format!("{}s", tenths / 10),
        tenth => format!("{}.{tenth}s", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::span;
    use serde_json::json;

    fn loss() -> Value {
        json!({"at": 0, "records": 12, "bytes": 20_480, "events": 9, "devices": 64, "devices_cut": true,
            "kinds": {"telemetry": 9, "t": 3, "q": 1, "x": 1}, "span_ms": 850, "age_ms": 1200, "worst_ms": 2050,
            "partitions": [{"partition": 0, "known_lsn": 90, "have_lsn": 78, "records": 12},
                {"partition": 1, "known_lsn": 5, "have_lsn": 5, "records": 0}]})
    }

    #[test]
    fn every_figure_of_the_loss_is_told() {
        let all = lines(&loss()).join("\n");
        for part in [
            "12 (9 events)",
            "20 KiB",
            "850 ms before",
            "at least 64",
            "C2D queue entries 2, telemetry 9, twins 3",
            "1.2 s ago",
            "2.1 s of writes",
            "partition 0   12 records: the primary was at 90, the secondary is at 78",
        ] {
            assert!(all.contains(part), "`{part}` in:\n{all}");
        }
        assert!(!all.contains("partition 1"), "{all}");
        let mut unknown = loss();
        unknown["unknown"] = json!([2, 3]);
        assert!(lines(&unknown).join("\n").contains("partitions 2, 3"));
        assert_eq!(least(&unknown), "all");
    }

    #[test]
    fn the_least_bound_covers_what_is_shown() {
        assert_eq!(least(&loss()), "2.1s");
        for worst in [0, 1, 99, 100, 101, 2_000, 2_001, 61_234] {
            let typed = least(&json!({ "worst_ms": worst }));
            assert!(span::parse(&typed) >= Some(worst), "{worst}: {typed}");
        }
    }
}
