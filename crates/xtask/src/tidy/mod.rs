//! `tidy`: what a machine can check of how the code is written.

mod arrows;
mod banned;
mod documents;
mod exceptions;
mod paths;
mod rust;
mod sizes;

use crate::shell;
use std::path::{Path, PathBuf};

/// # Errors
/// Every finding, one a line.
pub fn run() -> Result<(), String> {
    let tree = Tree::load(&shell::root())?;
    let mut findings = Vec::new();
    arrows::check(&tree, &mut findings);
    banned::check(&tree, &mut findings);
    sizes::check(&tree, &mut findings);
    documents::check(&tree, &mut findings);
    paths::check(&tree, &mut findings);
    findings.sort();
    findings.dedup();
    if findings.is_empty() {
        println!("tidy: {} files, nothing found", tree.files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!("tidy found {} things", findings.len()))
}

/// Every file that is, or would be, committed.
struct Tree {
    root: PathBuf,
    files: Vec<Text>,
}

struct Text {
    /// From the root, with `/`.
    path: String,
    content: String,
}

impl Tree {
    fn load(root: &Path) -> Result<Tree, String> {
        let git = shell::which("git").ok_or("git is missing; get it with `apt-get install git`")?;
        let folder = root.to_string_lossy();
        let list = shell::output(
            &git,
            &[
                "-C",
                &folder,
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ],
        )
        .ok_or("git cannot list the files; is this a clone?")?;
        let mut files = Vec::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // Deleted but not yet committed, or not a text: nothing to read.
            let Ok(bytes) = std::fs::read(root.join(path)) else {
                continue;
            };
            if let Ok(content) = String::from_utf8(bytes) {
                files.push(Text {
                    path: path.to_owned(),
                    content,
                });
            }
        }
        Ok(Tree {
            root: root.to_owned(),
            files,
        })
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.content.as_str())
    }

    fn rust(&self) -> impl Iterator<Item = &Text> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Tree {
        let files = files
            .iter()
            .map(|(path, content)| Text {
                path: (*path).to_owned(),
                content: (*content).to_owned(),
            })
            .collect();
        Tree {
            root: PathBuf::from("."),
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_a_clone_whose_files_are_found() {
        let tree = Tree::load(&shell::root()).unwrap();
        assert!(tree.get("Cargo.toml").unwrap().contains("[workspace]"));
        assert!(tree.rust().count() > 50);
    }
}
