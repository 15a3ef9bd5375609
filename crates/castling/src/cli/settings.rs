//! What `up` may be told, by flags or in a file: one name and one form for both.

use std::net::IpAddr;
use std::path::PathBuf;
use types::RegionName;

/// `None`: not told.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// Address of the first region; the others take the ones after it [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<IpAddr>,
    /// Regions to run, in order, with commas [default: westus2,westcentralus,eastus,westus]
    #[arg(long, value_name = "NAMES", value_parser = regions)]
    pub regions: Option<Regions>,
    /// HTTPS for devices and services [default: 443 where allowed, else 8443; 0: any free one]
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// MQTT over TLS [default: 8883; 0: any free one]
    #[arg(long, value_name = "PORT")]
    pub mqtt_port: Option<u16>,
    /// Management API [default: 8444; 0: any free one]
    #[arg(long, value_name = "PORT")]
    pub management_port: Option<u16>,
    /// MQTT without TLS, on loopback addresses only [default: none]
    #[arg(long, value_name = "PORT")]
    pub plain_mqtt_port: Option<u16>,
    /// Time from the end of a failover to the next, such as 1h, 30s or 0s [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    pub failover_cooldown: Option<i64>,
    /// Failovers a hub may make in 24 hours; failbacks are counted on their own [default: 2]
    #[arg(long, value_name = "COUNT")]
    pub failovers_per_day: Option<u32>,
    /// Have another person approve a failover before it begins [default: no]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub second_approver: Option<bool>,
    /// Hubs that a subscription may have [default: 50]
    #[arg(long, value_name = "COUNT")]
    pub hubs_per_subscription: Option<u32>,
    /// Reads of one principal per minute and region; a quarter of it for everything else [default: 1200]
    #[arg(long, value_name = "COUNT")]
    pub requests_per_minute: Option<u32>,
    /// Hubs are named NAME.DOMAIN [default: castling.localhost]
    #[arg(long, value_name = "NAME", value_parser = domain)]
    pub domain: Option<String>,
    /// Regions and their pairs, as a CSV file [default: a built-in list]
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// What to log to standard error, such as info or debug,openraft=error [default: info,openraft=error,openraft::core::raft_core=off,fjall=warn,lsm_tree=warn]
    #[arg(long, value_name = "FILTER", value_parser = log_filter)]
    pub log: Option<String>,
}

/// Names of regions, none twice, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions(pub Vec<RegionName>);

impl Settings {
    /// What stands here, else what stands in `file`.
    pub fn or(self, file: Settings) -> Settings {
        Settings {
            bind: self.bind.or(file.bind),
            regions: self.regions.or(file.regions),
            https_port: self.https_port.or(file.https_port),
            mqtt_port: self.mqtt_port.or(file.mqtt_port),
            management_port: self.management_port.or(file.management_port),
            plain_mqtt_port: self.plain_mqtt_port.or(file.plain_mqtt_port),
            failover_cooldown: self.failover_cooldown.or(file.failover_cooldown),
            failovers_per_day: self.failovers_per_day.or(file.failovers_per_day),
            second_approver: self.second_approver.or(file.second_approver),
            hubs_per_subscription: self.hubs_per_subscription.or(file.hubs_per_subscription),
            requests_per_minute: self.requests_per_minute.or(file.requests_per_minute),
            domain: self.domain.or(file.domain),
            catalogue: self.catalogue.or(file.catalogue),
            log: self.log.or(file.log),
        }
    }

    /// Sets one by the name of its flag. `Ok(false)`: there is none of this name.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "bind" => {
                self.bind = Some(
                    value
                        .parse()
                        .map_err(|_| format!("`{value}` is not an address"))?,
                )
            }
            "regions" => self.regions = Some(regions(value)?),
            "https-port" => self.https_port = Some(port(value)?),
            "mqtt-port" => self.mqtt_port = Some(port(value)?),
            "management-port" => self.management_port = Some(port(value)?),
            "plain-mqtt-port" => self.plain_mqtt_port = Some(port(value)?),
            "failover-cooldown" => self.failover_cooldown = Some(duration_ms(value)?),
            "failovers-per-day" => {
                self.failovers_per_day = Some(
                    value
                        .parse()
                        .map_err(|_| format!("`{value}` is not a count"))?,
                )
            }
            "second-approver" => {
                self.second_approver = Some(
                    value
                        .parse()
                        .map_err(|_| format!("`{value}` is neither true nor false"))?,
                );
            }
            "hubs-per-subscription" => self.hubs_per_subscription = Some(count(value)?),
            "requests-per-minute" => self.requests_per_minute = Some(count(value)?),
            "domain" => self.domain = Some(domain(value)?),
            "catalogue" => self.catalogue = Some(value.into()),
            "log" => self.log = Some(log_filter(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is not a count"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a port (0 to 65535)"))
}

pub fn regions(text: &str) -> Result<Regions, String> {
    let mut found: Vec<RegionName> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let region = RegionName::parse(name).map_err(|error| format!("`{name}`: {error}"))?;
        if found.contains(&region) {
            return Err(format!("region `{name}` stands twice"));
        }
        found.push(region);
    }
    Ok(Regions(found))
}

pub fn domain(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 200 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "`{text}` is not a domain name: labels of letters, digits and hyphens, separated by dots"
    ))
}

pub fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("`{text}` is not a log filter: {error}")),
    }
}

/// Reads `500ms`, `30s`, `90m`, `1h` or `2d` as milliseconds.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: i64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "`{text}` is not a time: a number with ms, s, m, h or d, such as 30s"
            ));
        }
    };
    let count: Option<i64> = text[..digits].parse().ok();
    // A year is more than any wait here needs, and keeps sums of times in range.
    let millis = count
        .and_then(|count| count.checked_mul(unit))
        .filter(|millis| *millis <= 366 * 86_400_000);
    millis.ok_or_else(|| format!("`{text}` is not a time up to a year, such as 30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("90m", 5_400_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration_ms(text), Ok(millis), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999s",
            "400d",
            "1w",
            "é",
        ] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regions_stand_once() {
        assert_eq!(regions("westus2, eastus").unwrap().0.len(), 2);
        assert!(regions("westus2,westus2").is_err());
        assert!(regions("").is_err());
    }

    #[test]
    fn domains_are_names() {
        assert_eq!(
            domain("Castling.Localhost").as_deref(),
            Ok("castling.localhost")
        );
        for bad in ["", ".", "a..b", "-a", "a_b", "a b"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_flag_says_wins() {
        let flags = Settings {
            mqtt_port: Some(1),
            ..Settings::default()
        };
        let file = Settings {
            mqtt_port: Some(2),
            https_port: Some(3),
            ..Settings::default()
        };
        let both = flags.or(file);
        assert_eq!((both.mqtt_port, both.https_port), (Some(1), Some(3)));
    }
}
