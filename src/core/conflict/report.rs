//! What a check tells.

use super::finding::Finding;
use super::totals::{Examined, Totals};
use crate::core::allocation::Allocation;
use crate::core::listener::Listeners;

/// What a check tells.
pub(crate) struct Report<'a> {
    /// What was found, conflicts before warnings.
    pub(crate) findings: &'a [Finding],
    /// Every row of the table.
    pub(crate) rows: &'a [Allocation],
    /// Who uses the rows' ports; `None` if that was not looked at.
    pub(crate) listeners: Option<&'a Listeners>,
    /// How much was looked at.
    pub(crate) examined: Examined,
}

impl Report<'_> {
    /// The findings that are conflicts, or those that are warnings.
    pub(crate) fn of(&self, is_conflict: bool) -> Vec<&Finding> {
        self.findings.iter().filter(|found| found.kind.is_conflict() == is_conflict).collect()
    }

    /// How much was looked at and found.
    pub(crate) fn totals(&self) -> Totals {
        Totals::new(self.examined, self.findings)
    }
}
