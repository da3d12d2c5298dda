//! Reading files, among them those that nobody else may read.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// No configuration comes near this.
const MAX_LEN: u64 = 1 << 20;

/// Reads a file that holds a secret: a key, or the hashes of passwords.
///
/// It must be a regular file of 1 MiB or less that only its owner may open. The permissions are
/// those of the file that was opened, so that nobody can put another one in its place in between.
/// The bytes are wiped when dropped, and no copy of them is left behind. Where there are no
/// permissions of Unix, they are not looked at.
///
/// # Errors
/// [`SecretFileError`] tells what is wrong with the file and what helps. It carries the path and
/// nothing of the content.
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

/// Reads a file that anybody may read, with the same limits.
pub(super) fn read_public_file(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Ok(std::mem::take(&mut *read(path, Guard::None)?))
}

/// Reads a file that says who is who, or who may do what: anybody may read it, but not write it.
pub(super) fn read_authorization_file(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Ok(std::mem::take(&mut *read(path, Guard::NotForOthersToWrite)?))
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    #[non_exhaustive]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{} is open to others than its owner (mode {mode:04o}); run: chmod 600 {}",
        path.display(),
        path.display()
    )]
    #[non_exhaustive]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may write it, and so decide what it decides.
    #[error(
        "{} is open to others for writing (mode {mode:04o}); run: chmod o-w {}",
        path.display(),
        path.display()
    )]
    #[non_exhaustive]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than 1 MiB, or grows while it is read.
    #[error("{} is larger than the 1 MiB that is read of a file", path.display())]
    #[non_exhaustive]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// What others than its owner may not do with a file.
#[derive(Clone, Copy)]
enum Guard {
    None,
    NotForOthersToWrite,
    OwnerOnly,
}

fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let io = |source| SecretFileError::Io { path: path.to_owned(), source };
    // To open a pipe would wait for a writer. What counts is asked of the open file below.
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
    // One byte more than there should be, to see the end; and all at once, because a buffer that
    // grows leaves its content where it was.
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
        Guard::NotForOthersToWrite if mode & 0o002 != 0 => {
            Err(SecretFileError::Writable { path: path(), mode })
        }
        Guard::None | Guard::NotForOthersToWrite | Guard::OwnerOnly => Ok(()),
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
    fn only_files_of_the_owner_alone_are_secret() {
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
    fn what_decides_is_not_for_others_to_write() {
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
    fn what_is_no_file_or_too_large_is_not_read() {
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
