//! Links that lead somewhere, and a reason for every dependency.

use super::Tree;

const REASONS: &str = "docs/dependencies.md";

pub fn check(tree: &Tree, findings: &mut Vec<String>) {
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.content) {
            if !leads_somewhere(tree, &file.path, target) {
                findings.push(format!(
                    "{}:{line}: the link to `{target}` leads nowhere",
                    file.path
                ));
            }
        }
    }
    reasons(tree, findings);
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let folder = tree
        .root
        .join(from)
        .parent()
        .map(ToOwned::to_owned)
        .unwrap_or_default();
    folder.join(target).exists()
}

/// Targets of inline links outside code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (place, piece) in line.match_indices("](") {
            let in_code = line[..place].matches('`').count() % 2 == 1;
            let rest = &line[place + piece.len()..];
            if let Some((target, _)) = rest.split_once(')').filter(|_| !in_code) {
                // A title may follow the target.
                found.push((at + 1, target.split(' ').next().unwrap_or(target)));
            }
        }
    }
    found
}

fn reasons(tree: &Tree, findings: &mut Vec<String>) {
    let Some(text) = tree.get(REASONS) else {
        findings.push(format!(
            "{REASONS} is missing: every dependency has a line there that says why"
        ));
        return;
    };
    for name in borrowed(tree.get("Cargo.toml").unwrap_or_default()) {
        if !text.lines().any(|line| has_reason(line, name)) {
            findings.push(format!("{REASONS}: no line says why `{name}` is used"));
        }
    }
}

/// True for a line of the table whose first field is this name.
fn has_reason(line: &str, name: &str) -> bool {
    let mut fields = line.split('|').skip(1);
    let first = fields.next().unwrap_or_default();
    first.trim().trim_matches('`') == name && fields.any(|field| field.trim().len() > 3)
}

/// Dependencies of the workspace that are not its own crates.
fn borrowed(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
        } else if inside && !line.starts_with('#') && !line.contains("path =") {
            found.extend(line.split_once('=').map(|(name, _)| name.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_not_links() {
        let text = "[a](x.md) and [b](y.md#z \"title\")\n`[c](no)`\n```\n[d](no)\n```\n[e](https://example.org)";
        assert_eq!(
            links(text),
            [(1, "x.md"), (1, "y.md#z"), (6, "https://example.org")]
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\ntypes = { path = \"crates/types\" }\nbytes = \"1\"\nring = \"0.17\"\n[workspace.lints]\nx = 1\n";
        let mut findings = Vec::new();
        reasons(
            &Tree::of(&[
                ("Cargo.toml", manifest),
                (REASONS, "| bytes | most | shared buffers |\n| `ring` | | |"),
            ]),
            &mut findings,
        );
        assert_eq!(
            findings,
            ["docs/dependencies.md: no line says why `ring` is used"]
        );
    }
}
