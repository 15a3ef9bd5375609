//! The activity log: as `az monitor activity-log list` reads it, and whole, as JSON lines with its chain of hashes.

mod event;
mod filter;

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use control::access::rights::covers;
use control::activity::lines::{Gap, Line};
use control::model::Activity;
use filter::Filter;
use serde_json::{Value, json};
use types::limits;
use wire::percent;

pub const READ: &str = "Microsoft.Insights/eventtypes/values/read";

/// Entries of a subscription that the caller may see, the latest first.
pub fn list(call: &Call) -> Outcome {
    let subscription = &call.subscription()?.id;
    let scope = format!("/subscriptions/{subscription}");
    let filter = Filter::read(call.query("$filter").unwrap_or_default())?;
    let select = select(call.query("$select").unwrap_or_default())?;
    let top = number(call, "$top", limits::ACTIVITY_PAGE_MAX as u64)?
        .clamp(1, limits::ACTIVITY_PAGE_MAX as u64) as usize;
    let below = number(call, "$skiptoken", u64::MAX)?;
    let everything = call.may(READ, &scope);
    let mut found = call.state.activity.iter().rev().filter(|entry| {
        entry.number < below
            && covers(&scope, &entry.resource)
            && filter.passes(entry)
            && (everything || call.may(READ, &entry.resource))
    });
    let page: Vec<&Activity> = found.by_ref().take(top).collect();
    let more = found.next().is_some();
    let events: Vec<Value> = page
        .iter()
        .map(|entry| selected(event::body(call, subscription, entry), &select))
        .collect();
    let mut body = json!({ "value": events });
    // Entries from before there were numbers have no place to go on from.
    if let Some(last) = page.last().filter(|last| more && last.number > 0) {
        body["nextLink"] = next_link(call, subscription, top, last.number).into();
    }
    answer::ok(&body)
}

fn next_link(call: &Call, subscription: &str, top: usize, number: u64) -> String {
    let mut link = format!(
        "https://{}/subscriptions/{}/providers/microsoft.insights/eventtypes/management/values?api-version={}&$top={top}&$skiptoken={number}",
        call.host,
        percent::encode(subscription),
        percent::encode(call.query("api-version").unwrap_or("2015-04-01")),
    );
    for name in ["$filter", "$select"] {
        if let Some(value) = call.query(name) {
            link.push_str(&format!("&{name}={}", percent::encode(value)));
        }
    }
    link
}

/// Entries in their order from number `from` on, at most `$top` (1 000 unless told), as JSON lines. Nothing: there are no later ones.
pub fn export(call: &Call) -> Outcome {
    let from = number(call, "from", 1)?.max(1);
    let most = limits::ACTIVITY_LOG_ENTRIES_MAX as u64;
    let top = number(call, "$top", 1_000)?.clamp(1, most) as usize;
    let state = &call.state;
    let numbered = state.activity.iter().filter(|entry| entry.number > 0);
    let mut text = String::new();
    if let Some(first) = numbered.clone().next().filter(|first| first.number > from) {
        let gap = Gap {
            after: from - 1,
            before: first.number,
            hash: state.activity_before.clone(),
            why: "older entries are kept in the regions' files only".into(),
        };
        text.push_str(&Line::Gap { gap }.text());
    }
    for entry in numbered.filter(|entry| entry.number >= from).take(top) {
        text.push_str(&Line::Entry(Box::new(entry.clone())).text());
    }
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn number(call: &Call, name: &str, usual: u64) -> Result<u64, Failure> {
    match call
        .query(name)
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| {
            Failure::bad(
                "InvalidQueryParameter",
                format!(
                    "'{name}' must be a number that is not negative, not '{}'.",
                    shown(text)
                ),
            )
        }),
    }
}

/// The fields that are asked for; none: all.
fn select(text: &str) -> Result<Vec<&'static str>, Failure> {
    let wrong = |name: &str| {
        Failure::bad(
            "InvalidSelectInQueryString",
            format!(
                "'{}' is no field of an event. Fields are: {}.",
                shown(name),
                event::FIELDS.join(", ")
            ),
        )
    };
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = event::FIELDS
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name));
            known.copied().ok_or_else(|| wrong(name))
        })
        .collect()
}

fn selected(mut event: Value, select: &[&str]) -> Value {
    if let (Value::Object(fields), false) = (&mut event, select.is_empty()) {
        fields.retain(|name, _| select.contains(&name.as_str()));
    }
    event
}
