//! Figures of a hub: `/statistics/devices` and `/statistics/service`.

use super::answer::json_of;
use super::auth::Right;
use super::call::Call;
use super::failure::Failure;
use super::route::Answer;
use axum::http::Method;
use futures_util::future::try_join_all;
use hub::command::RegistryCommand;
use hub::{Command, Reply};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Devices {
    total_device_count: u64,
    enabled_device_count: u64,
    disabled_device_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    connected_device_count: u64,
}

#[derive(Default)]
struct Sum {
    total: u64,
    enabled: u64,
    disabled: u64,
    connected: u64,
}

pub(super) async fn devices(call: Call) -> Answer {
    let sum = sum(&call).await?;
    Ok(json_of(&Devices {
        total_device_count: sum.total,
        enabled_device_count: sum.enabled,
        disabled_device_count: sum.disabled,
    }))
}

pub(super) async fn service(call: Call) -> Answer {
    let sum = sum(&call).await?;
    Ok(json_of(&Service {
        connected_device_count: sum.connected,
    }))
}

async fn sum(call: &Call) -> Result<Sum, Failure> {
    if call.method != Method::GET {
        return Err(Failure::method_not_allowed("GET"));
    }
    call.authorize(Right::RegistryRead)?;
    let asked = call
        .partitions()
        .map(|partition| call.ask(partition, Command::Registry(RegistryCommand::Statistics)));
    let mut sum = Sum::default();
    for reply in try_join_all(asked).await? {
        let Reply::Statistics {
            total,
            enabled,
            disabled,
            connected,
        } = reply
        else {
            return Err(Failure::unexpected_reply());
        };
        sum.total += total;
        sum.enabled += enabled;
        sum.disabled += disabled;
        sum.connected += connected;
    }
    Ok(sum)
}
