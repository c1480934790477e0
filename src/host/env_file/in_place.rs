//! This file changes an env file in place, if it cannot be replaced: it has another hard link, is a mount
//! point, or has rights that this user cannot give to a new file, or this user cannot write to the folder.
//!
//! The new bytes are computed first, and disk space for them is reserved. Then the file is written:
//! - New lines at the end are appended, and values of the same length are written over the old ones, each
//!   with one call of `write(2)`: whoever kills the process finds the old file or the new one.
//! - Values of another length move the bytes behind them, with one call too. Where the file gets shorter,
//!   its end is filled with empty lines and then cut off: a process that is killed in between leaves the
//!   new file with empty lines at its end.
//! - A power cut in the middle of a write can leave a mixture of both. That is why a file is replaced
//!   as a whole where that is possible.
//!
//! Where other programs write to the file at the same time, their lines stay: room for a longer file is
//! taken by appending empty lines, behind which others go on, and a file that gets shorter keeps
//! empty lines at its end.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::place::read_all;
use super::rights::Rights;

/// The most attempts to reserve space for a file that grows while it is read.
const ATTEMPTS: usize = 10;

/// Edits a file that is open and locked and was just read.
///
/// # Errors
///
/// Fails when the file cannot be written, or when `edit` refuses lines that were added meanwhile. The file is
/// then unchanged.
pub(super) fn write(file: &File, read: &[u8], edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
    let rights = Rights::of(file).ok();
    let edited = edit(read)?;
    reserve(file, edited.len()).context("there is no room for its new content")?;
    let written = match read_all(file)? == read {
        true => change(file, read, &edited, Behind::Nobody),
        false => change_beside_others(file, edit),
    };
    let synced = written.and_then(|()| file.sync_all().context("it could not be made durable"));
    // The kernel removes set-user-ID bits and capabilities from a file that is written.
    if let Some(rights) = rights
        && Rights::of(file).is_ok_and(|now| now != rights)
    {
        let _ = rights.give(file);
    }
    synced
}

/// Tells whether other programs append to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Nobody,
    Others,
}

/// Writes the bytes that differ.
fn change(file: &File, old: &[u8], new: &[u8], behind: Behind) -> Result<()> {
    if let Some(lines) = new.strip_prefix(old) {
        return append(file, lines);
    }
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let same_end = match old.len() == new.len() {
        true => old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count(),
        false => 0,
    };
    let mut bytes = new[start..new.len() - same_end].to_vec();
    let is_shorter = new.len() < old.len();
    if is_shorter {
        bytes.resize(old.len() - start, b'\n');
    }
    if let Err(err) = file.write_all_at(&bytes, start as u64) {
        // The old bytes are written back, as far as the disk permits.
        let _ = file.write_all_at(&old[start..], start as u64);
        let _ = file.set_len(old.len() as u64);
        return Err(err).context("it could not be written");
    }
    if is_shorter && behind == Behind::Nobody && file.metadata()?.len() == old.len() as u64 {
        file.set_len(new.len() as u64)?;
    }
    Ok(())
}

/// Writes while other programs append to the file.
fn change_beside_others(file: &File, edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let content = read_all(file)?;
        let edited = edit(&content)?;
        let more = edited.len().saturating_sub(content.len());
        if more == 0 || edited.starts_with(&content) {
            return change(file, &content, &edited, Behind::Others);
        }
        append(file, &b"\n".repeat(more))?;
        let end = usize::try_from((&*file).stream_position()?)?;
        let content = read_all(file)?;
        // Other programs write behind the reserved space, which ends here.
        let Some(content) = content.get(..end) else { bail!("it was made shorter") };
        let mut edited = edit(&content[..end - more])?;
        if edited.len() <= end {
            edited.resize(end, b'\n');
            return change(file, content, &edited, Behind::Others);
        }
    }
    bail!("other programs change it all the time")
}

/// Appends bytes with one call of `write(2)`.
fn append(file: &File, bytes: &[u8]) -> Result<()> {
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::APPEND)?;
    let before = file.metadata().map(|found| found.len());
    let written = (&*file).write(bytes);
    fcntl_setfl(file, flags)?;
    match written {
        Ok(count) if count == bytes.len() => Ok(()),
        // A part of a line is worse than none. It is cut off unless another program has written behind it.
        Ok(count) => {
            if let Ok(before) = before
                && file.metadata()?.len() == before + count as u64
            {
                file.set_len(before)?;
            }
            bail!("there is no room for its new content")
        }
        Err(err) => Err(err).context("it could not be written"),
    }
}

