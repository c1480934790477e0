//! This file converts SQLite's errors.

use std::io;

use rusqlite::{ErrorCode, ffi};

use super::holder::WRITER;
use crate::core::counts::RetryReason;
use crate::store::error::StoreError;

/// Returns the error for a damaged database, in SQLite's words.
///
/// The hint names the shell's `.dump`, which saves the data that can still be read and, unlike `.recover`,
/// needs no extension. Its output ends with a ROLLBACK if a table itself is damaged.
pub(super) fn damaged(what: &str) -> StoreError {
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(", ");
    StoreError::Unusable {
        why: format!("is damaged: {what}"),
        hint: Some(
            "restore a copy, or save what can be read with \
             `sqlite3 DAMAGED.db .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 NEW.db`",
        ),
    }
}

/// Tells whether a row has the same unique value as another row, so that another choice may succeed.
fn is_taken(err: &rusqlite::Error) -> bool {
    let code = err.sqlite_error().map(|err| err.extended_code);
    matches!(
        code,
        Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID)
    )
}

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        let (why, hint) = match err.sqlite_error_code() {
            // FileLockingProtocolFailed is a race for the write-ahead log, which is over at the next try.
            Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed) => {
                return Self::Busy(RetryReason::Writer, WRITER);
            }
            Some(ErrorCode::ConstraintViolation) if is_taken(&err) => return Self::Conflict(err.to_string()),
            Some(ErrorCode::ConstraintViolation) => {
                (format!("does not accept the row: {err}"), Some("a constraint or trigger of its owner forbids it"))
            }
            Some(ErrorCode::NotADatabase) => ("is not a SQLite database".into(), None),
            Some(ErrorCode::DatabaseCorrupt) => return damaged(&err.to_string()),
            Some(ErrorCode::ReadOnly) => {
                let hint =
                    "it must be writable to write, to undo what a killed writer left, and to use its write-ahead log";
                ("is read-only".into(), Some(hint))
            }
            Some(ErrorCode::CannotOpen) => {
                ("cannot be opened".into(), Some("check the permissions of the file and of its folder"))
            }
            Some(ErrorCode::DiskFull) => ("cannot be written: the disk is full".into(), None),
            _ => (format!("cannot be used: {err}"), None),
        };
        Self::Unusable { why, hint }
    }
}

impl From<io::Error> for StoreError {
    fn from(err: io::Error) -> Self {
        Self::unusable(format!("cannot be used: {err}"))
    }
}
