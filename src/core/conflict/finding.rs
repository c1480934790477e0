//! This file defines a finding: the problem, the apps concerned, and advice.

use crate::core::allocation::Allocation;
use crate::core::app::AppId;

/// The kind of a finding. Conflicts come first, then warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Two rows have the same backend port.
    DuplicateBackendPort,
    /// Two rows have the same frontend port.
    DuplicateFrontendPort,
    /// A port is both a backend port and a frontend port.
    CrossRolePort,
    /// An app has two rows.
    DuplicateApp,
    /// A number in the table is not a port.
    InvalidPort,
    /// Apps of two models have the same directory.
    DirectoryClash,
    /// An app's files name other ports than its allocation.
    DeclaredPortsDiffer,
    /// An app's files name a port that is allocated to another app.
    DeclaredClash,
    /// A row has no directory and is not reserved.
    Orphaned,
    /// A row has no directory, but a process listens on one of its ports.
    OrphanListening,
    /// A directory has no row.
    UnallocatedApp,
    /// A directory's name begins like an app's, but no app could have that name.
    MisnamedDirectory,
    /// Browsers refuse to open a port.
    BrowserBlockedPort,
    /// The system may give a port to any outgoing connection.
    EphemeralPort,
    /// A reservation has expired.
    ExpiredReservation,
    /// A unique index is missing.
    WeakSchema,
    /// The database is on a file system that other machines may share.
    WeakStorage,
    /// There is no apps directory, and the user did not name one.
    NoAppsDir,
    /// A Compose file names ports that nothing publishes.
    NotPublished,
    /// Compose refuses an entry of a service's ports.
    RefusedPort,
    /// Something could not be read.
    Unreadable,
}

impl Kind {
    /// All kinds that are conflicts.
    pub(crate) const CONFLICTS: [Self; 8] = [
        Self::DuplicateBackendPort,
        Self::DuplicateFrontendPort,
        Self::CrossRolePort,
        Self::DuplicateApp,
        Self::InvalidPort,
        Self::DirectoryClash,
        Self::DeclaredPortsDiffer,
        Self::DeclaredClash,
    ];

    /// Returns the kind's name in JSON and in annotations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DuplicateBackendPort => "duplicate_backend_port",
            Self::DuplicateFrontendPort => "duplicate_frontend_port",
            Self::CrossRolePort => "cross_role_port",
            Self::DuplicateApp => "duplicate_app",
            Self::InvalidPort => "invalid_port",
            Self::DirectoryClash => "directory_clash",
            Self::DeclaredPortsDiffer => "declared_ports_differ",
            Self::DeclaredClash => "declared_clash",
            Self::Orphaned => "orphaned",
            Self::OrphanListening => "orphan_listening",
            Self::UnallocatedApp | Self::MisnamedDirectory => "unallocated_app",
            Self::BrowserBlockedPort => "browser_blocked_port",
            Self::EphemeralPort => "ephemeral_port",
            Self::ExpiredReservation => "expired_reservation",
            Self::WeakSchema => "weak_schema",
            Self::WeakStorage => "weak_storage",
            Self::NoAppsDir => "no_apps_dir",
            Self::NotPublished => "not_published",
            Self::RefusedPort => "refused_port",
            Self::Unreadable => "unreadable",
        }
    }

    /// Tells whether the kind is a conflict. The other kinds are warnings.
    pub(crate) fn is_conflict(self) -> bool {
        self <= Self::DeclaredClash
    }

    /// Returns advice on how to solve the problem.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::DuplicateBackendPort | Self::DuplicateFrontendPort | Self::CrossRolePort => {
                "release all apps but one and allocate anew"
            }
            Self::DuplicateApp | Self::InvalidPort => "release the app and allocate anew",
            Self::DirectoryClash => "release the app that is not the directory's",
            Self::DeclaredPortsDiffer => "set the allocated ports in the file, as `allocate --env-file` does",
            Self::DeclaredClash => "set the app's own ports in the file, as `allocate` prints them",
            Self::Orphaned => "`cleanup` removes the allocation",
            Self::OrphanListening => "stop the process if it is the old app's: `cleanup` keeps the ports until then",
            Self::UnallocatedApp => "`allocate` gives it one, `import --from-apps` the ports in its files",
            Self::MisnamedDirectory => "give it the name of an app's directory, or move it elsewhere",
            Self::BrowserBlockedPort => "release the app and allocate anew, or set allow_browser_blocked",
            Self::EphemeralPort => "allocate below the range, or list the ports in net.ipv4.ip_local_reserved_ports",
            Self::ExpiredReservation => "reserve it again, or let `cleanup` remove it",
            Self::WeakSchema => "`manage-ports migrate` adds it: without it, the table does not stop what others write",
            Self::WeakStorage => "let one machine alone use it, or keep the allocations in PostgreSQL for several",
            Self::NoAppsDir => "name it with --apps-dir, as no directory and no file was checked",
            Self::NotPublished => "publish the app's own ports, or remove them from the service",
            Self::RefusedPort => "write it as Compose reads it, as in \"5001:80\"",
            Self::Unreadable => "make it readable, as what it holds was not checked",
        }
    }
}

/// One problem that was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Finding {
    /// The kind of the problem.
    pub(crate) kind: Kind,
    /// The problem, in one line that is safe to print to a terminal.
    pub(crate) message: String,
    /// The ports concerned, in ascending order. If a file names many, only the first.
    pub(crate) ports: Vec<i64>,
    /// The apps concerned.
    pub(crate) apps: Vec<AppId>,
    /// The file concerned, as a path relative to the apps directory.
    pub(crate) file: Option<String>,
    /// The line in the file, from 1.
    pub(crate) line: Option<usize>,
}

impl Finding {
    /// Returns a finding that concerns no port, no app and no file.
    pub(super) fn new(kind: Kind, message: String) -> Self {
        Self { kind, message, ports: Vec::new(), apps: Vec::new(), file: None, line: None }
    }

    /// Returns the problem and the advice, in one line.
    ///
    /// Two apps with one port are reported in the words of the old script, because other programs parse them.
    pub(crate) fn told(&self) -> String {
        match self.kind {
            Kind::DuplicateBackendPort | Kind::DuplicateFrontendPort => self.message.clone(),
            kind => format!("{}; {}", self.message, kind.advice()),
        }
    }
}

pub(super) fn about(kind: Kind, message: String, row: &Allocation) -> Finding {
    Finding { ports: row.ports().to_vec(), apps: vec![row.app.clone()], ..Finding::new(kind, message) }
}

pub(super) fn apps_of(rows: &[&Allocation]) -> Vec<AppId> {
    let mut apps: Vec<_> = rows.iter().map(|row| row.app.clone()).collect();
    apps.sort();
    apps.dedup();
    apps
}

pub(super) fn list(apps: &[AppId]) -> String {
    apps.iter().map(AppId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_advice_unless_other_programs_parse_it() {
        let told = |kind| Finding::new(kind, "A problem".to_owned()).told();
        assert_eq!(told(Kind::InvalidPort), "A problem; release the app and allocate anew");
        assert_eq!(told(Kind::Orphaned), "A problem; `cleanup` removes the allocation");
        assert_eq!(told(Kind::DuplicateBackendPort), "A problem");
        assert_eq!(told(Kind::DuplicateFrontendPort), "A problem");
    }
}
