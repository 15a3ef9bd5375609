//! Nothing that is committed names a folder of someone's machine, or a package registry in the place of the usual one.

use super::Tree;

/// Beginnings of folders that only one machine has. Written in two parts, or this file would be found.
const FOLDERS: [(&str, &str); 5] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/Use", "rs/"),
    ("/opt/wh", "eels"),
];
const HOSTS: [(&str, &str); 7] = [
    ("index.cra", "tes.io"),
    ("static.cra", "tes.io"),
    ("files.python", "hosted.org"),
    ("pypi.or", "g/simple"),
    ("registry.npm", "js.org"),
    ("artifac", "tory"),
    ("--index", "-url"),
];
const LOCK_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub fn check(tree: &Tree, findings: &mut Vec<String>) {
    for file in &tree.files {
        for (at, line) in file.content.lines().enumerate() {
            for found in FOLDERS.iter().chain(&HOSTS).map(|(a, b)| format!("{a}{b}")) {
                if stands_alone(line, &found) {
                    findings.push(format!(
                        "{}:{}: names `{found}`, which belongs to one machine",
                        file.path,
                        at + 1
                    ));
                }
            }
            let foreign = line
                .strip_prefix("source = \"")
                .is_some_and(|source| !source.starts_with(LOCK_SOURCE));
            if file.path == "Cargo.lock" && foreign {
                findings.push(format!(
                    "{}:{}: a package from another place than crates.io",
                    file.path,
                    at + 1
                ));
            }
        }
    }
}

/// True when `part` is not the middle of a longer path or name.
fn stands_alone(line: &str, part: &str) -> bool {
    line.match_indices(part).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !part.starts_with('/')
            || before
                .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(path: &str, line: &str, expected: usize) {
        let mut findings = Vec::new();
        check(&Tree::of(&[(path, line)]), &mut findings);
        assert_eq!(findings.len(), expected, "{line}: {findings:?}");
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        check_line("a.md", &format!("see {}{}x", "/ho", "me/"), 1);
        check_line("a.md", &format!("see docs{}{}x", "/ho", "me/"), 0);
        check_line("Cargo.lock", &format!("source = \"{LOCK_SOURCE}\""), 0);
        check_line("Cargo.lock", "source = \"git+https://example.org/x\"", 1);
    }
}
