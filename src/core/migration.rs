//! This file defines what a migration of the table finds and changes.

use std::collections::HashMap;
use std::path::PathBuf;

use super::allocation::Allocation;
use super::conflict::{Finding, obstacle};
use super::schema::UniqueIndex;

/// The changes that give a table its unique indexes, or the rows that are in the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Migration {
    /// The indexes that are added under a name that is free.
    pub(crate) added: Vec<UniqueIndex>,
    /// The indexes that replace one of the same name that does not keep the columns unique.
    pub(crate) replaced: Vec<UniqueIndex>,
    /// The rows that the indexes would not accept. If there are any, nothing is changed.
    pub(crate) obstacles: Vec<Finding>,
    /// The copy of the database that was made first.
    pub(crate) copy: Option<PathBuf>,
}

impl Migration {
    /// Plans to add the missing indexes, unless rows are in the way. `replaces` tells whether an index of the
    /// same name has to go first.
    pub(crate) fn new(
        missing: impl IntoIterator<Item = UniqueIndex>,
        replaces: impl Fn(UniqueIndex) -> bool,
        mut obstacles: Vec<Finding>,
    ) -> Self {
        if !obstacles.is_empty() {
            obstacles.sort_by_key(|found| found.kind);
            return Self { obstacles, ..Self::default() };
        }
        let (replaced, added) = missing.into_iter().partition(|&index| replaces(index));
        Self { added, replaced, ..Self::default() }
    }

    /// Returns the indexes to make.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = UniqueIndex> {
        self.added.iter().chain(&self.replaced).copied()
    }

    /// Tells whether there is an index to make and nothing in the way.
    pub(crate) fn has_work(&self) -> bool {
        self.indexes().next().is_some()
    }
}

/// Returns a finding for each group of rows that have the same values in the columns of an index. `groups` has
/// the id of each such row and the number of its group.
pub(crate) fn obstacles(index: UniqueIndex, groups: &[(i64, i64)], rows: &[Allocation]) -> Vec<Finding> {
    let rows: HashMap<_, _> = rows.iter().map(|row| (row.id, row)).collect();
    let of_group = |group: &[(i64, i64)]| {
        let rows: Vec<_> = group.iter().filter_map(|(id, _)| rows.get(id).copied()).collect();
        obstacle(index, &rows)
    };
    groups.chunk_by(|(_, one), (_, other)| one == other).filter_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::allocation::tests::row;

    #[test]
    fn rows_in_the_way_are_told_in_the_words_of_check_and_stop_everything() {
        let rows = [row(1, "a", 1, 5001, 8001), row(2, "b", 1, 5001, 8001), row(3, "a", 1, 0, 8003)];
        let app = obstacles(UniqueIndex::ModelApp, &[(1, 1), (3, 1)], &rows);
        let port = obstacles(UniqueIndex::BackendPort, &[(1, 4), (2, 4)], &rows);
        let found = Migration::new(UniqueIndex::ALL, |_| true, [app, port].concat());
        let messages: Vec<_> = found.obstacles.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "Backend port 5001 used by multiple apps: a/app1, b/app1",
                "App a/app1 has 2 allocations: 5001/8001, 0/8003"
            ]
        );
        assert!(!found.has_work());
    }

    #[test]
    fn an_index_is_added_or_replaced() {
        let [app, backend, _] = UniqueIndex::ALL;
        let plan = Migration::new([app, backend], |index| index == backend, Vec::new());
        assert_eq!((&*plan.added, &*plan.replaced), (&[app][..], &[backend][..]));
        assert!(plan.has_work());
    }
}
