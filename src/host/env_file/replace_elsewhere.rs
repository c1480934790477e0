//! Stands in for the replacement of files on systems other than Linux, where a finished file without a name
//! cannot be given one: every file is written in place.

use std::fs::{File, OpenOptions};
use std::io;

use anyhow::{Context, Result};

use super::place::Place;
use super::replaced::{Replaced, Sync};

/// Replaces no file, so that the caller writes in place.
///
/// # Errors
///
/// Never fails.
pub(super) fn replace(
    _place: &Place,
    _old: &File,
    _read: &[u8],
    _edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>,
    _sync: Sync,
) -> Result<Replaced> {
    Ok(Replaced::Not)
}

/// Creates an empty file that does not exist yet, and returns false: the next attempt finds the file and
/// writes to it.
///
/// # Errors
///
/// Fails when the file cannot be made.
pub(super) fn create(place: &Place, _content: &[u8]) -> Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(place.path()) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err).context("it cannot be made"),
        _ => Ok(false),
    }
}

/// Removes nothing, as nothing is left beside a file that is written in place.
pub(super) fn remove_leftover(_place: &Place, _file: &File) {}
