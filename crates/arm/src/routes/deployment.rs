//! The deployment itself.

use super::*;
use crate::deployment_regions;

#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    of_anyone("GET", "/providers/Castling.Deployment/regions", "Regions_List", deployment_regions::list),
];
