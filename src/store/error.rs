//! The error type of the stores: the reasons why a store could not do what a command asked.

use std::time::Duration;

use crate::core::allocation::ForeignMetadata;
use crate::core::counts::RetryReason;
use crate::core::refusal::Refusal;

/// The reason why a store could not do what it was asked.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// Another process blocks this one for now. The text names what this process waits for.
    Busy(RetryReason, &'static str),
    /// A row would violate a constraint, in the database's words.
    Conflict(String),
    /// The time for waiting is over.
    Locked {
        /// How long this process waited.
        waited: Duration,
        /// The number of tries.
        tries: u64,
        /// The thing that it waited for, in words.
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
        /// The problem, in words that follow the database's name.
        why: String,
        /// Advice for the user.
        hint: Option<&'static str>,
    },
}

impl StoreError {
    /// Returns the error for a database that cannot be used for this reason. The reason follows the
    /// database's name.
    pub(super) fn unusable(why: impl Into<String>) -> Self {
        Self::Unusable { why: why.into(), hint: None }
    }

    /// Adds to a wait that timed out who holds the lock, as far as that is known.
    pub(super) fn held_by(self, holders: &[String]) -> Self {
        match (self, holders) {
            (Self::Locked { waited, tries, what }, [first, rest @ ..]) => {
                let what = match rest.len() {
                    0 => format!("{what}: {first} holds the lock"),
                    more => format!("{what}: {first} and {more} more hold the lock"),
                };
                Self::Locked { waited, tries, what }
            }
            (other, _) => other,
        }
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
