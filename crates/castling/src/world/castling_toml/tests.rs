use super::*;

fn name(text: &str) -> RegionName {
    RegionName::parse(text).unwrap()
}

/// What docs/formats/config.md shows: `castling init` for two regions and a witness.
fn example(node: &str) -> String {
    let member = |node: &str, witness, host: &str| Member {
        name: name(node),
        witness,
        link: format!("{host}:8445"),
    };
    render(&Told {
        node: &name(node),
        nodes: &[
            member("westus2", false, "a.example.org"),
            member("westcentralus", false, "b.example.org"),
            member("witness", true, "w.example.org"),
        ],
        deployment: &Deployment {
            id: "0123456789abcdef0123456789abcdef".into(),
            domain: "hubs.example.org".into(),
            tenant: "00000000-0000-4000-8000-000000000001".into(),
            subscription: "00000000-0000-4000-8000-000000000002".into(),
            client_id: "00000000-0000-4000-8000-000000000003".into(),
            object_id: "00000000-0000-4000-8000-000000000004".into(),
            secret_sha256: "00".repeat(32),
            secret_salt: "0123456789abcdef0123456789abcdef".into(),
        },
        listen: &Listen {
            address: "0.0.0.0".parse().unwrap(),
            link_port: LINK_PORT,
            management_port: MANAGEMENT_PORT,
            https_port: HTTPS_PORT,
            mqtt_port: MQTT_PORT,
            plain_mqtt_port: None,
        },
        cooldown: "1h",
        per_day: 2,
        second_approver: false,
        administrator: Some(&Administrator {
            object_id: "00000000-0000-4000-8000-000000000005".into(),
            name: "admin@hubs.example.org".into(),
            password_hash: control::directory::Secret(
                "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
            ),
        }),
    })
}

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text, Path::new("/c"))
}

#[track_caller]
fn refused(change: (&str, &str), names: &str) {
    let text = example("westus2");
    assert!(text.contains(change.0), "the example has no `{}`", change.0);
    let why = parse(&text.replacen(change.0, change.1, 1)).unwrap_err();
    assert!(why.contains(names), "{why}");
}

#[test]
fn what_init_writes_is_read_with_the_defaults_it_shows() {
    let settings = parse(&example("westus2")).unwrap();
    assert_eq!(settings.node, name("westus2"));
    assert_eq!(settings.folder, Path::new("/c/state"));
    assert_eq!(settings.regions(), [name("westus2"), name("westcentralus")]);
    assert_eq!(settings.witnesses(), [name("witness")]);
    assert_eq!(settings.peers()[&name("witness")], "w.example.org:8445");
    assert_eq!(settings.files.link_key, Path::new("/c/pki/link.key"));
    assert_eq!(settings.policy, FailoverPolicy::default());
    assert_eq!(settings.lease_times, LeaseTimes::default());
    assert_eq!(settings.control_times, consensus::Times::default());
    assert!(!settings.is_witness());
    assert!(parse(&example("witness")).unwrap().is_witness());
}

/// Every line that stands behind `# ` and looks like a setting shows a default: uncommenting all of them changes nothing.
#[test]
fn the_defaults_that_are_shown_are_the_defaults() {
    let shown = |line: &&str| {
        let setting = line
            .strip_prefix("# ")
            .and_then(|rest| rest.split_once(" = "));
        setting.is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let without = ["# catalogue", "# plain_mqtt_port"];
    let text = example("westus2");
    let uncommented: Vec<&str> = text
        .lines()
        .map(
            |line| match shown(&line) && !without.iter().any(|none| line.starts_with(none)) {
                true => &line[2..],
                false => line,
            },
        )
        .collect();
    assert!(
        uncommented
            .iter()
            .filter(|line| line.contains("_ms = "))
            .count()
            >= 5
    );
    let (one, other) = (
        parse(&text).unwrap(),
        parse(&uncommented.join("\n")).unwrap(),
    );
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[test]
fn mistakes_are_named() {
    refused(("format = 1", "format = 2"), "format 2");
    refused(("node = \"westus2\"", "node = \"eastus\""), "not among");
    refused(("name = \"westcentralus\"", "name = \"westus2\""), "twice");
    refused(("role = \"witness\"", "role = \"judge\""), "judge");
    refused(
        ("link = \"a.example.org:8445\"", "link = \"a.example.org\""),
        "HOST:PORT",
    );
    refused(("mqtt_port = 8883", "mqtt_prt = 8883"), "mqtt_prt");
    refused(("mqtt_port = 8883", "mqtt_port = 70000"), "mqtt_port");
    refused(("cooldown = \"1h\"", "cooldown = \"soon\""), "cooldown");
    refused(("# lease_ms = 5000", "lease_ms = 3000"), "at least 3400");
    refused(
        ("# heartbeat_ms = 300", "heartbeat_ms = 400"),
        "twice heartbeat_ms",
    );
    refused(("# log = \"info", "log = \"=,info"), "log");
    refused(("[listen]", "[lisen]"), "lisen");
}

#[test]
fn a_mistake_of_form_is_named_with_its_line() {
    refused(("mqtt_port = 8883", "mqtt_port ="), "line");
}

#[test]
fn the_documentation_shows_what_init_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/config.md");
    let document = std::fs::read_to_string(path).unwrap();
    for node in ["westus2", "witness"] {
        let text = example(node);
        let shown = document
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split_once("```"))
            .any(|(block, _)| block == text);
        assert!(
            shown,
            "docs/formats/config.md must contain for {node}:\n{text}"
        );
    }
}
