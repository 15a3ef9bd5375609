//! How long files and functions may be.

use super::exceptions::Exceptions;
use super::{Tree, rust};
use std::collections::BTreeMap;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;

pub fn check(tree: &Tree, findings: &mut Vec<String>) {
    let mut exceptions = Exceptions::read(tree, findings);
    for file in &tree.files {
        let is_rust = file.path.ends_with(".rs");
        if !is_rust && !file.path.ends_with(".py") {
            continue;
        }
        let lines = file.content.lines().count();
        exceptions.judge(&file.path, 1, lines, FILE_LINES_MAX, findings);
        if !is_rust {
            continue;
        }
        let code = rust::code_of(&file.content);
        // Several functions of a file may share a name: the longest stands for all.
        let mut longest: BTreeMap<&str, rust::Function<'_>> = BTreeMap::new();
        for function in rust::functions(&code) {
            let known = longest.get(function.name).map_or(0, |known| known.lines);
            if function.lines > known {
                longest.insert(function.name, function);
            }
        }
        for function in longest.into_values() {
            let what = format!("{} {}", file.path, function.name);
            exceptions.judge(
                &what,
                function.line,
                function.lines,
                FUNCTION_LINES_MAX,
                findings,
            );
        }
    }
    exceptions.left_over(findings);
}

#[cfg(test)]
mod tests {
    use super::super::exceptions::PATH;
    use super::*;

    fn long(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    a();\n".repeat(lines - 2))
    }

    fn check_with(list: &str, source: &str, expected: &[&str]) {
        let mut findings = Vec::new();
        check(
            &Tree::of(&[(PATH, list), ("crates/a/src/lib.rs", source)]),
            &mut findings,
        );
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, part) in findings.iter().zip(expected) {
            assert!(finding.contains(part), "{finding}");
        }
    }

    #[test]
    fn long_functions_and_files_are_found() {
        check_with("", &long(100), &[]);
        check_with("", &long(101), &["101 lines, more than 100"]);
        check_with("", &"// x\n".repeat(801), &["801 lines, more than 800"]);
    }

    #[test]
    fn the_list_of_exceptions_may_only_shrink() {
        check_with("crates/a/src/lib.rs f 120", &long(120), &[]);
        check_with(
            "crates/a/src/lib.rs f 120",
            &long(121),
            &["more than the 120"],
        );
        check_with(
            "crates/a/src/lib.rs f 120",
            &long(110),
            &["write that instead of 120"],
        );
        check_with(
            "crates/a/src/lib.rs g 120",
            &long(10),
            &["does not exist any more"],
        );
    }
}
