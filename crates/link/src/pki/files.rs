//! Key material on disk: written whole or not at all, readable by its owner only.

use super::PkiError;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Key files are small; anything larger is not one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const SECRET_BYTES: usize = 32;

/// Who may read a file besides its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Everybody,
}

/// Loads the secret in `path`, or makes one of 32 random bytes there (mode 0600).
///
/// # Errors
/// If others may read the file, it is not 32 bytes long, or the disk refuses.
pub fn ensure_secret(path: &Path) -> Result<[u8; SECRET_BYTES], PkiError> {
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    if !exists(path)? {
        create(path, &random::<SECRET_BYTES>()?, Readers::Owner)?;
    }
    let bytes = read_private(path)?;
    bytes.as_slice().try_into().map_err(|_| {
        PkiError::invalid(
            path.display(),
            format!("it has {} bytes instead of 32", bytes.len()),
        )
    })
}

/// Makes a folder (mode 0700) if it is missing; refuses one in which others could replace files.
pub(super) fn private_folder(path: &Path) -> Result<(), PkiError> {
    if !exists(path)? && !path.as_os_str().is_empty() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("make the folder", path))?;
    }
    let here = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mode = mode(here)?;
    // A sticky folder such as /tmp lets nobody replace another's files.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(PkiError::Exposed {
            path: here.to_owned(),
            mode: mode & 0o777,
        });
    }
    Ok(())
}

/// Reads a key file; refuses one that others may read.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, PkiError> {
    let mode = mode(path)?;
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed {
            path: path.to_owned(),
            mode: mode & 0o777,
        });
    }
    read(path)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open", path))?;
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    Ok(bytes)
}

/// Whether the path exists; a failure to look is an error, never "no".
pub(super) fn exists(path: &Path) -> Result<bool, PkiError> {
    path.try_exists().map_err(failed("look for", path))
}

/// Writes a file that must not exist yet. If another process was faster its file stays, and this returns as if it had
/// been ours: callers read back what is there.
pub(super) fn create(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), PkiError> {
    let temporary = write_temporary(path, bytes, readers)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("write", path)(error)),
        Ok(()) => sync_folder(path),
    }
}

/// Puts a file in the place of the one that may be there, whole or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), PkiError> {
    let temporary = write_temporary(path, bytes, readers)?;
    fs::rename(&temporary, path).map_err(failed("write", path))?;
    sync_folder(path)
}

fn write_temporary(path: &Path, bytes: &[u8], readers: Readers) -> Result<PathBuf, PkiError> {
    let suffix = u64::from_le_bytes(random::<8>()?);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{suffix:016x}"));
    let temporary = PathBuf::from(name);
    let mode = if readers == Readers::Owner {
        0o600
    } else {
        0o644
    };
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary);
    let mut file = opened.map_err(failed("make", &temporary))?;
    file.write_all(bytes).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("sync", &temporary))?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> Result<(), PkiError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|opened| opened.sync_all());
    synced.map_err(failed("sync the folder", folder))
}

fn mode(path: &Path) -> Result<u32, PkiError> {
    let metadata = fs::metadata(path).map_err(failed("look at", path))?;
    Ok(metadata.permissions().mode())
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| PkiError::NoRandomness)?;
    Ok(bytes)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    move |source| PkiError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_created_file_keeps_the_first_content_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        create(&path, b"first", Readers::Owner).unwrap();
        create(&path, b"second", Readers::Owner).unwrap();
        assert_eq!(read_private(&path).unwrap(), b"first");
        replace(&path, b"third", Readers::Owner).unwrap();
        assert_eq!(read_private(&path).unwrap(), b"third");
        assert_eq!(names(folder.path()), ["k"]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        replace(&path, b"key", Readers::Owner).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private(&path).unwrap_err();
            assert!(
                matches!(error, PkiError::Exposed { mode: m, .. } if m == mode),
                "{error}"
            );
        }
    }

    #[test]
    fn a_folder_in_which_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        private_folder(&inner).unwrap();
        assert_eq!(mode(&inner).unwrap() & 0o777, 0o700);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(
            private_folder(&inner),
            Err(PkiError::Exposed { .. })
        ));
    }

    #[test]
    fn a_secret_is_made_once_and_checked_for_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets.secret");
        let made = ensure_secret(&path).unwrap();
        assert_eq!(ensure_secret(&path).unwrap(), made);
        assert_ne!(made, [0; 32]);
        replace(&path, b"short", Readers::Owner).unwrap();
        assert!(matches!(
            ensure_secret(&path),
            Err(PkiError::Invalid { .. })
        ));
    }
}
