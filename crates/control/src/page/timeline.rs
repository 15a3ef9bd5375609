//! The timeline as a picture: steps and pause above, acknowledged rate, lag and connected devices below, on one axis of time.

use super::markup::{escape, items, text};
use crate::iso::{parse_iso8601, span};
use serde_json::Value;
use std::fmt::Write;

const WIDTH: f64 = 1000.0;
/// Room for names on the left, and for the end of the axis on the right.
const LEFT: f64 = 130.0;
const RIGHT: f64 = 20.0;
const AXIS_HEIGHT: f64 = 24.0;
const STEP_HEIGHT: f64 = 18.0;
const LANE_HEIGHT: f64 = 70.0;
const TICKS: u32 = 6;
/// A step shorter than this is still to be seen.
const STEP_WIDTH_MIN: f64 = 2.0;

/// The instants shown, in milliseconds.
#[derive(Clone, Copy)]
struct Window {
    from: i64,
    to: i64,
}

impl Window {
    /// With a little room on both sides; at least one millisecond long.
    fn around(from: i64, to: i64) -> Self {
        let room = (to.saturating_sub(from) / 12).max(1);
        Window {
            from: from.saturating_sub(room),
            to: to.saturating_add(room),
        }
    }

    fn x(self, at: i64) -> f64 {
        let length = self.to.saturating_sub(self.from).max(1) as f64;
        let part = at.saturating_sub(self.from) as f64 / length;
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn shows(self, at: i64) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// Something that took a while.
struct Bar {
    name: String,
    from: i64,
    to: i64,
}

struct Sample {
    at: i64,
    values: [f64; 3],
}

pub(super) fn of_failover(report: &Value) -> String {
    let (Some(from), Some(to)) = (instant(&report["started"]), instant(&report["ended"])) else {
        return String::new();
    };
    draw(
        report,
        Window::around(from, to),
        &steps(report),
        &pauses(report),
    )
}

/// The whole drill: its legs as bars; their steps are in the pictures of the legs.
pub(super) fn of_drill(report: &Value) -> String {
    let (Some(from), Some(to)) = (instant(&report["started"]), instant(&report["ended"])) else {
        return String::new();
    };
    let legs = items(&report["legs"]);
    let bars: Vec<Bar> = legs
        .iter()
        .filter_map(|leg| {
            Some(Bar {
                name: format!("to {}", text(&leg["to"])),
                from: instant(&leg["started"])?,
                to: instant(&leg["ended"])?,
            })
        })
        .collect();
    let pauses: Vec<Bar> = legs.iter().flat_map(pauses).collect();
    draw(report, Window::around(from, to), &bars, &pauses)
}

fn instant(value: &Value) -> Option<i64> {
    parse_iso8601(value.as_str()?).map(|at| at.0)
}

fn steps(report: &Value) -> Vec<Bar> {
    let bar = |step: &Value| {
        let from = instant(&step["started"])?;
        Some(Bar {
            name: text(&step["name"]),
            from,
            to: instant(&step["ended"]).unwrap_or(from),
        })
    };
    items(&report["steps"]).iter().filter_map(bar).collect()
}

/// The time without acknowledgements: from the step that begins it, as long as the report says.
fn pauses(report: &Value) -> Vec<Bar> {
    let begun = steps(report)
        .into_iter()
        .find(|step| step.name == "fence" || step.name == "lease");
    let lasted = report["pauseMs"].as_i64();
    begun
        .zip(lasted)
        .map(|(begun, lasted)| Bar {
            name: format!("pause {}", span(lasted)),
            from: begun.from,
            to: begun.from.saturating_add(lasted),
        })
        .into_iter()
        .collect()
}

fn samples(report: &Value, window: Window) -> Vec<Sample> {
    let samples = &report["samples"];
    let Some(base) = instant(&samples["since"]) else {
        return Vec::new();
    };
    let read = |row: &Value| {
        let number = |at: usize| {
            row[at]
                .as_f64()
                .filter(|n| n.is_finite())
                .map(|n| n.max(0.0))
        };
        let at = base.saturating_add(row[0].as_i64()?);
        window.shows(at).then_some(())?;
        Some(Sample {
            at,
            values: [number(1)?, number(3)?, number(4)?],
        })
    };
    items(&samples["rows"]).iter().filter_map(read).collect()
}

fn draw(report: &Value, window: Window, bars: &[Bar], pauses: &[Bar]) -> String {
    let samples = samples(report, window);
    let steps_end = AXIS_HEIGHT + bars.len() as f64 * STEP_HEIGHT;
    let lanes = if samples.is_empty() { 0.0 } else { 3.0 };
    let height = steps_end + lanes * LANE_HEIGHT + 10.0;
    let mut inside = axis(window, height);
    for pause in pauses {
        inside.push_str(&band(window, pause, height));
    }
    for (row, bar) in bars.iter().enumerate() {
        inside.push_str(&step(window, bar, AXIS_HEIGHT + row as f64 * STEP_HEIGHT));
    }
    if !samples.is_empty() {
        let lane = |name, class, which: usize, top| {
            let points: Vec<_> = samples.iter().map(|s| (s.at, s.values[which])).collect();
            curve(window, name, class, &points, top)
        };
        inside.push_str(&lane("acknowledged/s", "rate", 0, steps_end));
        inside.push_str(&lane("lag, ms", "lag", 1, steps_end + LANE_HEIGHT));
        inside.push_str(&lane("connected", "held", 2, steps_end + 2.0 * LANE_HEIGHT));
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n{inside}</svg>\n",
        escape(&format!(
            "Timeline over {}: steps, pause, acknowledged rate, lag and connected devices. The tables below say the same.",
            span(window.to.saturating_sub(window.from))
        ))
    )
}

fn axis(window: Window, height: f64) -> String {
    let length = window.to.saturating_sub(window.from);
    let mut out = String::new();
    for tick in 0..=TICKS {
        let offset = length / i64::from(TICKS) * i64::from(tick);
        let x = window.x(window.from.saturating_add(offset));
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"18\" x2=\"{x:.1}\" y2=\"{height:.0}\"/>\
             <text class=\"soft\" x=\"{x:.1}\" y=\"13\" text-anchor=\"middle\">+{}</text>",
            escape(&span(offset))
        );
    }
    out
}

fn band(window: Window, pause: &Bar, height: f64) -> String {
    let (from, to) = (window.x(pause.from), window.x(pause.to));
    format!(
        "<rect class=\"pause\" x=\"{from:.1}\" y=\"18\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>\n",
        (to - from).max(STEP_WIDTH_MIN),
        height - 18.0,
        escape(&pause.name)
    )
}

fn step(window: Window, bar: &Bar, top: f64) -> String {
    let (from, to) = (window.x(bar.from), window.x(bar.to));
    let name = escape(&bar.name);
    let took = escape(&span(bar.to.saturating_sub(bar.from)));
    format!(
        "<text x=\"8\" y=\"{:.1}\">{name}</text>\
         <rect class=\"step\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\">\
         <title>{name}: {took}</title></rect>\n",
        top + 13.0,
        top + 3.0,
        (to - from).max(STEP_WIDTH_MIN),
        STEP_HEIGHT - 6.0
    )
}

fn curve(window: Window, name: &str, class: &str, points: &[(i64, f64)], top: f64) -> String {
    let most = points
        .iter()
        .fold(0.0_f64, |most, (_, value)| most.max(*value));
    let (floor, room) = (top + LANE_HEIGHT - 8.0, LANE_HEIGHT - 22.0);
    let mut path = String::new();
    for (at, value) in points {
        // An empty scale draws along the floor.
        let part = if most > 0.0 { value / most } else { 0.0 };
        let _ = write!(path, "{:.1},{:.1} ", window.x(*at), floor - part * room);
    }
    format!(
        "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{floor:.1}\" x2=\"{:.1}\" y2=\"{floor:.1}\"/>\
         <text x=\"8\" y=\"{:.1}\">{name}</text>\
         <text class=\"soft\" x=\"8\" y=\"{:.1}\">at most {most:.0}</text>\
         <polyline class=\"curve {class}\" points=\"{}\"/>\n",
        WIDTH - RIGHT,
        top + 24.0,
        top + 40.0,
        path.trim_end()
    )
}
