//! What was seen while a failover or a drill ran, small enough for its report.

use super::Sample;
use crate::iso::iso8601;
use serde_json::{Value, json};
use types::{UnixMillis, limits};

/// Adds what was seen to the report of a single failover, so that its page has curves too.
pub fn attach(report: &mut Value, samples: &[Sample], since: UnixMillis) {
    if let Some(fields) = report.as_object_mut() {
        fields.insert("samples".into(), rows(samples, since));
    }
}

/// Samples as rows relative to `since`, at most [`limits::DRILL_SAMPLES_KEPT_MAX`]; each row is the worst of those it stands
/// for, so that no pause is averaged away. Null when there are none. Of more than [`limits::DRILL_SAMPLES_MAX`] the first are
/// taken.
pub(super) fn rows(samples: &[Sample], since: UnixMillis) -> Value {
    let samples = &samples[..samples.len().min(limits::DRILL_SAMPLES_MAX)];
    if samples.is_empty() {
        return Value::Null;
    }
    let together = samples.len().div_ceil(limits::DRILL_SAMPLES_KEPT_MAX);
    let rows: Vec<Value> = samples
        .chunks(together)
        .map(|chunk| {
            let worst = worst(chunk);
            json!([
                worst.at.since(since),
                tenths(worst.acknowledged_per_s),
                worst.lag_records,
                worst.lag_ms,
                worst.connected
            ])
        })
        .collect();
    json!({
        "since": iso8601(since),
        "taken": samples.len(),
        "columns": ["atMs", "acknowledgedPerS", "lagRecords", "lagMs", "connected"],
        "rows": rows,
    })
}

/// The lowest rate, the greatest lag, the fewest connected, at the first instant.
fn worst(chunk: &[Sample]) -> Sample {
    let mut worst = chunk.first().copied().unwrap_or_default();
    for sample in chunk {
        worst.acknowledged_per_s = worst.acknowledged_per_s.min(sample.acknowledged_per_s);
        worst.lag_records = worst.lag_records.max(sample.lag_records);
        worst.lag_ms = worst.lag_ms.max(sample.lag_ms);
        worst.connected = worst.connected.min(sample.connected);
    }
    worst
}

/// The longest time between two samples with acknowledgements, in milliseconds, where one without lies between; `None` when
/// nothing was ever acknowledged.
pub(super) fn silent_ms(samples: &[Sample]) -> Option<i64> {
    let mut heard: Option<UnixMillis> = None;
    let (mut longest, mut silent) = (0, false);
    for sample in samples {
        if sample.acknowledged_per_s > 0.0 {
            if let Some(before) = heard.filter(|_| silent) {
                longest = longest.max(sample.at.since(before));
            }
            (heard, silent) = (Some(sample.at), false);
        } else {
            silent = true;
        }
    }
    heard.map(|_| longest)
}

/// A rate to one decimal; what is no number counts as zero.
pub(super) fn tenths(rate: f64) -> f64 {
    if rate.is_finite() {
        (rate * 10.0).round() / 10.0
    } else {
        0.0
    }
}
