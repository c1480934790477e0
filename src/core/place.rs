//! Where an app is: its directory, and what its row is because of it.

use super::allocation::{Allocation, State};

/// What was seen of an app in the apps directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// What its row is.
    pub(crate) state: State,
    /// Its directory, where there is one.
    pub(crate) directory: Option<String>,
}

/// A row as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Listed<'a> {
    /// The row.
    pub(crate) row: &'a Allocation,
    /// Where its app is, if that was looked at.
    pub(crate) place: Option<Place>,
}
