//! What SQLite's errors mean.

use std::io;

use rusqlite::ErrorCode;

use crate::store::error::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(err: rusqlite::Error) -> Self {
        let (why, hint) = match err.sqlite_error_code() {
            // FileLockingProtocolFailed is a race for the write-ahead log, over at the next try.
            Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed) => {
                return Self::Busy("another writer to finish");
            }
            Some(ErrorCode::ConstraintViolation) => return Self::Conflict(err.to_string()),
            Some(ErrorCode::NotADatabase) => ("is not a SQLite database".into(), None),
            Some(ErrorCode::DatabaseCorrupt) => {
                (format!("is damaged: {err}"), Some("restore a copy, or save what is left with sqlite3's .recover"))
            }
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
