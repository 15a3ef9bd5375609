//! Small pieces of HTML from values of a report.

use serde_json::Value;

/// Text as it may stand between tags and inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in a document, and never meant.
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A value for people, not escaped; empty for nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}

/// A span in milliseconds for people; empty when it is not known.
pub(super) fn millis(value: &Value) -> String {
    value.as_i64().map_or_else(String::new, crate::iso::span)
}

/// A list of names and values; empty values are left out, and so is an empty list.
pub(super) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: String = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&value)))
        .collect();
    match rows.is_empty() {
        true => rows,
        false => format!("<dl>\n{rows}</dl>\n"),
    }
}

/// A column of a table: its title, and whether it holds numbers.
pub(super) type Column = (&'static str, bool);

/// A table; nothing when it has no rows. Cells are `(class, text)`; both are escaped here.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<(&str, String)>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let class = |number: bool| if number { " class=\"n\"" } else { "" };
    let head: String = columns
        .iter()
        .map(|(title, number)| format!("<th{}>{}</th>", class(*number), escape(title)))
        .collect();
    let cell = |((_, number), (mark, value)): (&Column, (&str, String))| {
        let value = escape(&value);
        match mark.is_empty() {
            true => format!("<td{}>{value}</td>", class(*number)),
            false => format!(
                "<td{}><span class=\"{}\">{value}</span></td>",
                class(*number),
                escape(mark)
            ),
        }
    };
    let rows: String = rows
        .into_iter()
        .map(|row| {
            let cells: String = columns.iter().zip(row).map(cell).collect();
            format!("<tr>{cells}</tr>\n")
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// The items of a list in a report; none if it is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
