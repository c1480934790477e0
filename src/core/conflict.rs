//! What is wrong with the allocations: a snapshot in, findings out.
//!
//! Everything that `check` reports is decided here from plain values, in a stable order: by kind
//! as [`Kind`] lists them, then by port or by app.

mod files;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::allocation::{Allocation, Reservation, State};
use super::app::{AppId, Presence, check_directory, safe_model};
use super::declared::Declared;
use super::listener::Listeners;
use super::ports::{as_port, is_browser_blocked};
use super::text::Shown;

/// All that is looked at, taken before anything is judged.
pub struct Snapshot<'a> {
    /// Every row of the table.
    pub rows: &'a [Allocation],
    /// The unique indexes that the table lacks.
    pub missing_indexes: &'a [UniqueIndex],
    /// What the apps directory holds; `None` where there is none.
    pub apps_dir: Option<&'a AppsDirView>,
    /// Who listens on the rows' ports; `None` if that was not looked at.
    pub listeners: Option<&'a Listeners>,
    /// The ports that this machine gives to outgoing connections, where that is known.
    pub ephemeral_ports: Option<RangeInclusive<u16>>,
    /// Whether ports that browsers refuse are wanted.
    pub allow_browser_blocked: bool,
    /// The moment of the look.
    pub now: Timestamp,
}

/// What the apps directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppsDirView {
    /// What stands at each row's app directory, in the order of the rows.
    pub presence: Vec<Presence>,
    /// Every directory found that is named as an app's, by the name of the folder it stands in and its
    /// number.
    pub found: Vec<(String, i64)>,
    /// What the files in each of them declare, in the same order.
    pub declared: Vec<Declared>,
    /// Directories that could not be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// A unique index that the platform's table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueIndex {
    /// One row an app: the constraint `unique_model_app`.
    ModelApp,
    /// One row a backend port.
    BackendPort,
    /// One row a frontend port.
    FrontendPort,
}

impl UniqueIndex {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ModelApp, Self::BackendPort, Self::FrontendPort];

    /// Those that a table with unique indexes on these columns lacks; of an index, the columns' names
    /// stand in alphabetical order with commas between them.
    #[must_use]
    pub fn missing_from(present: &[String]) -> Vec<Self> {
        let sorted = |index: &Self| {
            let mut columns = index.columns().to_vec();
            columns.sort_unstable();
            columns.join(",")
        };
        Self::ALL.into_iter().filter(|index| !present.contains(&sorted(index))).collect()
    }

    /// The columns it covers.
    #[must_use]
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::ModelApp => &["model", "app_num"],
            Self::BackendPort => &["backend_port"],
            Self::FrontendPort => &["frontend_port"],
        }
    }
}

/// What a finding is about; conflicts first, then warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Two rows have the same backend port.
    DuplicateBackendPort,
    /// Two rows have the same frontend port.
    DuplicateFrontendPort,
    /// A port is a backend's and a frontend's.
    CrossRolePort,
    /// An app has two rows.
    DuplicateApp,
    /// A number that is no port.
    InvalidPort,
    /// Two models' apps have one directory.
    DirectoryClash,
    /// An app's files name other ports than its allocation.
    DeclaredPortsDiffer,
    /// An app's files name a port that is allocated to another app.
    DeclaredClash,
    /// A row without a directory, not reserved.
    Orphaned,
    /// A port of a row without a directory, on which something listens.
    OrphanListening,
    /// A directory without a row.
    UnallocatedApp,
    /// A directory that no app could have, although its name begins like one.
    MisnamedDirectory,
    /// A port that browsers refuse to open.
    BrowserBlockedPort,
    /// A port that the system may give to any outgoing connection.
    EphemeralPort,
    /// A reservation whose time is over.
    ExpiredReservation,
    /// A unique index is missing.
    WeakSchema,
    /// Something could not be looked at.
    Unreadable,
}

