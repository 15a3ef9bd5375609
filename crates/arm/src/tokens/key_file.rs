//! The file that holds the signing key: PKCS#8 in PEM, readable by its owner only (docs/formats/tokens.md).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// A P-256 key has about 250 bytes as PEM.
const BYTES_MAX: u64 = 4096;

/// The key's PKCS#8 bytes.
///
/// # Errors
/// With the path and a sentence for the operator.
pub(super) fn load_or_make(path: &Path, random: &SystemRandom) -> Result<Vec<u8>, String> {
    let fail =
        |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", path.display());
    match File::open(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random)
                .map_err(|error| fail("making a key for", &error))?;
            write(path, key.as_ref()).map_err(|error| fail("writing", &error))?;
            Ok(key.as_ref().to_vec())
        }
        Err(error) => Err(fail("opening", &error)),
    }
}

fn load(path: &Path, file: File) -> Result<Vec<u8>, String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let mode = file
        .metadata()
        .map_err(|error| fail(error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(fail(format!(
            "others than its owner may use it (mode {:o}); it signs access tokens, so make it `chmod 600`, or delete it to \
             have a new one made",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| fail(error.to_string()))?;
    let body = text
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or_else(|| fail("not a private key in PEM form".into()))?;
    let body: String = body.split_whitespace().collect();
    STANDARD
        .decode(body)
        .map_err(|error| fail(format!("not a private key in PEM form: {error}")))
}

/// Writes the file as a whole or not at all.
fn write(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let mut text = format!("{BEGIN}\n");
    for line in STANDARD.encode(key).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
