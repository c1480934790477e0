//! The bounds on what one app's files may cost, all in one place.
//!
//! Anybody may have written these files, and `check` reads those of thousands of apps. Each bound is far
//! above what a file that people write needs; what is above one is told as unreadable.

use std::cell::Cell;

/// The size of a file, in bytes.
pub(super) const FILE_BYTES: u64 = 1 << 20;

/// The size of all files of an app together, in bytes.
pub(super) const APP_BYTES: u64 = 2 << 20;

/// How many files of an app are opened.
pub(super) const FILES: usize = 64;

/// How many nodes the aliases of a YAML file may stand for, together. An alias of a list of aliases
/// stands for all that they stand for, so fourteen lines may stand for millions.
pub(super) const ALIASED_NODES: usize = 20_000;

/// How many levels of YAML may nest. Compose's own reader stops at 10,000.
pub(super) const YAML_DEPTH: usize = 100;

/// How many nodes of all files are looked at, where `include` makes the same file count again.
pub(super) const NODES: usize = 500_000;

/// How many of these nodes an `include` counts as, beside those of its files.
pub(super) const INCLUDE_COST: usize = 1_000;

/// How many services and entries of `ports` may be copied by `extends` and `include`.
pub(super) const COPIED: usize = 100_000;

/// How many services may extend one another in a row, and how many files may include one another.
pub(super) const CHAIN: usize = 32;

/// How deep the default of a variable may hold another variable.
pub(super) const VARIABLE_DEPTH: usize = 16;

/// The length of a text after its variables are replaced, in bytes.
pub(super) const TEXT_BYTES: usize = 64 << 10;

/// How many bytes replacing the variables in one `.env` may make: variables of variables grow fast.
pub(super) const EXPANDED_BYTES: usize = 1 << 20;

/// What is left of the bounds that count over all files of one app.
pub(super) struct Budget {
    files: Cell<usize>,
    bytes: Cell<u64>,
    nodes: Cell<usize>,
    copied: Cell<usize>,
}

impl Budget {
    /// All of it.
    pub(super) fn full() -> Self {
        Self {
            files: Cell::new(FILES),
            bytes: Cell::new(APP_BYTES),
            nodes: Cell::new(NODES),
            copied: Cell::new(COPIED),
        }
    }

    /// Takes one file; the bytes that it may have, `None` where too many were opened.
    pub(super) fn file(&self) -> Option<u64> {
        self.files.set(self.files.get().checked_sub(1)?);
        Some(self.bytes.get().min(FILE_BYTES))
    }

    /// Takes the bytes of a file.
    pub(super) fn read(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    /// How many files were opened.
    pub(super) fn opened(&self) -> usize {
        FILES - self.files.get()
    }

    /// Takes the nodes of a document; whether they were left.
    pub(super) fn look_at(&self, nodes: usize) -> bool {
        take(&self.nodes, nodes)
    }

    /// Takes services and entries that are copied; whether they were left.
    pub(super) fn copy(&self, count: usize) -> bool {
        take(&self.copied, count)
    }
}

fn take(left: &Cell<usize>, count: usize) -> bool {
    let after = left.get().checked_sub(count);
    left.set(after.unwrap_or(0));
    after.is_some()
}
