//! This file defines the bounds on what the reading of one app's files may cost.
//!
//! Anybody may have written these files, and `check` reads those of thousands of apps. Each bound is far
//! above the needs of a file that people write. A file that exceeds a bound is reported as unreadable.

use std::cell::Cell;

/// The size of a file, in bytes.
pub(super) const FILE_BYTES: u64 = 1 << 20;

/// The total size of all files of an app, in bytes.
pub(super) const APP_BYTES: u64 = 2 << 20;

/// The most files of an app that are opened.
pub(super) const FILES: usize = 64;

/// The most nodes for which the aliases of one YAML file may stand. An alias may name a list of aliases, so
/// fourteen lines may stand for millions of nodes.
pub(super) const ALIASED_NODES: usize = 20_000;

/// The most levels of nesting in YAML. Compose's own reader stops at 10,000.
pub(super) const YAML_DEPTH: usize = 100;

/// The most nodes of all files that are processed. A file that is included twice counts twice.
pub(super) const NODES: usize = 500_000;

/// The number of nodes as which one `include` counts, in addition to the nodes of its files.
pub(super) const INCLUDE_COST: usize = 1_000;

/// The most services and entries of `ports` that `extends` and `include` may copy.
pub(super) const COPIED: usize = 100_000;

/// The longest chain of services that extend one another, and of files that include one another.
pub(super) const CHAIN: usize = 32;

/// The deepest nesting of variables in the defaults of variables.
pub(super) const VARIABLE_DEPTH: usize = 16;

/// The longest text after its variables are replaced, in bytes.
pub(super) const TEXT_BYTES: usize = 64 << 10;

/// The most bytes that the replacement of variables in one `.env` may produce. Variables that contain
/// variables grow fast.
pub(super) const EXPANDED_BYTES: usize = 1 << 20;

/// The remainder of the bounds that apply to all files of one app.
pub(super) struct Budget {
    files: Cell<usize>,
    bytes: Cell<u64>,
    nodes: Cell<usize>,
    copied: Cell<usize>,
}

impl Budget {
    /// Returns the full budget.
    pub(super) fn full() -> Self {
        Self {
            files: Cell::new(FILES),
            bytes: Cell::new(APP_BYTES),
            nodes: Cell::new(NODES),
            copied: Cell::new(COPIED),
        }
    }

    /// Counts one file and returns its largest permitted size in bytes, or `None` if too many files were
    /// opened.
    pub(super) fn file(&self) -> Option<u64> {
        self.files.set(self.files.get().checked_sub(1)?);
        Some(self.bytes.get().min(FILE_BYTES))
    }

    /// Subtracts the bytes of a file.
    pub(super) fn read(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    /// Returns how many files were opened.
    pub(super) fn opened(&self) -> usize {
        FILES - self.files.get()
    }

    /// Subtracts the nodes of a document. Tells whether enough were left.
    pub(super) fn look_at(&self, nodes: usize) -> bool {
        take(&self.nodes, nodes)
    }

    /// Subtracts the services and entries that are copied. Tells whether enough were left.
    pub(super) fn copy(&self, count: usize) -> bool {
        take(&self.copied, count)
    }
}

fn take(left: &Cell<usize>, count: usize) -> bool {
    let after = left.get().checked_sub(count);
    left.set(after.unwrap_or(0));
    after.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_not_given_again() {
        let budget = Budget::full();
        assert_eq!(budget.file(), Some(1 << 20));
        budget.read(FILE_BYTES);
        assert_eq!(budget.file(), Some(1 << 20));
        budget.read(FILE_BYTES - 3);
        assert_eq!((budget.file(), budget.opened()), (Some(3), 3));
        budget.read(4);
        assert_eq!(budget.file(), Some(0));
        assert_eq!((4..FILES).filter_map(|_| budget.file()).count(), 60);
        assert_eq!((budget.file(), budget.opened()), (None, FILES));
        assert!(budget.look_at(NODES) && budget.look_at(0) && !budget.look_at(1));
        assert!(budget.copy(1) && !budget.copy(COPIED) && !budget.copy(1));
    }
}
