//! This file counts what was examined and what was found.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use super::finding::{Finding, Kind};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::core::apps_dir::AppsDirView;

/// The numbers of rows, folders and files that were examined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Examined {
    /// The number of rows in the table.
    pub(crate) allocations: usize,
    /// The number of apps' folders.
    pub(crate) directories: usize,
    /// The number of files in those folders that were read.
    pub(crate) files: usize,
}

impl Examined {
    /// Counts the rows and, if there is a view of the apps directory, its folders and files.
    pub(crate) fn new(rows: &[Allocation], view: Option<&AppsDirView>) -> Self {
        Self {
            allocations: rows.len(),
            directories: view.map_or(0, |view| view.found.len()),
            files: view.map_or(0, |view| view.declared.iter().map(|declared| declared.files).sum()),
        }
    }
}

/// The totals of what was examined and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    examined: Examined,
    conflicts: usize,
    /// The number of apps that have conflicts. If a file names other apps' ports, only the app of the file
    /// counts.
    apps: usize,
    warnings: usize,
}

impl Totals {
    /// Counts findings.
    pub(crate) fn new(examined: Examined, findings: &[Finding]) -> Self {
        let conflicts: Vec<_> = findings.iter().filter(|found| found.kind.is_conflict()).collect();
        let apps: BTreeSet<&AppId> = conflicts
            .iter()
            .flat_map(
                |found| if found.kind == Kind::DeclaredClash { found.apps.get(..1) } else { Some(&found.apps[..]) },
            )
            .flatten()
            .collect();
        let warnings = findings.len() - conflicts.len();
        Self { examined, conflicts: conflicts.len(), apps: apps.len(), warnings }
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Examined { allocations, directories, files } = self.examined;
        write!(
            f,
            "{}, {} and {} checked: {}",
            counted(allocations, "allocation", "allocations"),
            counted(directories, "app directory", "app directories"),
            counted(files, "file", "files"),
            counted(self.conflicts, "conflict", "conflicts"),
        )?;
        if self.apps > 0 {
            write!(f, " in {}", counted(self.apps, "app", "apps"))?;
        }
        write!(f, ", {}", counted(self.warnings, "warning", "warnings"))
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::allocation::tests::row;
    use crate::core::conflict::finding::about;

    #[test]
    fn totals_read_like_a_sentence() {
        let examined = Examined { allocations: 1, directories: 1, files: 1 };
        assert_eq!(
            Totals::new(examined, &[]).to_string(),
            "1 allocation, 1 app directory and 1 file checked: 0 conflicts, 0 warnings"
        );
        let examined = Examined { allocations: 750, directories: 90, files: 120 };
        let found = |kind, app_num| about(kind, String::new(), &row(app_num, "m", app_num, 5001, 8001));
        let mut clash = found(Kind::DeclaredClash, 1);
        clash.apps.push(AppId::new("other", 1));
        let findings =
            [clash, found(Kind::DeclaredPortsDiffer, 1), found(Kind::InvalidPort, 2), found(Kind::Orphaned, 3)];
        assert_eq!(
            Totals::new(examined, &findings).to_string(),
            "750 allocations, 90 app directories and 120 files checked: 3 conflicts in 2 apps, 1 warning"
        );
    }
}
