//! This file defines the report of `check`.

use super::finding::Finding;
use super::totals::{Examined, Totals};
use crate::core::allocation::Allocation;
use crate::core::listener::Listeners;

/// The report of `check`.
pub(crate) struct Report<'a> {
    /// The findings, conflicts before warnings.
    pub(crate) findings: &'a [Finding],
    /// Every row of the table.
    pub(crate) rows: &'a [Allocation],
    /// The users of the rows' ports, or `None` if they were not looked up.
    pub(crate) listeners: Option<&'a Listeners>,
    /// The numbers of rows, folders and files that were examined.
    pub(crate) examined: Examined,
}

impl Report<'_> {
    /// Returns the conflicts if `is_conflict` is set, and the warnings otherwise.
    pub(crate) fn of(&self, is_conflict: bool) -> Vec<&Finding> {
        self.findings.iter().filter(|found| found.kind.is_conflict() == is_conflict).collect()
    }

    /// Returns the totals of what was examined and found.
    pub(crate) fn totals(&self) -> Totals {
        Totals::new(self.examined, self.findings)
    }
}
