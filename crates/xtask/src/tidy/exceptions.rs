//! The list of files and functions that are longer than they should be. It may only shrink.

use super::Tree;
use std::collections::BTreeMap;

pub const PATH: &str = "crates/xtask/tidy-exceptions.txt";

/// What is allowed to be how long, by `path` or `path name`.
pub struct Exceptions(BTreeMap<String, usize>);

impl Exceptions {
    pub fn read(tree: &Tree, findings: &mut Vec<String>) -> Exceptions {
        let mut known = BTreeMap::new();
        for (at, line) in tree.get(PATH).unwrap_or_default().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line
                .rsplit_once(' ')
                .map(|(what, lines)| (what.trim(), lines.parse()))
            {
                Some((what, Ok(lines))) => {
                    known.insert(what.to_owned(), lines);
                }
                _ => findings.push(format!(
                    "{PATH}:{}: not `PATH LINES` or `PATH FUNCTION LINES`",
                    at + 1
                )),
            }
        }
        Exceptions(known)
    }

    /// Judges one length; uses up its exception.
    pub fn judge(
        &mut self,
        what: &str,
        line: usize,
        lines: usize,
        most: usize,
        findings: &mut Vec<String>,
    ) {
        let allowed = self.0.remove(what);
        let place = what.replacen(' ', &format!(":{line}: "), 1);
        match allowed {
            None if lines > most => {
                findings.push(format!("{place}: {lines} lines, more than {most}"))
            }
            Some(allowed) if lines > allowed => {
                findings.push(format!(
                    "{place}: {lines} lines, more than the {allowed} it was allowed as an exception"
                ));
            }
            Some(allowed) if lines < allowed => {
                findings.push(format!("{PATH}: `{what}` has {lines} lines now: write that instead of {allowed}, or nothing if it is at most {most}"));
            }
            _ => {}
        }
    }

    /// What the list names and the tree does not have.
    pub fn left_over(self, findings: &mut Vec<String>) {
        for what in self.0.into_keys() {
            findings.push(format!(
                "{PATH}: `{what}` does not exist any more: remove the line"
            ));
        }
    }
}
