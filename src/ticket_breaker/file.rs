//! Writes the state of the [breaker](super) of PassTickets to a file.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

/// Replaces the file in one step, so that a reader never sees a part of the text.
pub(super) async fn write(file: PathBuf, text: String) -> io::Result<()> {
    spawn_blocking(move || replace(&file, &text)).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut new = OsString::from(file);
    new.push(".new");
    let new = PathBuf::from(new);
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // The file contains user ids.
        options.mode(0o600);
    }
    let mut opened = options.open(&new)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&new, file)?;
    // The rename must survive a loss of power.
    if let Some(directory) = file.parent().filter(|it| !it.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
