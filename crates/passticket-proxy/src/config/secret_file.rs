//! Reads files, and checks which other users of the system can access them.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    file_access::{Access, Fault, Guard, ProcessUser},
    source_files,
};

/// The maximum size of a file. Configuration files are much smaller.
const MAX_LEN: u64 = 1 << 20;

/// Reads a file that contains a secret: a key or password hashes.
///
/// The file must be a regular file of at most 1 MiB. It must belong to root or to the user of this process. Only its
/// owner may write it. Only its owner and a group of this process may read it. On systems without Unix permissions, the
/// owner and the permissions are not checked. The function checks the file that it has opened, so another program
/// cannot replace the file between the check and the read.
///
/// The returned bytes are wiped from memory when they are dropped. This function leaves no other copy of these bytes in
/// memory.
///
/// # Errors
/// [`SecretFileError`] contains the path and the problem, and usually what to do. The error contains no
/// content of the file.
///
/// ```
/// # #[cfg(unix)] {
/// # use std::{fs, os::unix::fs::PermissionsExt};
/// use passticket_proxy::config::{SecretFileError, read_secret_file};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("ZOWEAPPL.key");
/// # fs::write(&path, "E001193519561977")?;
/// # fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
/// let error = read_secret_file(&path).unwrap_err();
/// assert!(matches!(error, SecretFileError::Permissions { mode: 0o644, .. }));
///
/// fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
/// assert_eq!(read_secret_file(&path)?.len(), 16);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    read(path, Guard::Secret)
}

/// Reads a regular file of at most 1 MiB, without a check of its permissions.
pub(super) fn read_public_file(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Ok(std::mem::take(&mut *read(path, Guard::None)?))
}

/// Reads a file that decides which user a client is, or what users are permitted to do. The file may be readable for
/// all users of the system. It must belong to root or to the user of this process, and only its owner may have write
/// permission. There is one exception: if a group of this process also has write permission, the file is read, and
/// `warn` gets a warning. In two cases, the group usually has this permission: if the file is on a volume of a
/// container (`fsGroup`), or if the file was made with the umask 002.
pub(super) fn read_authorization_file(
    path: &Path,
    warn: impl FnOnce(String),
) -> Result<Vec<u8>, SecretFileError> {
    let (mut content, warning) = read_and_check(path, Guard::Authorization)?;
    if let Some(warning) = warning {
        warn(warning);
    }
    Ok(std::mem::take(&mut *content))
}

/// Returns whether [`read_secret_file`] would accept the owner and the permissions of the file.
pub(super) fn is_secret(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| check_access(path, &metadata, Guard::Secret).is_ok())
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
    /// The path does not name a regular file, but, for example, a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    #[non_exhaustive]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Users other than the owner can access the file, in one of these ways:
    ///
    /// - Users outside of the file's group can access it.
    /// - The file's group can write it.
    /// - The file's group can read it, but this process does not belong to this group.
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
    /// The file can be written by users who are neither its owner nor in a group of this process.
    #[error(
        "{} is writable by users other than its owner (mode {mode:04o}); run: chmod go-w {}",
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
    /// The file belongs to a user who is neither root nor the user of this process. The owner could change the file.
    #[error(
        "{} belongs to the user with uid {owner}, and not to root or the user of this process (uid \
         {user}); run: chown {user} {}",
        path.display(),
        path.display()
    )]
    #[non_exhaustive]
    Owner {
        /// The file.
        path: PathBuf,
        /// The uid of the owner.
        owner: u32,
        /// The uid of this process.
        user: u32,
    },
    /// The file is larger than 1 MiB, or it grew while it was read.
    #[error("{} is larger than 1 MiB; check that it is the right file", path.display())]
    #[non_exhaustive]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Checks the owner and the permissions of the revocation file, and of the file's directory. If the file is missing,