impl Kind {
    /// The kind's name in JSON and in annotations.
    #[must_use]
    pub fn name(self) -> &'static str {
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
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether it is a conflict; a warning otherwise.
    #[must_use]
    pub fn is_conflict(self) -> bool {
        self <= Self::DeclaredClash
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
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
            Self::EphemeralPort => "release the app and allocate anew below the range",
            Self::ExpiredReservation => "reserve it again, or let `cleanup` remove it if its app is gone",
            Self::WeakSchema => "add the index, as the table does not stop what others write",
            Self::Unreadable => "make it readable, as what it holds was not checked",
        }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// What was found, in one line that is safe to show.
    pub message: String,
    /// The ports concerned, rising; of many that a file names, the first.
    pub ports: Vec<i64>,
    /// The apps concerned.
    pub apps: Vec<AppId>,
    /// The file that says so, from the apps directory on.
    pub file: Option<String>,
}

impl Finding {
    /// What was found and what to do about it, in one line.
    ///
    /// The wording for two apps with one port is the old script's, which others read.
    #[must_use]
    pub fn told(&self) -> String {
        match self.kind {
            Kind::DuplicateBackendPort | Kind::DuplicateFrontendPort => self.message.clone(),
            kind => format!("{}; {}", self.message, kind.advice()),
        }
    }
}

/// Finds everything that is wrong, conflicts before warnings.
#[must_use]
pub fn find(snapshot: &Snapshot<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    shared_ports(snapshot.rows, &mut findings);
    shared_names(snapshot.rows, &mut findings);
    for row in snapshot.rows {
        odd_ports(snapshot, row, &mut findings);
        reservation(snapshot, row, &mut findings);
    }
    if let Some(view) = snapshot.apps_dir {
        directories(snapshot, view, &mut findings);
        files::declarations(snapshot.rows, view, &mut findings);
    }
    for index in snapshot.missing_indexes {
        findings.push(Finding {
            kind: Kind::WeakSchema,
            message: format!("The table has no unique index on ({})", index.columns().join(", ")),
            ports: Vec::new(),
            apps: Vec::new(),
            file: None,
        });
    }
    // A row that stands twice is the same finding twice.
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(finding.clone()));
    // Stable: within a kind the order is that in which they were found.
    findings.sort_by_key(|finding| finding.kind);
    findings
}

fn about(kind: Kind, message: String, row: &Allocation) -> Finding {
    Finding { kind, message, ports: row.ports().to_vec(), apps: vec![row.app.clone()], file: None }
}

/// Ports that stand in two places of the table.
fn shared_ports(rows: &[Allocation], findings: &mut Vec<Finding>) {
    let by_port = |port: fn(&Allocation) -> i64| {
        let mut map = BTreeMap::<i64, Vec<&Allocation>>::new();
        // What is no port cannot be used twice.
        for row in rows.iter().filter(|row| as_port(port(row)).is_some()) {
            map.entry(port(row)).or_default().push(row);
        }
        map
    };
    let backends = by_port(|row| row.backend_port);
    let frontends = by_port(|row| row.frontend_port);

    for (kind, role, users) in
        [(Kind::DuplicateBackendPort, "Backend", &backends), (Kind::DuplicateFrontendPort, "Frontend", &frontends)]
    {
        for (&port, rows) in users.iter().filter(|(_, rows)| rows.len() > 1) {
            let apps = apps_of(rows);
            let message = match apps.as_slice() {
                [app] => format!("{role} port {port} used by {} rows of {app}", rows.len()),
                _ => format!("{role} port {port} used by multiple apps: {}", list(&apps)),
            };
            findings.push(Finding { kind, message, ports: vec![port], apps, file: None });
        }
    }
    for (&port, behind) in &backends {
        let Some(before) = frontends.get(&port) else { continue };
        let (behind, before) = (apps_of(behind), apps_of(before));
        let message = format!("Port {port} used as backend by {} and as frontend by {}", list(&behind), list(&before));
        let apps = behind.into_iter().chain(before).collect::<BTreeSet<_>>().into_iter().collect();
        findings.push(Finding { kind: Kind::CrossRolePort, message, ports: vec![port], apps, file: None });
    }
}

