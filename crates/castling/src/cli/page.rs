//! Saves a report as a page for a browser.

use super::Context;
use super::failure::Failure;
use super::management::Management;
use serde_json::json;
use std::path::Path;

/// Fetches the page of a report and writes it to `file`.
///
/// # Errors
/// The service's refusal, or that the file cannot be written.
pub fn save(
    management: &Management<'_>,
    report: &str,
    file: &Path,
    context: &Context,
) -> Result<(), Failure> {
    let page = management.page(report)?;
    std::fs::write(file, &page)
        .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    let document = json!({ "file": file, "bytes": page.len() });
    context.out.show(&document, |out| {
        out.line(format!("The report is in {}.", file.display()))
    })
}
