//! Which crate may use which: arrows point downward only (ARCHITECTURE.md).

use super::Tree;

/// A crate and all it may use, in any section of its manifest.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("types", &[]),
    ("wire", &["types"]),
    ("hub", &["types"]),
    ("control", &["types"]),
    ("replication", &["types"]),
    ("store", &["types"]),
    ("consensus", &["types"]),
    ("link", &["types"]),
    ("region", REGION),
    ("gateway", &["types", "wire", "hub"]),
    ("arm", &["types", "wire", "control"]),
    ("portal", &["types", "wire", "control"]),
    ("sim", SIM),
    ("castling", ALL),
    ("bench", &["types", "wire"]),
    ("xtask", &[]),
];

const REGION: &[&str] = &[
    "types",
    "hub",
    "control",
    "replication",
    "store",
    "consensus",
    "link",
];
const SIM: &[&str] = &[
    "types",
    "wire",
    "hub",
    "control",
    "replication",
    "store",
    "consensus",
    "link",
    "region",
];
const ALL: &[&str] = &[
    "types",
    "wire",
    "hub",
    "control",
    "replication",
    "store",
    "consensus",
    "link",
    "region",
    "gateway",
    "arm",
    "portal",
];

pub fn check(tree: &Tree, findings: &mut Vec<String>) {
    for file in &tree.files {
        let Some(name) = file
            .path
            .strip_prefix("crates/")
            .and_then(|rest| rest.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(format!(
                "{}: the crate `{name}` has no place in the table of crates/xtask/src/tidy/arrows.rs",
                file.path
            ));
            continue;
        };
        for (line, used) in dependencies(&file.content) {
            let ours = used.strip_prefix("castling-").unwrap_or(used);
            let known = ALLOWED.iter().any(|(known, _)| *known == ours);
            if known && !allowed.contains(&ours) {
                findings.push(format!(
                    "{}:{line}: `{name}` may not use `{ours}`: arrows point downward",
                    file.path
                ));
            }
        }
    }
}

/// Names of dependencies with their lines, of every section that has some.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push((at + 1, name));
            }
            continue;
        }
        if !inside || line.starts_with('#') {
            continue;
        }
        if let Some((name, _)) = line.split_once('=') {
            let name = name.trim();
            found.push((at + 1, name.split('.').next().unwrap_or(name)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_manifest(name: &str, manifest: &str, expected: usize) {
        let mut findings = Vec::new();
        let path = format!("crates/{name}/Cargo.toml");
        check(&Tree::of(&[(&path, manifest)]), &mut findings);
        assert_eq!(findings.len(), expected, "{findings:?}");
    }

    #[test]
    fn siblings_below_the_line_do_not_know_each_other() {
        check_manifest(
            "hub",
            "[dependencies]\ntypes.workspace = true\nbytes.workspace = true\n",
            0,
        );
        check_manifest("hub", "[dependencies]\nwire.workspace = true\n", 1);
        check_manifest(
            "hub",
            "[dev-dependencies]\ncontrol = { workspace = true }\n",
            1,
        );
        check_manifest("hub", "[dependencies.castling-wire]\nworkspace = true\n", 1);
        check_manifest("types", "[package]\nwire = 1\n", 0);
    }

    #[test]
    fn a_new_crate_must_be_given_its_place() {
        check_manifest("novel", "[package]\n", 1);
    }
}
