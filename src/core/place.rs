//! Tells of an app where its directory is, which state its row is in, and what its files declare.

use std::ops::RangeInclusive;

use super::allocation::{Allocation, State};
use super::declared::{Declared, Role};

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

/// What one line of an app's file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredLine {
    /// The file, as a path from the app's directory on.
    pub(crate) file: String,
    /// The line in it, from 1.
    pub(crate) line: usize,
    /// The ports that it names for the backend.
    pub(crate) backend: Vec<RangeInclusive<u16>>,
    /// The ports that it names for the frontend.
    pub(crate) frontend: Vec<RangeInclusive<u16>>,
}

/// What an app's files declare, line by line; the ports of other services are left out.
pub(crate) fn declared_lines(declared: &Declared) -> Vec<DeclaredLine> {
    let mut lines: Vec<DeclaredLine> = Vec::new();
    for found in declared.ports.iter().filter(|found| found.role != Role::Other) {
        let (file, line) = (found.file.clone(), found.line);
        let index = lines.iter().position(|known| known.file == file && known.line == line).unwrap_or_else(|| {
            lines.push(DeclaredLine { file, line, backend: Vec::new(), frontend: Vec::new() });
            lines.len() - 1
        });
        let ports = if found.role == Role::Backend { &mut lines[index].backend } else { &mut lines[index].frontend };
        ports.push(found.ports.clone());
    }
    lines.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    lines
}
