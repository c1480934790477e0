//! Why a store could not do what a command asked of it.

use std::time::Duration;

use crate::core::allocation::ForeignMetadata;
use crate::core::refusal::Refusal;

/// Why a store could not do what it was asked.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// Another process is in the way for now; names what this process waits for.
    Busy(&'static str),
    /// A row would break a constraint, in the database's words.
    Conflict(String),
    /// The time for waiting is over.
    Locked {
        /// How long this process waited.
        waited: Duration,
        /// How often it tried.
        tries: u64,
        /// What it waited for.
        what: String,
    },
    /// The user asked to stop while this process waited.
    Interrupted,
    /// No pair could be chosen.
    Refused(Refusal),
    /// There is no database yet.
    Missing,
    /// The database cannot be used.
    Unusable {
        /// What is wrong, to be read after the database's name.
        why: String,
        /// What to do about it.
        hint: Option<&'static str>,
    },
}

impl StoreError {
    /// A database that cannot be used for this reason, which is read after the database's name.
    pub(super) fn unusable(why: impl Into<String>) -> Self {
        Self::Unusable { why: why.into(), hint: None }
    }
}

impl From<ForeignMetadata> for StoreError {
    fn from(ForeignMetadata(app): ForeignMetadata) -> Self {
        Self::Unusable {
            why: format!("has metadata of {app} that is no JSON object: a reservation cannot be added to it"),
            hint: Some("set its metadata_json to NULL, or release the app"),
        }
    }
}
