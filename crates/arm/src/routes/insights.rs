//! The activity log.

use super::*;

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    missing("GET", subscription!("/providers/microsoft.insights/eventtypes/management/values"), "ActivityLogs_List"),
];
