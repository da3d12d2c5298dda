//! Reads files, and checks which other users of the system can access them.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// The maximum size of a file. Configuration files are much smaller.
const MAX_LEN: u64 = 1 << 20;

/// Reads a file that contains a secret: a key, or password hashes.
///
/// The file must be a regular file of at most 1 MiB that only its owner can access. The permissions of
/// the opened file are checked, so replacing the file after the check has no effect. The returned bytes
/// are wiped from memory when they are dropped. This function leaves no other copy of them in memory. On
/// systems without Unix permissions, permissions are not checked.
///
/// # Errors
/// [`SecretFileError`] contains the path and the problem, and usually what to do. It contains no content
/// of the file.
///
/// ```
/// # #[cfg(unix)] {
/// # use std::{fs, os::unix::fs::PermissionsExt};
/// use passticket_proxy::config::{SecretFileError, read_secret_file};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("ZOWEAPPL.key");
/// # fs::write(&path, "E001193519561977")?;
/// # fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
/// let error = read_secret_file(&path).unwrap_err();
/// assert!(matches!(error, SecretFileError::Permissions { mode: 0o640, .. }));
///
/// fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
/// assert_eq!(read_secret_file(&path)?.len(), 16);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    read(path, Guard::OwnerOnly)
}

/// Reads a regular file of at most 1 MiB, without a check of its permissions.
pub(super) fn read_public_file(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Ok(std::mem::take(&mut *read(path, Guard::None)?))
}

/// Reads a file that decides what users are permitted to do: a file of permissions or identities. All
/// users of the system may have read permission for the file. Only its owner and its group may have
/// write permission.
pub(super) fn read_authorization_file(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Ok(std::mem::take(&mut *read(path, Guard::NotWritableByOthers)?))
}

/// The reason why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The operating system reports an error for the file.
    #[error("cannot read {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path names a directory, a pipe or a device instead of a regular file.
    #[error("{} is not a regular file", path.display())]
    #[non_exhaustive]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Users other than its owner can access the file.
    #[error(
        "{} is accessible to users other than its owner (mode {mode:04o}); run: chmod 600 {}",
        path.display(),
        path.display()
    )]
    #[non_exhaustive]
    Permissions {
        /// The file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// Users other than its owner and group can write the file.
    #[error(
        "{} is writable by users other than its owner and group (mode {mode:04o}); run: chmod o-w {}",
        path.display(),
        path.display()
    )]
    #[non_exhaustive]
    Writable {
        /// The file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The file is larger than 1 MiB, or grew while it was read.
    #[error("{} is larger than 1 MiB; write the path of the right file", path.display())]
    #[non_exhaustive]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// The check of the permissions of a file.
#[derive(Clone, Copy)]
enum Guard {
    /// No check.
    None,
    /// Only the owner and the group may have write permission.
    NotWritableByOthers,
    /// Only the owner may have any permission.
    OwnerOnly,
}

fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let io = |source| SecretFileError::Io { path: path.to_owned(), source };
    // Opening a named pipe would wait for a writer, so the file type is checked before the file is opened.
    // The opened file is checked again below.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    check_permissions(path, &metadata, guard)?;
    let too_large = || SecretFileError::TooLarge { path: path.to_owned() };
    let len = metadata.len();
    if len > MAX_LEN {
        return Err(too_large());
    }
    // The buffer is one byte longer than the file, to detect a file that grows. The buffer is allocated at
    // full size, because a growing buffer would leave copies of the secret in memory.
    let room = usize::try_from(len).map_err(|_| too_large())? + 1;
    let mut content = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    while filled < room {
        match file.read(&mut content[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    if filled == room {
        return Err(too_large());
    }
    content.truncate(filled);
    Ok(content)
}

#[cfg(unix)]
fn check_permissions(
    path: &Path,
    metadata: &fs::Metadata,
    guard: Guard,
) -> Result<(), SecretFileError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    let path = || path.to_owned();
    match guard {
        Guard::OwnerOnly if mode & 0o077 != 0 => {
            Err(SecretFileError::Permissions { path: path(), mode })
        }
        Guard::NotWritableByOthers if mode & 0o002 != 0 => {
            Err(SecretFileError::Writable { path: path(), mode })
        }
        Guard::None | Guard::NotWritableByOthers | Guard::OwnerOnly => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path, _: &fs::Metadata, _: Guard) -> Result<(), SecretFileError> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_files_must_be_accessible_only_to_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o601, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read_secret_file(&path) {
                Ok(content) => assert!(good && content.as_slice() == b"secret", "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{mode:o}: {error}");
                    let (path, text) = (path.display(), error.to_string());
                    assert!(text.contains(&format!("(mode {mode:04o})")), "{text}");
                    assert!(text.ends_with(&format!("run: chmod 600 {path}")), "{text}");
                }
            }
            assert_eq!(read_public_file(&path).unwrap(), b"secret");
        }
    }

    #[test]
    fn authorization_files_must_not_be_writable_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("saf.yml");
        fs::write(&path, "safAccess:").unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o644, true),
            (0o664, true),
            (0o646, false),
            (0o602, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read_authorization_file(&path) {
                Ok(content) => assert!(good && content == b"safAccess:", "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{mode:o}: {error}");
                    let (path, text) = (path.display(), error.to_string());
                    assert!(text.contains(&format!("(mode {mode:04o})")), "{text}");
                    assert!(text.ends_with(&format!("run: chmod o-w {path}")), "{text}");
                }
            }
        }
    }

    #[test]
    fn directories_and_large_files_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(matches!(read_secret_file(&path), Err(SecretFileError::Io { .. })));
        let error = read_secret_file(directory.path());
        assert!(matches!(error, Err(SecretFileError::NotAFile { .. })));
        for (len, good) in [(0, true), (1 << 20, true), ((1 << 20) + 1, false)] {
            fs::write(&path, vec![b'x'; len]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            match read_secret_file(&path) {
                Ok(content) => assert!(good && content.len() == len, "{len}"),
                Err(error) => {
                    assert!(!good && matches!(error, SecretFileError::TooLarge { .. }), "{len}");
                }
            }
        }
    }
}
