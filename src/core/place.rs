//! Models what commands list about an app: its row, the row's state, the app's directory, and the ports that
//! its files declare.

use std::ops::RangeInclusive;

use super::allocation::{Allocation, State};
use super::declared::{Declared, Role};

/// An app's directory and the state of the row that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The state of the app's row.
    pub(crate) state: State,
    /// The app's directory, if there is one.
    pub(crate) directory: Option<String>,
}

/// A row as a command lists it.
#[derive(Debug, Clone)]
pub(crate) struct Listed<'a> {
    /// The row.
    pub(crate) row: &'a Allocation,
    /// The app's directory and the row's state, if the apps directory was read.
    pub(crate) place: Option<Place>,
}

/// The ports that one line of an app's file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredLine {
    /// The file, as a path relative to the app's directory.
    pub(crate) file: String,
    /// The number of the line in the file, from 1.
    pub(crate) line: usize,
    /// The ports that the line declares for the backend.
    pub(crate) backend: Vec<RangeInclusive<u16>>,
    /// The ports that the line declares for the frontend.
    pub(crate) frontend: Vec<RangeInclusive<u16>>,
}

/// Returns the ports that an app's files declare, line by line, without the ports of other services.
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

#[cfg(test)]
mod tests {
    use super::super::declared::DeclaredPorts;
    use super::*;

    #[test]
    fn what_files_declare_for_an_app_is_told_line_by_line() {
        let found = |role, port, file: &str, line| DeclaredPorts { role, ports: port..=port, file: file.into(), line };
        let ports = vec![
            found(Role::Backend, 5003, "b.yml", 7),
            found(Role::Frontend, 8001, "b.yml", 2),
            found(Role::Backend, 5001, "b.yml", 2),
            found(Role::Backend, 5005, "b.yml", 2),
            found(Role::Other, 5432, "a.yml", 2),
            found(Role::Backend, 5001, ".env", 2),
        ];
        let line = |file: &str, line, backend: &[u16], frontend: &[u16]| {
            let [backend, frontend] = [backend, frontend].map(|ports| ports.iter().map(|&port| port..=port).collect());
            DeclaredLine { file: file.into(), line, backend, frontend }
        };
        assert_eq!(
            declared_lines(&Declared { ports, ..Declared::default() }),
            [line(".env", 2, &[5001], &[]), line("b.yml", 2, &[5001, 5005], &[8001]), line("b.yml", 7, &[5003], &[])]
        );
    }
}
