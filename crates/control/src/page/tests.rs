use super::*;
use crate::drill::{Sample, attach};
use crate::testing::*;
use serde_json::json;
use types::UnixMillis;

fn planned() -> Value {
    let mut state = active_hub();
    switch(&mut state, "op", "east", 10_000);
    state.operations["op"].report.clone().unwrap()
}

fn forced(came_back: bool) -> Value {
    let mut state = active_hub();
    force(&mut state, "op", "east", 10_000);
    if came_back {
        let command = returned("op", "west", vec![lost_range(0, 4)]);
        state.apply(&request("", 20_000, command));
    }
    state.operations["op"].report.clone().unwrap()
}

fn drill_report() -> Value {
    let leg = planned();
    json!({
        "format": 1, "kind": "drill", "drill": "d", "hub": "Hub-One", "outcome": "Succeeded",
        "from": "west", "to": "east", "by": "op", "reason": "r", "holdMs": 60_000,
        "started": "1970-01-01T00:00:10.000Z", "ended": "1970-01-01T00:00:12.000Z",
        "measured": { "recoveryMs": 80, "lostRecords": 0 },
        "invariants": [{ "name": "nothing is lost", "holds": true, "detail": "all equal" }],
        "legs": [leg, null],
        "samples": { "since": "1970-01-01T00:00:10.000Z", "rows": [[0, 5.5, 0, 1, 9], [900, 0, 2, 40, 9]] },
    })
}

/// Tags that are opened are closed in their order, and attributes are quoted: a document that any reader takes.
fn check_well_formed(html: &str) {
    const ALONE: [&str; 2] = ["!DOCTYPE", "meta"];
    let mut open: Vec<&str> = Vec::new();
    let body = html.replace("<style>\n", "<style>").replace(STYLE, "");
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "a stray > in: {text}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') && !ALONE.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn pages_are_well_formed_and_need_nothing_from_outside() {
    let mut with_curves = planned();
    let sample = |n: i64| Sample {
        at: UnixMillis(10_000 + n),
        acknowledged_per_s: n as f64,
        lag_records: 0,
        lag_ms: n,
        connected: 7,
    };
    let samples: Vec<_> = (0..12).map(sample).collect();
    attach(&mut with_curves, &samples, UnixMillis(10_000));
    for report in [
        planned(),
        with_curves,
        forced(false),
        forced(true),
        drill_report(),
        json!({}),
    ] {
        let page = report_html(&report);
        check_well_formed(&page);
        for outside in [
            "<script", "http:", "https:", "src=", "href=", "url(", "@import",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}

#[test]
fn the_page_of_a_planned_failover_shows_who_why_figures_steps_and_checks() {
    let page = report_html(&planned());
    for text in [
        "Planned failover of Hub-One: west → east",
        "<dt>Asked for by</dt><dd>tester</dd>",
        "<dt>Reason</dt><dd>drill</dd>",
        "<dt>Epoch</dt><dd>1 → 2</dd>",
        "<dt>Records lost (RPO)</dt><dd>0</dd>",
        "catchup",
        "primary-reachable",
        "<title>fence: ",
        "class=\"pause\"",
        "<span class=\"good\">equal</span>",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("polyline"), "there were no samples");
    assert!(!page.contains("Accepted"));
}

#[test]
fn the_page_of_a_forced_failover_shows_the_loss_before_and_after_the_return() {
    let before = report_html(&forced(false));
    for text in [
        "Forced failover of Hub-One",
        "<dt>Accepted</dt><dd>everything</dd>",
        "about 3: the old primary has not returned",
        "Shown to the operator",
        "Wait for the old lease",
    ] {
        assert!(before.contains(text), "{text}");
    }
    let after = report_html(&forced(true));
    for text in [
        "<dt>Records lost (RPO)</dt><dd>4</dd>",
        "Found when it returned",
        "11 – 14",
        "<dt>Old primary returned</dt><dd>1970-01-01T00:00:20.000Z</dd>",
    ] {
        assert!(after.contains(text), "{text}");
    }
}

#[test]
fn the_page_of_a_drill_shows_curves_invariants_and_its_legs() {
    let page = report_html(&drill_report());
    for text in [
        "Drill of Hub-One: west → east",
        "nothing is lost",
        "<span class=\"good\">holds</span>",
        "<article>",
        "acknowledged/s",
        "connected",
        "at most 40",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.matches("<svg").count() == 2);
    assert!(page.matches("<polyline").count() >= 3);
}

#[test]
fn whatever_stands_in_a_report_is_text_on_the_page() {
    let evil = "<img src=x onerror=\"alert('1')\">&\u{0}";
    fn poison(value: &mut Value, evil: &str) {
        match value {
            Value::String(text) if crate::iso::parse_iso8601(text).is_none() => {
                text.push_str(evil);
            }
            Value::Array(all) => all.iter_mut().for_each(|v| poison(v, evil)),
            Value::Object(all) => all.values_mut().for_each(|v| poison(v, evil)),
            _ => {}
        }
    }
    for mut report in [planned(), forced(true), drill_report()] {
        let kind = report["kind"].clone();
        poison(&mut report, evil);
        for kind in [kind, report["kind"].clone()] {
            report["kind"] = kind;
            let page = report_html(&report);
            check_well_formed(&page);
            assert!(!page.contains("<img") && !page.contains('\u{0}'));
            assert!(page.contains("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;"));
        }
    }
}

#[test]
fn reports_of_another_shape_give_a_page_all_the_same() {
    let wrong = json!({
        "kind": 7, "started": "yesterday", "ended": [], "steps": {}, "legs": "none",
        "samples": { "since": 1, "rows": [1, [], ["a"]] }, "checks": [1, 2], "partitions": [null],
        "error": "text", "lost": { "records": -1 }, "positions": [[]], "invariants": [5],
    });
    check_well_formed(&report_html(&wrong));
    let mut backwards = planned();
    backwards["ended"] = json!("1970-01-01T00:00:00.000Z");
    backwards["pauseMs"] = json!(i64::MAX);
    backwards["samples"] = json!({
        "since": "1970-01-01T00:00:00.000Z",
        "rows": [[i64::MAX, 1, 1, 1, 1], [0, -5, 0, -5, 1], [1, 1e300, 0, 1, 1]],
    });
    let page = report_html(&backwards);
    check_well_formed(&page);
    assert!(!page.contains("NaN") && !page.contains(",inf"));
    for bad in [json!(null), json!([]), json!("text"), json!(5)] {
        check_well_formed(&report_html(&bad));
    }
}