/// Apps that have two rows, and apps of two models that have one directory.
fn shared_names(rows: &[Allocation], findings: &mut Vec<Finding>) {
    let mut by_app = BTreeMap::<&AppId, Vec<&Allocation>>::new();
    for row in rows {
        by_app.entry(&row.app).or_default().push(row);
    }
    let mut by_directory = BTreeMap::<(String, i64), Vec<AppId>>::new();
    for (&app, rows) in &by_app {
        by_directory.entry((safe_model(&app.model), app.app_num)).or_default().push(app.clone());
        if rows.len() > 1 {
            let pairs: Vec<_> = rows.iter().map(|row| format!("{}/{}", row.backend_port, row.frontend_port)).collect();
            findings.push(Finding {
                kind: Kind::DuplicateApp,
                message: format!("App {app} has {} allocations: {}", rows.len(), pairs.join(", ")),
                ports: rows.iter().flat_map(|row| row.ports()).collect::<BTreeSet<_>>().into_iter().collect(),
                apps: vec![app.clone()],
                file: None,
            });
        }
    }
    for apps in by_directory.into_values().filter(|apps| apps.len() > 1) {
        let mut ports: Vec<_> = apps.iter().flat_map(|app| &by_app[app]).flat_map(|row| row.ports()).collect();
        ports.sort_unstable();
        ports.dedup();
        let message = format!("Directory {} belongs to multiple apps: {}", apps[0].directory(), list(&apps));
        findings.push(Finding { kind: Kind::DirectoryClash, message, ports, apps, file: None });
    }
}

/// Ports of one row that are no ports, or poor ones.
fn odd_ports(snapshot: &Snapshot<'_>, row: &Allocation, findings: &mut Vec<Finding>) {
    for (role, port) in [("Backend", row.backend_port), ("Frontend", row.frontend_port)] {
        let mut push = |kind, what: String| {
            let message = format!("{role} port {port} of {} {what}", row.app);
            findings.push(Finding { kind, message, ports: vec![port], apps: vec![row.app.clone()], file: None });
        };
        let Some(valid) = as_port(port) else {
            push(Kind::InvalidPort, "is not a port from 1 to 65535".to_owned());
            continue;
        };
        if !snapshot.allow_browser_blocked && is_browser_blocked(valid) {
            push(Kind::BrowserBlockedPort, "is one that browsers refuse to open".to_owned());
        }
        if let Some(range) = snapshot.ephemeral_ports.as_ref().filter(|range| range.contains(&valid)) {
            let what = format!(
                "is inside this machine's ephemeral range {}-{}: an outgoing connection may take it",
                range.start(),
                range.end()
            );
            push(Kind::EphemeralPort, what);
        }
    }
}

/// A reservation of one row that is over, or that could not be read.
fn reservation(snapshot: &Snapshot<'_>, row: &Allocation, findings: &mut Vec<Finding>) {
    match row.reservation() {
        Reservation::Until(until) if until <= snapshot.now => {
            let message = format!("The reservation of {} is over", row.app);
            findings.push(about(Kind::ExpiredReservation, message, row));
        }
        Reservation::Unreadable => {
            let message = format!("The reservation of {} could not be read in its metadata_json", row.app);
            findings.push(about(Kind::Unreadable, message, row));
        }
        Reservation::None | Reservation::Until(_) => {}
    }
}

/// Rows without a directory, directories without a row, and what could not be read.
fn directories(snapshot: &Snapshot<'_>, view: &AppsDirView, findings: &mut Vec<Finding>) {
    for (row, presence) in snapshot.rows.iter().zip(&view.presence) {
        if let Presence::Unreadable(why) = presence {
            let message = format!("The directory of {} could not be read: {}", row.app, Shown(why));
            findings.push(about(Kind::Unreadable, message, row));
        } else if row.state(snapshot.now, presence) == State::Orphaned {
            let message = format!("{} has no directory {}", row.app, Shown(&row.app.directory()));
            findings.push(about(Kind::Orphaned, message, row));
            for (port, listener) in snapshot.listeners.iter().flat_map(|listeners| listeners.of(row)) {
                findings.push(Finding {
                    kind: Kind::OrphanListening,
                    message: format!(
                        "Port {port} of {}, whose directory is gone, is listened on by {listener}",
                        row.app
                    ),
                    ports: vec![port.into()],
                    apps: vec![row.app.clone()],
                    file: None,
                });
            }
        }
    }
    let allocated: BTreeSet<_> =
        snapshot.rows.iter().map(|row| (safe_model(&row.app.model), row.app.app_num)).collect();
    for (model, app_num) in view.found.iter().filter(|found| !allocated.contains(*found)) {
        let app = AppId::new(model, *app_num);
        let (kind, message, apps) = match check_directory(model, *app_num) {
            Ok(()) => (Kind::UnallocatedApp, format!("Directory {app} has no allocation"), vec![app]),
            Err(why) => (Kind::MisnamedDirectory, format!("Directory {app} is no app's: {}", Shown(&why)), Vec::new()),
        };
        findings.push(Finding { kind, message, ports: Vec::new(), apps, file: None });
    }
    for (path, why) in &view.unreadable {
        let message = format!("{} could not be read: {}", Shown(path), Shown(why));
        findings.push(Finding { kind: Kind::Unreadable, message, ports: Vec::new(), apps: Vec::new(), file: None });
    }
}