/// this function returns no error.
///
/// Returns a warning if a group of this process can write the file, and another one if other users can write to the
/// directory. Both are only warnings, because on the volume of a container, a group usually has write permission.
pub(super) fn check_store(path: &Path) -> Result<Vec<String>, SecretFileError> {
    let file = match fs::metadata(path) {
        Ok(metadata) => check_access(path, &metadata, Guard::Authorization)?,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(source) => return Err(SecretFileError::Io { path: path.to_owned(), source }),
    };
    let directory = directory_warning(path, Other::GroupOrOthers);
    Ok(file.into_iter().chain(directory).collect())
}

/// Returns a warning if all users of the system can write the file. This check is for files that do not decide who a
/// user is or what a user may do.
pub(super) fn public_file_warning(path: &Path) -> Option<String> {
    let mode = Access::of(&fs::metadata(path).ok()?).mode;
    (mode & 0o002 != 0).then(|| {
        let file = path.display();
        format!("{file} is writable by all users (mode {mode:04o}); run: chmod o-w {file}")
    })
}

/// Returns a warning if the users in `other` can write to the directory of the file, so that they can replace the file.
/// There is no warning for a directory with the sticky bit, such as `/tmp`, because users cannot replace the files of
/// other users there.
pub(super) fn directory_warning(path: &Path, other: Other) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mode = Access::of(&fs::metadata(directory).ok()?).mode;
    let (bits, who, remedy) = match other {
        Other::Others => (0o002, "all users", "o-w"),
        Other::GroupOrOthers if mode & 0o002 == 0 => (0o020, "its group", "g-w"),
        Other::GroupOrOthers => (0o022, "all users", "go-w"),
    };
    (mode & bits != 0 && mode & 0o1000 == 0).then(|| {
        let (file, directory) = (path.display(), directory.display());
        format!(
            "the directory of {file} is writable by {who} (mode {mode:04o}), who can replace the file; \
             run: chmod {remedy} {directory}"
        )
    })
}

fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    read_and_check(path, guard).map(|(content, _)| content)
}

fn read_and_check(
    path: &Path,
    guard: Guard,
) -> Result<(Zeroizing<Vec<u8>>, Option<String>), SecretFileError> {
    match open_and_check(path, guard) {
        Ok((content, warning, metadata)) => {
            source_files::record_file(path, &metadata, &content);
            Ok((content, warning))
        }
        Err(error) => {
            source_files::record_unread(path);
            Err(error)
        }
    }
}

fn open_and_check(
    path: &Path,
    guard: Guard,
) -> Result<(Zeroizing<Vec<u8>>, Option<String>, fs::Metadata), SecretFileError> {
    let io = |source| SecretFileError::Io { path: path.to_owned(), source };
    // Opening a named pipe would wait for a writer, so the file type is checked before the file is opened. The type of
    // the opened file is checked again later.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let warning = check_access(path, &metadata, guard)?;
    let too_large = || SecretFileError::TooLarge { path: path.to_owned() };
    let len = metadata.len();
    if len > MAX_LEN {
        return Err(too_large());
    }
    // The buffer is one byte longer than the file. If the last byte is filled, the file has grown. The buffer is
    // allocated at full size, because a growing buffer would leave copies of the secret in memory.
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
    Ok((content, warning, metadata))
}

/// The users whose write permission for a directory causes a warning.
#[derive(Clone, Copy)]
pub(super) enum Other {
    /// Users who are neither the owner nor in the group.
    Others,
    /// All users except the owner.
    GroupOrOthers,
}

