//! Makes the Unix socket of a takeover, connects to it, and checks that only the same user can use it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// The socket on which the running process waits for its successor.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The device and the inode of the socket. They show whether another process has replaced the socket at `path`.
    id: (u64, u64),
}

impl Socket {
    /// Makes the socket with mode 0600. It replaces the socket of another process at the path, even if that process
    /// runs.
    ///
    /// # Errors
    /// For example, if the path is too long, or if other users can write to the directory.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        check_directory(path)?;
        // The socket gets its mode before it gets its final name. So no other user can connect.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", process::id()));
        let temporary = PathBuf::from(temporary);
        // A process with the same id may have left this file behind.
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        let bound: io::Result<_> = (|| {
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
            let metadata = fs::symlink_metadata(&temporary)?;
            fs::rename(&temporary, path)?;
            Ok((metadata.dev(), metadata.ino()))
        })();
        if bound.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        Ok(Self { listener, path: path.to_owned(), id: bound? })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id);
        if is_own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to the socket of the running process. Returns `None` if no process listens there.
///
/// # Errors
/// For example, if other users can write to the directory, or if another user listens on the socket.
pub(super) async fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    if !directory_of(path).exists() {
        return Ok(None);
    }
    check_directory(path)?;
    match UnixStream::connect(path).await {
        Ok(stream) => {
            check_peer(&stream)?;
            Ok(Some(stream))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Checks that the process at the other end runs as the same user (`SO_PEERCRED`).
pub(super) fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let own = geteuid().as_raw();
    if is_same_user(peer, own) {
        return Ok(());
    }
    let text = format!("the process at the other end runs as user {peer}, not as user {own}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Returns whether both processes run as the same user. Not even root may take over from another user: a process of
/// root would leave files behind that the other user cannot write.
fn is_same_user(peer: u32, own: u32) -> bool {
    peer == own
}

/// Returns the directory of the socket. This is the current directory if `path` is only a name.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Checks that no other user, except root, can replace the socket.
fn check_directory(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    let metadata = fs::metadata(directory)?;
    let problem = directory_problem(metadata.uid(), metadata.mode(), geteuid().as_raw());
    match problem {
        None => Ok(()),
        Some(problem) => {
            let text = format!("{}: {problem}", directory.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }
}

fn directory_problem(owner: u32, mode: u32, own: u32) -> Option<String> {
    if owner != own && owner != 0 {
        return Some(format!(
            "the directory belongs to user {owner}; it must belong to user {own} or to root"
        ));
    }
    let is_writable = mode & 0o022 != 0;
    is_writable.then(|| {
        format!("other users can write to the directory (mode {:o}); use chmod go-w", mode & 0o7777)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_may_take_over() {
        for (peer, own, want) in [
            (1000, 1000, true),
            (0, 0, true),
            (1001, 1000, false),
            (0, 1000, false),
            (1000, 0, false),
        ] {
            assert_eq!(is_same_user(peer, own), want, "{peer} {own}");
        }
    }

    #[test]
    fn a_name_without_a_directory_is_in_the_current_directory() {
        for (path, want) in
            [("s", "."), ("./s", "."), ("run/s", "run"), ("/run/s", "/run"), ("/s", "/")]
        {
            assert_eq!(directory_of(Path::new(path)), Path::new(want), "{path}");
        }
    }

    #[test]
    fn no_other_user_may_write_to_the_directory() {
        for (owner, mode, want) in [
            (1000, 0o40700, None),
            (0, 0o40755, None),
            (1001, 0o40700, Some("must belong to user 1000")),
            (1000, 0o40770, Some("mode 770")),
            (0, 0o41777, Some("mode 1777")),
        ] {
            let problem = directory_problem(owner, mode, 1000);
            match want {
                None => assert_eq!(problem, None, "{owner} {mode:o}"),
                Some(want) => assert!(problem.as_ref().unwrap().contains(want), "{problem:?}"),
            }
        }
    }

    #[tokio::test]
    async fn the_socket_has_mode_0600_and_a_new_socket_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("s");
        assert!(connect(&path).await.unwrap().is_none());
        let first = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(connect(&path).await.unwrap().is_some());
        let second = Socket::bind(&path).unwrap();
        // The first process ends after the second process has begun. The end of the first process does not remove the
        // socket of the second process.
        drop(first);
        assert!(connect(&path).await.unwrap().is_some());
        drop(second);
        assert!(!path.exists());
        assert!(connect(&path).await.unwrap().is_none());
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