/// Reserves disk space for a file of this length, if the file system supports that.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length.max(1) as u64) {
        Err(err @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => Err(err.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::{self, OpenOptions};
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

    use super::*;

    /// Makes a file with this content, opened as an env file is.
    fn file(content: &str) -> (tempfile::TempDir, File) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), content).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(root.path().join("f")).unwrap();
        (root, file)
    }

    fn text(file: &File) -> String {
        String::from_utf8(read_all(file).unwrap()).unwrap()
    }

    /// Edits by replacing the value of `P`.
    fn set(content: &[u8], value: &str) -> Vec<u8> {
        let text = str::from_utf8(content).unwrap();
        let (before, rest) = text.split_once("P=").unwrap();
        format!("{before}P={value}{}", &rest[rest.find('\n').unwrap()..]).into_bytes()
    }

    const CASES: [(&str, &str); 7] = [
        ("A=1\n", "A=1\nB=2\n"),
        ("A=1\nP=11\nB=2\n", "A=1\nP=22\nB=2\n"),
        ("A=1\nP=1", "A=1\nP=2"),
        ("A=1\nP=1\nB=2\n", "A=1\nP=5001\nB=2\n"),
        ("A=1\nP=50010\nB=2\n", "A=1\nP=1\nB=2\n"),
        ("", "A=1\n"),
        ("1\n", "22\n"),
    ];

    #[test]
    fn a_file_gets_its_new_content() {
        for (old, new) in CASES {
            let (_root, file) = file(old);
            write(&file, old.as_bytes(), &|_| Ok(new.as_bytes().to_vec())).unwrap();
            assert_eq!(text(&file), new);
        }
    }

    #[test]
    fn what_others_have_added_stays_where_the_file_gets_shorter() {
        let (old, new) = CASES[4];
        let filled = format!("{new}\n\n\n\n");
        let (_root, alone) = file(old);
        change(&alone, old.as_bytes(), new.as_bytes(), Behind::Others).unwrap();
        assert_eq!(text(&alone), filled);
        let (_root, longer) = file(&format!("{old}C=3\n"));
        change(&longer, old.as_bytes(), new.as_bytes(), Behind::Nobody).unwrap();
        assert_eq!(text(&longer), format!("{filled}C=3\n"));
    }

    #[test]
    fn lines_that_come_while_a_file_is_edited_stay() {
        let add = |root: &Path, line: &str| {
            OpenOptions::new().append(true).open(root.join("f")).unwrap().write_all(line.as_bytes()).unwrap();
        };
        for value in ["5001", "2", ""] {
            let (root, file) = file("P=1\nA=1\n");
            let calls = Cell::new(0);
            // A line comes before the file is edited and another one while it is edited again.
            let edit = |content: &[u8]| {
                calls.set(calls.get() + 1);
                match calls.get() {
                    1 => add(root.path(), "B=2\n"),
                    2 if value == "5001" => add(root.path(), "C=3\n"),
                    _ => {}
                }
                Ok(set(content, value))
            };
            write(&file, b"P=1\nA=1\n", &edit).unwrap();
            let found = text(&file);
            let expected = format!("P={value}\nA=1\nB=2\n{}", if value == "5001" { "C=3\n" } else { "" });
            assert_eq!(found.trim_end(), expected.trim_end());
            assert_eq!(found.len() - expected.len(), usize::from(value.is_empty()), "{found:?}");
        }
    }

    #[test]
    fn bytes_are_appended_whole_or_not_at_all() {
        let (root, both_ways) = file("A=1\n");
        append(&both_ways, b"B=2\n").unwrap();
        let at_the_end = OpenOptions::new().read(true).append(true).open(root.path().join("f")).unwrap();
        append(&at_the_end, b"C=3\n").unwrap();
        assert_eq!(text(&at_the_end), "A=1\nB=2\nC=3\n");
        // A pipe takes a part of so many bytes.
        let (_reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let why = append(&OwnedFd::from(writer).into(), &b"x".repeat(4 << 20)).unwrap_err();
        assert_eq!(why.to_string(), "there is no room for its new content");
    }

    #[test]
    fn room_that_no_disk_has_is_refused() {
        let (_root, file) = file("");
        assert!(reserve(&file, 0).is_ok() && reserve(&file, 10).is_ok());
        assert!(reserve(&file, usize::MAX >> 1).is_err());
        assert_eq!(text(&file), "");
    }

    #[test]
    fn capabilities_stay() {
        let (_root, file) = file("A=1\n");
        // Permitted and effective: to listen on ports below 1024.
        let name = "security.capability";
        let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Err(err) = fsetxattr(&file, name, &value, XattrFlags::empty()) {
            println!("not run: capabilities_stay: {err}");
            return;
        }
        write(&file, b"A=1\n", &|_| Ok(b"A=2\n".to_vec())).unwrap();
        let mut found = [0; 20];
        assert_eq!((fgetxattr(&file, name, &mut found), found), (Ok(20), value));
    }
}
