//! `castling twin …`.

use super::Context;
use super::failure::Failure;
use super::json::text;
use super::service::Service;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use ureq::http::Method;

#[derive(Subcommand)]
pub enum Twin {
    /// Show a device's twin: tags, desired and reported properties
    Show { hub: String, device: String },
    /// Change tags or desired properties; null removes a key
    #[command(after_help = "Examples:
  castling twin update my-hub thermostat-1 --desired '{\"interval\":30}'
  castling twin update my-hub thermostat-1 --tags '{\"floor\":3,\"old\":null}'")]
    Update {
        hub: String,
        device: String,
        /// Desired properties to merge, a JSON object
        #[arg(long, value_name = "JSON", value_parser = object, required_unless_present = "tags")]
        desired: Option<Value>,
        /// Tags to merge, a JSON object
        #[arg(long, value_name = "JSON", value_parser = object)]
        tags: Option<Value>,
    },
}

pub fn run(command: &Twin, context: &Context) -> Result<(), Failure> {
    match command {
        Twin::Show { hub, device } => {
            let service = Service::open(&context.network, hub)?;
            let twin = service
                .call(Method::GET, &path(device), &[], None)?
                .json()?;
            show(&twin, context)
        }
        Twin::Update {
            hub,
            device,
            desired,
            tags,
        } => {
            let service = Service::open(&context.network, hub)?;
            let body = patch(desired.as_ref(), tags.as_ref()).to_string();
            let headers = [("content-type", "application/json".to_owned())];
            let twin = service
                .call(
                    Method::PATCH,
                    &path(device),
                    &headers,
                    Some(body.as_bytes()),
                )?
                .json()?;
            show(&twin, context)
        }
    }
}

fn path(device: &str) -> String {
    format!("/twins/{}", wire::percent::encode(device))
}

fn patch(desired: Option<&Value>, tags: Option<&Value>) -> Value {
    let mut body = Map::new();
    if let Some(tags) = tags {
        body.insert("tags".into(), tags.clone());
    }
    if let Some(desired) = desired {
        body.insert("properties".into(), json!({ "desired": desired }));
    }
    Value::Object(body)
}

fn show(twin: &Value, context: &Context) -> Result<(), Failure> {
    context.out.show(twin, |out| {
        out.pairs(&[
            ("Device", text(twin, "deviceId")),
            ("Status", text(twin, "status")),
            ("Connection", text(twin, "connectionState")),
            ("Version", text(twin, "version")),
        ])?;
        for (title, path) in [
            ("Tags", "tags"),
            ("Desired", "properties.desired"),
            ("Reported", "properties.reported"),
        ] {
            let section = super::json::at(twin, path)
                .cloned()
                .unwrap_or_else(|| json!({}));
            out.line(format!("\n{title}\n{:#}", without_metadata(section)))?;
        }
        Ok(())
    })
}

fn without_metadata(mut section: Value) -> Value {
    if let Some(fields) = section.as_object_mut() {
        fields.remove("$metadata");
    }
    section
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("it must be a JSON object, such as {\"key\":1}".into()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_only_what_was_asked() {
        let desired = json!({"a": null});
        assert_eq!(
            patch(Some(&desired), None),
            json!({"properties": {"desired": {"a": null}}})
        );
        assert_eq!(patch(None, Some(&desired)), json!({"tags": {"a": null}}));
    }

    #[test]
    fn only_objects_are_taken() {
        assert!(object("{}").is_ok());
        for bad in ["[]", "1", "{", ""] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }
}
