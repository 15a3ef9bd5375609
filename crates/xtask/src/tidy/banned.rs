//! What may not appear below the line: clocks, files, sockets, runtimes, chance, and maps without an order; and nowhere in
//! product code: `todo!` and its like.

use super::{Text, Tree, rust};
use std::collections::BTreeSet;

const BELOW: [&str; 5] = ["types", "wire", "hub", "control", "replication"];

/// A word, what it means, and the words it is only banned after (empty: always).
const WORDS: [(&str, &str, &str); 16] = [
    ("SystemTime", "", "a clock: `now` is an argument"),
    ("Instant", "", "a clock: `now` is an argument"),
    ("fs", "std", "files belong above the line"),
    ("TcpStream", "", "sockets belong above the line"),
    ("TcpListener", "", "sockets belong above the line"),
    ("UdpSocket", "", "sockets belong above the line"),
    (
        "ToSocketAddrs",
        "",
        "name resolution belongs above the line",
    ),
    ("thread", "std", "threads belong above the line"),
    ("process", "std", "processes belong above the line"),
    ("env", "std", "the environment belongs above the line"),
    ("tokio", "", "runtimes belong above the line"),
    ("rand", "", "chance belongs above the line"),
    ("getrandom", "", "chance belongs above the line"),
    ("async", "", "asynchronous code belongs above the line"),
    ("HashMap", "", "its order is by chance: take a BTreeMap"),
    ("HashSet", "", "its order is by chance: take a BTreeSet"),
];

pub fn check(tree: &Tree, findings: &mut Vec<String>) {
    let tests = test_files(tree);
    for file in tree.rust().filter(|file| !tests.contains(&file.path)) {
        let Some(name) = crate_of(&file.path) else {
            continue;
        };
        if file.path.contains("/tests/") || file.path.contains("/examples/") {
            continue;
        }
        let code = rust::product_code_of(&file.content);
        unfinished(file, &code, findings);
        if BELOW.contains(&name) {
            below_the_line(file, &code, findings);
        }
    }
}

fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

fn below_the_line(file: &Text, code: &str, findings: &mut Vec<String>) {
    for (at, word) in rust::words(code) {
        let before = code[..at].trim_end();
        let found = WORDS.iter().find(|(banned, after, _)| {
            *banned == word && (after.is_empty() || before.ends_with(&format!("{after}::")))
        });
        if let Some((_, _, why)) = found {
            findings.push(format!(
                "{}:{}: `{word}` below the line: {why}",
                file.path,
                rust::line_of(code, at)
            ));
        }
        if word == "unwrap" && before.ends_with('.') && code[at..].starts_with("unwrap()") {
            findings.push(format!(
                "{}:{}: `unwrap` outside tests: give the reason with `expect`, or return the error",
                file.path,
                rust::line_of(code, at)
            ));
        }
    }
}

fn unfinished(file: &Text, code: &str, findings: &mut Vec<String>) {
    for (at, word) in rust::words(code) {
        if matches!(word, "todo" | "unimplemented") && code[at + word.len()..].starts_with('!') {
            findings.push(format!(
                "{}:{}: `{word}!`",
                file.path,
                rust::line_of(code, at)
            ));
        }
    }
}

/// Files of modules that are declared for tests only, with everything below them.
pub fn test_files(tree: &Tree) -> BTreeSet<String> {
    let mut stems = Vec::new();
    for file in tree.rust() {
        let Some((folder, name)) = file.path.rsplit_once('/') else {
            continue;
        };
        let own = match name {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            name => format!("{folder}/{}", name.trim_end_matches(".rs")),
        };
        for module in rust::test_modules(&file.content) {
            stems.push(match module.strip_suffix(".rs") {
                Some(stem) => format!("{folder}/{stem}"),
                None => format!("{own}/{module}"),
            });
        }
    }
    let of_tests = |path: &str| {
        stems
            .iter()
            .any(|stem| path == format!("{stem}.rs") || path.starts_with(&format!("{stem}/")))
    };
    tree.rust()
        .filter(|file| of_tests(&file.path))
        .map(|file| file.path.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &str, content: &str, expected: usize) {
        let mut findings = Vec::new();
        check(&Tree::of(&[(path, content)]), &mut findings);
        assert_eq!(findings.len(), expected, "{content}: {findings:?}");
    }

    #[test]
    fn clocks_files_and_unordered_maps_stay_above_the_line() {
        for bad in [
            "use std::time::Instant;",
            "fn a() { std::fs::read(x); }",
            "use std::collections::HashMap;",
            "fn a() { b.unwrap(); }",
            "async fn a() {}",
        ] {
            check_file("crates/hub/src/a.rs", bad, 1);
            check_file("crates/region/src/a.rs", bad, 0);
            check_file("crates/hub/tests/a.rs", bad, 0);
            check_file(
                "crates/hub/src/a.rs",
                &format!("#[cfg(test)]\nmod tests {{ {bad} }}"),
                0,
            );
        }
        check_file(
            "crates/hub/src/a.rs",
            "// Instant\nfn fs() { a.unwrap_or(1); }",
            0,
        );
        check_file("crates/region/src/a.rs", "fn a() { todo!() }", 1);
    }

    #[test]
    fn modules_declared_for_tests_are_tests() {
        let tree = Tree::of(&[
            (
                "crates/hub/src/lib.rs",
                "#[cfg(test)]\nmod testing;\nmod c2d;",
            ),
            ("crates/hub/src/testing.rs", "use std::time::Instant;"),
            ("crates/hub/src/c2d.rs", "#[cfg(test)]\nmod tests;"),
            (
                "crates/hub/src/c2d/tests/deep.rs",
                "use std::time::Instant;",
            ),
        ]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
    }
}
