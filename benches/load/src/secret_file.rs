//! Reads files with credentials.

use std::{fs, io, io::Read, os::unix::fs::PermissionsExt, path::Path};

use zeroize::Zeroizing;

/// The largest file that is read. 100,000 tokens of 1 KiB fit.
const LARGEST: u64 = 100 << 20;

/// Why a file was not read. The messages contain no path, because a user may have typed a token in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error(
        "the file is accessible to users other than its owner (mode {0:04o}); run chmod 600 on it"
    )]
    Accessible(u32),
    #[error("the file has more than {LARGEST} bytes")]
    TooLarge,
    #[error("the file is not text in UTF-8")]
    NotText,
}

/// Reads a regular file to which only its owner has access.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    // A pipe without a writer would block `open`.
    if !fs::metadata(path)?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Accessible(mode));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(metadata.len().min(LARGEST) as usize + 1));
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(SecretFileError::TooLarge);
    }
    let text = std::str::from_utf8(&content).map_err(|_| SecretFileError::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}
