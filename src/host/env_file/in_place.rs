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
