//! The activity log.

use super::*;

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    open("GET", "/openapi.json", "OpenApi_Get", crate::openapi::serve),
    missing("GET", subscription!("/providers/microsoft.insights/eventtypes/management/values"), "ActivityLogs_List"),
];
