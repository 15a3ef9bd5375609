//! Reports as they were written: JSON, or a page for those who ask for HTML.

use crate::answer;
use crate::call::Call;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use control::page::report_html;
use serde_json::Value;

/// 200 with the report in the form that the request prefers: HTML if it accepts that before JSON, else JSON.
pub fn answer(call: &Call, report: &Value) -> Response {
    let mut response = match wants_html(call.header("accept").unwrap_or_default()) {
        true => page(report),
        false => answer::json(StatusCode::OK, report),
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().insert(header::VARY, vary);
    response
}

fn page(report: &Value) -> Response {
    let mut response = Response::new(Body::from(report_html(report)));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// HTML is named, and not after JSON. A client that takes anything gets JSON, as everywhere in this API.
fn wants_html(accept: &str) -> bool {
    let weight = |wanted: &str| {
        let of = |entry: &str| {
            let mut parts = entry.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|kind| kind.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
            named.then(|| weight.unwrap_or(1.0))
        };
        accept.split(',').filter_map(of).fold(0.0, f64::max)
    };
    let html = weight("text/html");
    html > 0.0 && html > weight("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_given_to_those_who_prefer_it() {
        for (accept, html) in [
            ("text/html", true),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("application/json;q=0.5, Text/HTML", true),
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/html", false),
            ("text/html;q=0", false),
            ("text/html;q=nonsense;, ;;", true),
        ] {
            assert_eq!(wants_html(accept), html, "{accept}");
        }
    }
}
