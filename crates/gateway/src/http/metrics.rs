//! What the HTTP edge counts, in Prometheus text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

macro_rules! families {
    ($($name:ident = $label:literal,)*) => {
        /// What a request is about; a label with few values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Family { $($name,)* }

        const LABELS: &[&str] = &[$($label,)*];
    };
}

families! {
    DeviceTelemetry = "device_telemetry",
    DeviceC2d = "device_c2d",
    Registry = "registry",
    Twins = "twins",
    Statistics = "statistics",
    C2d = "c2d",
    Feedback = "feedback",
    Events = "events",
    Other = "other",
}

impl Family {
    /// Its GETs change nothing and can be answered from what is stored.
    pub(super) fn is_readable(self) -> bool {
        matches!(self, Family::Registry | Family::Twins | Family::Statistics)
    }
}

/// Answers of status 2xx, 4xx, 5xx.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

#[derive(Debug, Default)]
struct Figures {
    answers: [AtomicU64; CLASSES.len()],
    micros: AtomicU64,
}

/// Counters of the HTTP edge of one gateway process; shared by its listeners.
#[derive(Debug, Default)]
pub struct Metrics {
    families: [Figures; LABELS.len()],
    in_progress: AtomicU64,
}

/// Counts a request as in progress until it is dropped, also when its client goes away.
pub(super) struct InProgress<'a>(&'a AtomicU64);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub(super) fn begin(&self) -> InProgress<'_> {
        self.in_progress.fetch_add(1, Relaxed);
        InProgress(&self.in_progress)
    }

    pub(super) fn record(&self, family: Family, status: u16, took: Duration) {
        let figures = &self.families[family as usize];
        let class = match status {
            500.. => 2,
            400..500 => 1,
            _ => 0,
        };
        figures.answers[class].fetch_add(1, Relaxed);
        figures
            .micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.families.iter().map(Figures::count).sum()
    }

    /// Appends every figure in Prometheus text format.
    pub fn render(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = self.write(out);
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = "castling_http_in_progress";
        writeln!(
            out,
            "# HELP {name} Requests being answered.\n# TYPE {name} gauge"
        )?;
        writeln!(out, "{name} {}", self.in_progress.load(Relaxed))?;
        let name = "castling_http_requests_total";
        writeln!(
            out,
            "# HELP {name} Requests answered.\n# TYPE {name} counter"
        )?;
        for (label, figures) in LABELS.iter().zip(&self.families) {
            for (class, answers) in CLASSES.iter().zip(&figures.answers) {
                writeln!(
                    out,
                    "{name}{{family=\"{label}\",status=\"{class}\"}} {}",
                    answers.load(Relaxed)
                )?;
            }
        }
        let name = "castling_http_request_seconds";
        writeln!(
            out,
            "# HELP {name} Time to answer a request.\n# TYPE {name} summary"
        )?;
        for (label, figures) in LABELS.iter().zip(&self.families) {
            let seconds = figures.micros.load(Relaxed) as f64 / 1e6;
            writeln!(out, "{name}_sum{{family=\"{label}\"}} {seconds}")?;
            writeln!(
                out,
                "{name}_count{{family=\"{label}\"}} {}",
                figures.count()
            )?;
        }
        Ok(())
    }
}

impl Figures {
    fn count(&self) -> u64 {
        self.answers
            .iter()
            .map(|answers| answers.load(Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rendered_by_family_and_status() {
        let metrics = Metrics::default();
        let busy = metrics.begin();
        metrics.record(Family::Twins, 404, Duration::from_millis(1500));
        metrics.record(Family::Other, 503, Duration::ZERO);
        let mut text = String::new();
        metrics.render(&mut text);
        for expected in [
            "castling_http_in_progress 1\n",
            "castling_http_requests_total{family=\"twins\",status=\"4xx\"} 1\n",
            "castling_http_requests_total{family=\"twins\",status=\"2xx\"} 0\n",
            "castling_http_requests_total{family=\"other\",status=\"5xx\"} 1\n",
            "castling_http_request_seconds_sum{family=\"twins\"} 1.5\n",
            "castling_http_request_seconds_count{family=\"other\"} 1\n",
        ] {
            assert!(text.contains(expected), "missing {expected:?} in\n{text}");
        }
        assert_eq!(metrics.answered(), 2);
        drop(busy);
        assert_eq!(metrics.in_progress.load(Relaxed), 0);
    }
}
