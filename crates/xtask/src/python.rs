//! The Python environment of the end-to-end tests: made once, and again when the pinned versions change.

use crate::shell;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOW: &str = "get it with `apt-get install python3 python3-venv`";
const STAMP: &str = "requirements.installed";

/// A Python that can make environments.
///
/// # Errors
/// One line that says what is missing and how to get it.
pub fn find() -> Result<PathBuf, String> {
    let python = shell::which("python3")
        .ok_or_else(|| format!("python3 (3.9 or newer) is missing; {HOW}"))?;
    let version = shell::output(
        &python,
        &["-c", "import sys; print(sys.version_info >= (3, 9))"],
    );
    if version.as_deref().map(str::trim) != Some("True") {
        return Err(format!("python3 is older than 3.9; {HOW}"));
    }
    if shell::output(&python, &["-c", "import venv, ensurepip"]).is_none() {
        return Err(format!("python3 cannot make environments (venv); {HOW}"));
    }
    Ok(python)
}

/// The environment's interpreter; installs the pinned packages unless these very pins are installed.
///
/// # Errors
/// When a tool is missing or the installation fails.
pub fn environment() -> Result<PathBuf, String> {
    environment_of("venv", "requirements.txt")
}

/// An environment of its own, for clients whose versions would clash with the others'.
///
/// # Errors
/// When a tool is missing or the installation fails.
pub fn environment_of(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let folder = shell::target().join("e2e").join(name);
    let python = folder.join("bin").join("python");
    let requirements = shell::root().join("e2e").join(requirements);
    let wanted = read(&requirements)?;
    let stamp = folder.join(STAMP);
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    println!(
        "making the Python environment of e2e/{}",
        shown(&requirements)
    );
    let host = find()?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("removing the old Python environment: {error}"))?;
    }
    shell::run(Command::new(host).args(["-m", "venv"]).arg(&folder))?;
    shell::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
    )
    .map_err(|why| {
        format!(
            "{why} (the packages come from the Python package index, which must be reachable once)"
        )
    })?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Settings of the machine that would make a test trust, or ask, someone else than the world it starts. Tests set their own.
pub const TRUST_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
];
