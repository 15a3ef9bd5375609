//! What each operation is for, takes and answers: one row each, one file per family.

mod authorization;
mod devices;
mod directory;
mod failover;
mod identity;
mod resources;
mod templates;

/// What a request or an answer carries.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    Nothing,
    /// A schema.
    Of(&'static str),
    /// `{"value": […]}` of a schema.
    List(&'static str),
    /// A bare array of a schema.
    Array(&'static str),
    /// The word `null`.
    Null,
    /// A form of a schema.
    Form(&'static str),
    /// HTML.
    Page,
    /// JSON, one document a line.
    Lines,
}

pub struct Document {
    pub operation: &'static str,
    pub summary: &'static str,
    /// Query parameters beside the api-version.
    pub query: &'static [&'static str],
    pub request: Option<Body>,
    pub request_is_optional: bool,
    pub answers: &'static [(u16, Body, &'static str)],
}

static TABLES: &[&[Document]] = &[
    authorization::DOCUMENTS,
    identity::DOCUMENTS,
    directory::DOCUMENTS,
    resources::DOCUMENTS,
    devices::DOCUMENTS,
    failover::DOCUMENTS,
    templates::DOCUMENTS,
];

pub fn all() -> impl Iterator<Item = &'static Document> {
    TABLES.iter().flat_map(|table| table.iter())
}

pub fn find(operation: &str) -> Option<&'static Document> {
    all().find(|document| document.operation == operation)
}

/// An operation that takes no body.
const fn ask(
    operation: &'static str,
    summary: &'static str,
    answers: &'static [(u16, Body, &'static str)],
) -> Document {
    Document {
        operation,
        summary,
        query: &[],
        request: None,
        request_is_optional: false,
        answers,
    }
}

/// An operation that takes a body.
const fn send(
    operation: &'static str,
    summary: &'static str,
    request: Body,
    answers: &'static [(u16, Body, &'static str)],
) -> Document {
    Document {
        request: Some(request),
        ..ask(operation, summary, answers)
    }
}

/// An operation that takes a body or none.
const fn may_send(
    operation: &'static str,
    summary: &'static str,
    request: Body,
    answers: &'static [(u16, Body, &'static str)],
) -> Document {
    Document {
        request_is_optional: true,
        ..send(operation, summary, request, answers)
    }
}

/// The same with query parameters.
const fn with_query(query: &'static [&'static str], document: Document) -> Document {
    Document { query, ..document }
}