fn apps_of(rows: &[&Allocation]) -> Vec<AppId> {
    let mut apps: Vec<_> = rows.iter().map(|row| row.app.clone()).collect();
    apps.sort();
    apps.dedup();
    apps
}

fn list(apps: &[AppId]) -> String {
    apps.iter().map(AppId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::allocation::tests::row;
    use super::super::listener::Listener;
    use super::*;

    pub(super) fn snapshot(rows: &[Allocation]) -> Snapshot<'_> {
        Snapshot {
            rows,
            missing_indexes: &[],
            apps_dir: None,
            listeners: None,
            ephemeral_ports: Some(32768..=60999),
            allow_browser_blocked: false,
            now: "2026-01-01T10:00:00Z".parse().unwrap(),
        }
    }

    fn lines(snapshot: &Snapshot<'_>) -> Vec<String> {
        find(snapshot).iter().map(|found| format!("{}: {}", found.kind.name(), found.message)).collect()
    }

    #[test]
    fn each_conflict_is_found_and_nothing_beside_it() {
        let rows = [
            row(1, "a", 1, 5001, 8001),
            row(2, "b", 1, 5001, 8003),
            row(3, "c", 1, 5005, 8003),
            row(4, "d", 1, 8001, 9001),
            row(5, "e", 1, 5009, 8009),
            row(6, "e", 1, 5011, 8011),
            row(7, "f", 1, 0, 65536),
            row(8, "g/h", 2, 5013, 8013),
            row(9, "g h", 2, 5015, 8015),
            row(10, "g_h", 3, 1, 65535),
            row(11, "h", 1, 0, 0),
        ];
        assert_eq!(
            lines(&Snapshot { allow_browser_blocked: true, ephemeral_ports: None, ..snapshot(&rows) }),
            [
                "duplicate_backend_port: Backend port 5001 used by multiple apps: a/app1, b/app1",
                "duplicate_frontend_port: Frontend port 8003 used by multiple apps: b/app1, c/app1",
                "cross_role_port: Port 8001 used as backend by d/app1 and as frontend by a/app1",
                "duplicate_app: App e/app1 has 2 allocations: 5009/8009, 5011/8011",
                "invalid_port: Backend port 0 of f/app1 is not a port from 1 to 65535",
                "invalid_port: Frontend port 65536 of f/app1 is not a port from 1 to 65535",
                "invalid_port: Backend port 0 of h/app1 is not a port from 1 to 65535",
                "invalid_port: Frontend port 0 of h/app1 is not a port from 1 to 65535",
                "directory_clash: Directory g_h/app2 belongs to multiple apps: g h/app2, g/h/app2",
            ]
        );
    }

    #[test]
    fn the_same_row_twice_is_two_rows_of_one_app() {
        let rows = [row(1, "a", 1, 5001, 5001), row(2, "a", 1, 5001, 5001)];
        let view = AppsDirView { presence: vec![Presence::Absent; 2], ..AppsDirView::default() };
        assert_eq!(
            lines(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) }),
            [
                "duplicate_backend_port: Backend port 5001 used by 2 rows of a/app1",
                "duplicate_frontend_port: Frontend port 5001 used by 2 rows of a/app1",
                "cross_role_port: Port 5001 used as backend by a/app1 and as frontend by a/app1",
                "duplicate_app: App a/app1 has 2 allocations: 5001/5001, 5001/5001",
                "orphaned: a/app1 has no directory a/app1",
            ]
        );
    }

    #[test]
    fn each_warning_is_found_next_to_its_boundary() {
        let mut rows = [
            row(1, "a", 1, 5060, 8001),
            row(2, "b", 1, 5062, 32767),
            row(3, "c", 1, 32768, 60999),
            row(4, "d", 1, 61000, 8003),
            row(5, "e", 1, 5005, 8005),
            row(6, "g", 1, 5009, 8009),
        ];
        rows[3].metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:00.000001Z"}"#.into());
        rows[4].metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#.into());
        rows[5].metadata = Some(r#"{"reserved_until":"soon"}"#.into());
        let view = AppsDirView {
            presence: vec![
                Presence::Present,
                Presence::Unreadable("no".into()),
                Presence::Present,
                Presence::Absent,
                Presence::Absent,
                Presence::Absent,
            ],
            found: vec![("a".into(), 1), ("a".into(), 2), ("z".into(), 1 << 31), ("z\u{1b}".into(), 1)],
            declared: vec![Declared::default(); 4],
            unreadable: vec![("apps/y".into(), "no".into())],
        };
        let found = Snapshot {
            apps_dir: Some(&view),
            missing_indexes: &[UniqueIndex::ModelApp, UniqueIndex::BackendPort],
            ..snapshot(&rows)
        };
        let listener = |pid| Listener { pid: Some(pid), program: Some("python3".into()) };
        let listeners: Listeners =
            [(5001, listener(1)), (5005, listener(2)), (8003, listener(3))].into_iter().collect();
        let found = Snapshot { listeners: Some(&listeners), ..found };
        let range = "is inside this machine's ephemeral range 32768-60999: an outgoing connection may take it";
        assert_eq!(
            lines(&found),
            [
                "orphaned: e/app1 has no directory e/app1".to_owned(),
                "orphan_listening: Port 5005 of e/app1, whose directory is gone, is listened on by python3 (pid 2)"
                    .into(),
                "unallocated_app: Directory a/app2 has no allocation".into(),
                "unallocated_app: Directory z/app2147483648 is no app's: app numbers go from 1 to 2147483647".into(),
                "unallocated_app: Directory z\\u{1b}/app1 is no app's: a model of this name has the folder z_".into(),
                "browser_blocked_port: Backend port 5060 of a/app1 is one that browsers refuse to open".into(),
                format!("ephemeral_port: Backend port 32768 of c/app1 {range}"),
                format!("ephemeral_port: Frontend port 60999 of c/app1 {range}"),
                "expired_reservation: The reservation of e/app1 is over".into(),
                "weak_schema: The table has no unique index on (model, app_num)".into(),
                "weak_schema: The table has no unique index on (backend_port)".into(),
                "unreadable: The reservation of g/app1 could not be read in its metadata_json".into(),
                "unreadable: The directory of b/app1 could not be read: no".into(),
                "unreadable: apps/y could not be read: no".into(),
            ]
        );
    }

    proptest! {
        #[test]
        fn a_table_is_clean_exactly_when_no_port_and_no_app_stands_twice(
            table in prop::collection::vec((0usize..3, 1i64..6, 1i64..30, 1i64..30), 0..8)
        ) {
            let models = ["a", "b/", "b_"];
            let rows: Vec<_> = table.iter().zip(1..)
                .map(|(&(model, num, backend, frontend), id)| row(id, models[model], num, backend, frontend)).collect();
            let snapshot = Snapshot { allow_browser_blocked: true, ephemeral_ports: None, ..snapshot(&rows) };
            let findings = find(&snapshot);

            let mut ports: Vec<_> = rows.iter().flat_map(Allocation::ports).collect();
            ports.sort_unstable();
            let mut directories: Vec<_> = rows.iter().map(|row| row.app.directory()).collect();
            directories.sort_unstable();
            let is_clean = ports.windows(2).all(|w| w[0] != w[1]) && directories.windows(2).all(|w| w[0] != w[1]);
            prop_assert_eq!(findings.is_empty(), is_clean);

            // Whoever is named in a finding about a port has that port.
            for finding in findings.iter().filter(|found| found.kind <= Kind::CrossRolePort) {
                for app in &finding.apps {
                    prop_assert!(rows.iter().any(|row| row.app == *app && row.ports().contains(&finding.ports[0])));
                }
            }
            let mut backwards: Vec<_> = rows.clone();
            backwards.reverse();
            let kinds = |found: &[Finding]| found.iter().map(|f| (f.kind, f.ports.clone())).collect::<Vec<_>>();
            prop_assert_eq!(kinds(&find(&Snapshot { rows: &backwards, ..snapshot })), kinds(&findings));
        }
    }
}
