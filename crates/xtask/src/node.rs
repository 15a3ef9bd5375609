//! The Node packages of the end-to-end tests: installed once, and again when the lock file changes.

use crate::shell;
use std::path::PathBuf;
use std::process::Command;

const HOW: &str = "get it with `apt-get install nodejs npm`";
const STAMP: &str = "lock.installed";

/// Folder that holds `node_modules`; installs the locked packages unless these very ones are installed.
///
/// # Errors
/// When node or npm is missing or too old, or the installation fails.
pub fn packages() -> Result<PathBuf, String> {
    let node = shell::which("node").ok_or_else(|| format!("node is missing; {HOW}"))?;
    let npm = shell::which("npm").ok_or_else(|| format!("npm is missing; {HOW}"))?;
    let version = shell::output(&node, &["--version"]).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next();
    if major.and_then(|major| major.parse::<u32>().ok()) < Some(18) {
        return Err(format!(
            "node is {}, 18 or newer is needed; {HOW}",
            version.trim()
        ));
    }
    let folder = shell::target().join("e2e").join("node");
    let source = shell::root().join("e2e");
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let wanted = read(source.join("package-lock.json"))?;
    let stamp = folder.join(STAMP);
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    println!("installing the Node packages of the end-to-end tests");
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(name), folder.join(name)).map_err(failed)?;
    }
    let mut install = Command::new(npm);
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder);
    shell::run(&mut install).map_err(|why| {
        format!("{why} (the packages come from the npm registry, which must be reachable once)")
    })?;
    std::fs::write(&stamp, wanted).map_err(failed)?;
    Ok(folder)
}
