//! The activity log.

use super::*;
use crate::activity;

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    open("GET", "/openapi.json", "OpenApi_Get", crate::openapi::serve),
    filtered(read("GET", subscription!("/providers/microsoft.insights/eventtypes/management/values"), "ActivityLogs_List", activity::READ, activity::list)),
    read("GET", "/providers/Castling.Deployment/activity", "Activity_Export", "Castling.Deployment/activity/read", activity::export),
];
