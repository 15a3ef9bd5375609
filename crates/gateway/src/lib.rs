//! MQTT and HTTPS for devices and services.
//!
//! Both surfaces speak to the hub through one contract, [`backend::Backend`]; neither knows where the hub's primary is.

pub mod backend;
pub mod http;
pub mod mqtt;
mod routing;