/// Checks the owner and the permissions in `metadata`. If the file is not accepted, returns the reason as an error. If
/// the file is accepted, but its permissions should be changed, returns a warning.
fn check_access(
    path: &Path,
    metadata: &fs::Metadata,
    guard: Guard,
) -> Result<Option<String>, SecretFileError> {
    let (access, process) = (Access::of(metadata), ProcessUser::current());
    let (path, mode) = (path.to_owned(), access.mode);
    match access.fault(guard, &process) {
        None => Ok(None),
        Some(Fault::Owner) => {
            Err(SecretFileError::Owner { path, owner: access.uid, user: process.uid })
        }
        Some(Fault::Readable) => Err(SecretFileError::Permissions { path, mode }),
        Some(Fault::Writable) => Err(SecretFileError::Writable { path, mode }),
        Some(Fault::WritableByOurGroup) => {
            let file = path.display();
            Ok(Some(format!(
                "{file} is writable by its group (mode {mode:04o}), as is usual on a volume of a container \
                 (fsGroup) and with the umask 002; each member of the group can change which user a client is, \
                 or what is revoked; to prevent this, run: chmod g-w {file}"
            )))
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn secret_files_must_be_accessible_only_to_their_owner_and_readable_only_to_our_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            // The group of the file is a group of this process.
            (0o440, true),
            (0o640, true),
            (0o550, true),
            (0o660, false),
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
        for (mode, good) in
            [(0o600, true), (0o644, true), (0o646, false), (0o602, false), (0o666, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read_authorization_file(&path, |warning| panic!("{warning}")) {
                Ok(content) => assert!(good && content == b"safAccess:", "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{mode:o}: {error}");
                    let (path, text) = (path.display(), error.to_string());
                    assert!(text.contains(&format!("(mode {mode:04o})")), "{text}");
                    assert!(text.ends_with(&format!("run: chmod go-w {path}")), "{text}");
                }
            }
        }
        // The group of the file is a group of this process.
        for mode in [0o664, 0o660, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut warnings = Vec::new();
            let content = read_authorization_file(&path, |warning| warnings.push(warning));
            assert_eq!(content.unwrap(), b"safAccess:");
            let text = warnings.pop().unwrap();
            assert!(text.contains(&format!("by its group (mode {mode:04o})")), "{text}");
            assert!(text.contains("fsGroup"), "{text}");
        }
    }

    #[test]
    fn a_writable_store_or_directory_is_refused_or_causes_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        // A missing file is not a problem, because the store creates it with mode 0600.
        assert_eq!(check_store(&path).unwrap(), [""; 0]);
        fs::write(&path, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let group = fs::metadata(&path).unwrap().gid();
        assert!(ProcessUser::current().has_group(group), "expected a file of our group");
        for (file, parent, want) in [
            (0o600, 0o700, &[][..]),
            (0o644, 0o755, &[]),
            (0o660, 0o700, &["is writable by its group (mode 0660)"]),
            (0o600, 0o770, &["is writable by its group (mode 0770)"]),
            (0o600, 0o2770, &["is writable by its group (mode 2770)"]),
            (0o600, 0o777, &["is writable by all users (mode 0777)"]),
            (0o600, 0o1777, &[]),
            (
                0o660,
                0o777,
                &["is writable by its group (mode 0660)", "is writable by all users (mode 0777)"],
            ),
        ] {
            set(&path, file);
            set(directory.path(), parent);
            let got = check_store(&path).unwrap();
            let is_same =
                got.len() == want.len() && got.iter().zip(want).all(|(a, b)| a.contains(b));
            assert!(is_same, "{file:o} in {parent:o}: {got:?}, expected {want:?}");
        }
        set(&path, 0o602);
        assert!(matches!(check_store(&path), Err(SecretFileError::Writable { mode: 0o602, .. })));
    }

    #[test]
    fn other_files_and_directories_that_all_users_can_write_cause_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("demo.yml");
        fs::write(&path, "").unwrap();
        for (mode, is_warned) in [(0o600, false), (0o664, false), (0o646, true), (0o666, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(public_file_warning(&path).is_some(), is_warned, "{mode:o}");
        }
        for (mode, is_warned) in [(0o755, false), (0o775, false), (0o777, true), (0o1777, false)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(directory_warning(&path, Other::Others).is_some(), is_warned, "{mode:o}");
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
