//! Rotates full files: `audit.jsonl` becomes `audit.jsonl.1`, which becomes `audit.jsonl.2`, and so on.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

/// Renames `path.1` to `path.2`, `path.2` to `path.3`, and so on, up to the first number that is free. Then renames the
/// file at `path` to `path.1`. If no number up to `keep` is free, replaces the file `path.keep`.
///
/// Deletes files with numbers from `keep + 1` to 99,999. Such files exist if `keep` was lowered.
///
/// A crash between two renames can leave a free number. The next call uses this number, so that no file is lost. If
/// there is no file at `path`, for example after a crash, this function does nothing.
///
/// # Errors
/// The error of the first operation that fails. A second call continues with the rename that failed.
pub(crate) fn make_room(path: &Path, keep: NonZeroU32) -> io::Result<()> {
    if !fs::exists(path)? {
        return Ok(());
    }
    let mut free = 1;
    while free < keep.get() && fs::exists(numbered(path, free))? {
        free += 1;
    }
    remove_above(path, keep)?;
    for number in (1..free).rev() {
        fs::rename(numbered(path, number), numbered(path, number + 1))?;
    }
    fs::rename(path, numbered(path, 1))
}

/// Files with higher numbers are not deleted, because other tools append a date as a number, such as
/// `audit.jsonl.20261129`.
const MAX_NUMBER: u32 = 99_999;

fn remove_above(path: &Path, keep: NonZeroU32) -> io::Result<()> {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else { return Ok(()) };
    let here = Path::new(".");
    let directory = if directory.as_os_str().is_empty() { here } else { directory };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file = entry.file_name();
        let suffix = file.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let number = suffix.and_then(|suffix| suffix.strip_prefix(b".")).and_then(number);
        if number.is_some_and(|number| number > keep.get() && number <= MAX_NUMBER)
            && entry.file_type()?.is_file()
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Parses a number as [`numbered`] writes it.
fn number(digits: &[u8]) -> Option<u32> {
    let is_number = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut numbered = path.as_os_str().to_owned();
    numbered.push(format!(".{number}"));
    numbered.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_renamed_up_to_the_first_free_number() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        // The files before the rotation, and the files after the rotation.
        let cases: &[(Files<'_>, Files<'_>)] = &[
            (&[], &[]),
            (&[("a", "1")], &[("a.1", "1")]),
            (&[("a", "2"), ("a.1", "1")], &[("a.1", "2"), ("a.2", "1")]),
            // No number is free: the oldest file is deleted.
            (
                &[("a", "4"), ("a.1", "3"), ("a.2", "2"), ("a.3", "1")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            // A crash between two renames leaves these files.
            (
                &[("a", "4"), ("a.2", "3"), ("a.3", "2")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            (
                &[("a", "4"), ("a.1", "3"), ("a.3", "2")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            (&[("a.1", "1"), ("a.2", "2")], &[("a.1", "1"), ("a.2", "2")]),
            // `keep` was lowered: the files with higher numbers are deleted. Other names stay.
            (
                &[
                    ("a", "9"),
                    ("a.1", "8"),
                    ("a.2", "7"),
                    ("a.3", "6"),
                    ("a.4", "5"),
                    ("a.10", "0"),
                ],
                &[("a.1", "9"), ("a.2", "8"), ("a.3", "7")],
            ),
            (
                &[("a", "2"), ("a.020", "x"), ("a.20261129", "x"), ("a.9x", "x"), ("b.9", "x")],
                &[("a.020", "x"), ("a.1", "2"), ("a.20261129", "x"), ("a.9x", "x"), ("b.9", "x")],
            ),
        ];
        for (before, after) in cases {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in *before {
                fs::write(directory.path().join(name), content).unwrap();
            }
            make_room(&directory.path().join("a"), NonZeroU32::new(3).unwrap()).unwrap();
            let mut files: Vec<_> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let content = fs::read_to_string(entry.path()).unwrap();
                    (entry.file_name().into_string().unwrap(), content)
                })
                .collect();
            files.sort();
            let files: Vec<_> = files.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
            assert_eq!(files, *after, "{before:?}");
        }
    }
}
