//! Rotates full files: `audit.jsonl` becomes `audit.jsonl.1`, which becomes `audit.jsonl.2`, and so on.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

/// Renames `path` to number 1, after each numbered file in its way was renamed to the next number. The
/// file with number `keep` is replaced, and so deleted.
///
/// Files behind a free number are not renamed. So after a crash between two renames the free number is
/// used, and no file is lost without need. If there is no file at `path`, which is another state that a
/// crash leaves, nothing is done.
///
/// # Errors
/// The error of the first rename that fails. A second call continues with that rename.
pub(super) fn make_room(path: &Path, keep: NonZeroU32) -> io::Result<()> {
    if !fs::exists(path)? {
        return Ok(());
    }
    let mut free = 1;
    while free < keep.get() && fs::exists(numbered(path, free))? {
        free += 1;
    }
    for number in (1..free).rev() {
        fs::rename(numbered(path, number), numbered(path, number + 1))?;
    }
    fs::rename(path, numbered(path, 1))
}

/// `audit.jsonl` and 2: `audit.jsonl.2`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut numbered = path.as_os_str().to_owned();
    numbered.push(format!(".{number}"));
    numbered.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by name, each with its content, before and after.
    #[test]
    fn files_behind_a_free_number_are_not_renamed() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Files<'_>, Files<'_>)] = &[
            (&[], &[]),
            (&[("a", "1")], &[("a.1", "1")]),
            (&[("a", "2"), ("a.1", "1")], &[("a.1", "2"), ("a.2", "1")]),
            // All numbers are used: the oldest file is deleted.
            (
                &[("a", "4"), ("a.1", "3"), ("a.2", "2"), ("a.3", "1")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            // The states that a crash between two renames leaves.
            (
                &[("a", "4"), ("a.2", "3"), ("a.3", "2")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            (
                &[("a", "4"), ("a.1", "3"), ("a.3", "2")],
                &[("a.1", "4"), ("a.2", "3"), ("a.3", "2")],
            ),
            (&[("a.1", "1"), ("a.2", "2")], &[("a.1", "1"), ("a.2", "2")]),
        ];
        for (before, after) in cases {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in *before {
                fs::write(directory.path().join(name), content).unwrap();
            }
            make_room(&directory.path().join("a"), NonZeroU32::new(3).unwrap()).unwrap();
            let mut there: Vec<_> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let content = fs::read_to_string(entry.path()).unwrap();
                    (entry.file_name().into_string().unwrap(), content)
                })
                .collect();
            there.sort();
            let there: Vec<_> = there.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
            assert_eq!(there, *after, "{before:?}");
        }
    }
}
