//! A report as a page for people: one file of HTML without scripts, without requests to anywhere, readable in light and dark.
//!
//! Takes the reports of failovers and of drills as they are kept (docs/formats/report.md). What a report does not say is left
//! out, whatever it is: a report of another version gives a page with less on it, never none. Everything that comes from the
//! report is escaped.

mod markup;
mod tables;
mod timeline;

use markup::{escape, millis, text};
use serde_json::Value;

const STYLE: &str = include_str!("page/style.css");

/// The page of a report of a failover or of a drill.
pub fn report_html(report: &Value) -> String {
    let body = if report["kind"] == "drill" {
        drill(report)
    } else {
        failover(report)
    };
    let title = escape(&title(report));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{header}{body}</main>\n\
         <footer>Castling, report format {format}. Times are UTC.</footer>\n</body>\n</html>\n",
        header = header(report),
        format = text(&report["format"]),
    )
}

fn title(report: &Value) -> String {
    format!(
        "{} of {}: {} → {}",
        capitalised(&kind(report)),
        text(&report["hub"]),
        text(&report["from"]),
        text(&report["to"])
    )
}

fn kind(report: &Value) -> String {
    let name = text(&report["kind"]);
    match &report["planned"] {
        Value::Bool(true) => format!("planned {name}"),
        Value::Bool(false) => format!("forced {name}"),
        _ => name,
    }
}

fn capitalised(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

fn header(report: &Value) -> String {
    let outcome = text(&report["outcome"]);
    let good = if outcome == "Succeeded" {
        "good"
    } else {
        "bad"
    };
    format!(
        "<header>\n<h1>{}</h1>\n<p class=\"outcome {good}\">{}</p>\n{}</header>\n",
        escape(&title(report)),
        escape(&outcome),
        tables::error(report)
    )
}

fn failover(report: &Value) -> String {
    [
        section("Who and why", &tables::who(report)),
        section("Measured", &tables::figures(report)),
        section("Loss", &tables::loss(report)),
        section("Timeline", &timeline::of_failover(report)),
        section("Steps", &tables::steps(report)),
        section("Partitions", &tables::partitions(report)),
        section("Checks", &tables::checks(report)),
    ]
    .concat()
}

fn drill(report: &Value) -> String {
    let mut page = [
        section("Who and why", &tables::who(report)),
        section("Measured", &tables::measured(report)),
        section("Invariants", &tables::invariants(report)),
        section("Timeline", &timeline::of_drill(report)),
    ]
    .concat();
    let legs = report["legs"].as_array().map_or(&[][..], Vec::as_slice);
    for leg in legs.iter().filter(|leg| leg.is_object()) {
        // A leg has no samples of its own: it shows its part of the drill's.
        let mut leg = leg.clone();
        if leg["samples"].is_null() {
            leg["samples"] = report["samples"].clone();
        }
        page.push_str(&format!(
            "<article>\n<h2>{} <small>{}, pause {}</small></h2>\n{}</article>\n",
            escape(&title(&leg)),
            escape(&text(&leg["outcome"])),
            escape(&millis(&leg["pauseMs"])),
            failover(&leg)
        ));
    }
    page
}

/// A titled part of the page; nothing when there is nothing to show.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{title}</h2>\n{content}</section>\n")
}

#[cfg(test)]
#[path = "page/tests.rs"]
mod tests;
