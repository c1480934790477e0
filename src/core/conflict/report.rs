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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::conflict::finding::Kind;

    #[test]
    fn a_finding_is_a_conflict_or_a_warning() {
        let kinds = [Kind::InvalidPort, Kind::DeclaredClash, Kind::Orphaned, Kind::Unreadable];
        let findings = kinds.map(|kind| Finding::new(kind, String::new()));
        let report = Report { findings: &findings, rows: &[], listeners: None, examined: Examined::default() };
        let kinds_of = |is_conflict| report.of(is_conflict).iter().map(|found| found.kind).collect::<Vec<_>>();
        assert_eq!((&kinds_of(true)[..], &kinds_of(false)[..]), kinds.split_at(2));
    }
}
