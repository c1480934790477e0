//! This file finds the problems in the rows alone.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Kind, about, apps_of, list};
use super::snapshot::Snapshot;
use crate::core::allocation::{Allocation, Reservation};
use crate::core::app::{AppId, Presence};
use crate::core::app_folder::AppFolder;
use crate::core::ports::{as_port, is_browser_blocked};
use crate::core::schema::UniqueIndex;

/// Adds findings for ports that occur twice in the table.
pub(super) fn shared_ports(rows: &[Allocation], findings: &mut Vec<Finding>) {
    let by_port = |port: fn(&Allocation) -> i64| {
        let mut map = BTreeMap::<i64, Vec<&Allocation>>::new();
        // A number that is not a port cannot be used twice.
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
        let shared = users.iter().filter(|(_, rows)| rows.len() > 1);
        findings.extend(shared.map(|(&port, rows)| duplicate_port(kind, role, port, rows)));
    }
    for (&port, behind) in &backends {
        let Some(before) = frontends.get(&port) else { continue };
        let (behind, before) = (apps_of(behind), apps_of(before));
        let message = format!("Port {port} used as backend by {} and as frontend by {}", list(&behind), list(&before));
        let apps = behind.into_iter().chain(before).collect::<BTreeSet<_>>().into_iter().collect();
        findings.push(Finding { ports: vec![port], apps, ..Finding::new(Kind::CrossRolePort, message) });
    }
}

/// Returns the finding that rows in the way of a unique index are reported with, if there are any. Numbers that
/// are not ports are in its way, too.
pub(crate) fn obstacle(index: UniqueIndex, rows: &[&Allocation]) -> Option<Finding> {
    let first = rows.first()?;
    Some(match index {
        UniqueIndex::ModelApp => duplicate_app(&first.app, rows),
        UniqueIndex::BackendPort => duplicate_port(Kind::DuplicateBackendPort, "Backend", first.backend_port, rows),
        UniqueIndex::FrontendPort => duplicate_port(Kind::DuplicateFrontendPort, "Frontend", first.frontend_port, rows),
    })
}

fn duplicate_port(kind: Kind, role: &str, port: i64, rows: &[&Allocation]) -> Finding {
    let apps = apps_of(rows);
    let message = match apps.as_slice() {
        [app] => format!("{role} port {port} used by {} rows of {app}", rows.len()),
        _ => format!("{role} port {port} used by multiple apps: {}", list(&apps)),
    };
    Finding { ports: vec![port], apps, ..Finding::new(kind, message) }
}

fn duplicate_app(app: &AppId, rows: &[&Allocation]) -> Finding {
    let pairs: Vec<_> = rows.iter().map(|row| format!("{}/{}", row.backend_port, row.frontend_port)).collect();
    let message = format!("App {app} has {} allocations: {}", rows.len(), pairs.join(", "));
    let ports = rows.iter().flat_map(|row| row.ports()).collect::<BTreeSet<_>>().into_iter().collect();
    Finding { ports, apps: vec![app.clone()], ..Finding::new(Kind::DuplicateApp, message) }
}

/// Adds findings for apps that have two rows, and for apps of two models that have the same directory.
pub(super) fn shared_names(rows: &[Allocation], findings: &mut Vec<Finding>) {
    let mut by_app = BTreeMap::<&AppId, Vec<&Allocation>>::new();
    for row in rows {
        by_app.entry(&row.app).or_default().push(row);
    }
    let mut by_directory = BTreeMap::<AppFolder, Vec<AppId>>::new();
    for (&app, rows) in &by_app {
        by_directory.entry(AppFolder::of(app)).or_default().push(app.clone());
        if rows.len() > 1 {
            findings.push(duplicate_app(app, rows));
        }
    }
    for (folder, apps) in by_directory.into_iter().filter(|(_, apps)| apps.len() > 1) {
        let mut ports: Vec<_> = apps.iter().flat_map(|app| &by_app[app]).flat_map(|row| row.ports()).collect();
        ports.sort_unstable();
        ports.dedup();
        let message = format!("Directory {} belongs to multiple apps: {}", folder.path(), list(&apps));
        findings.push(Finding { ports, apps, ..Finding::new(Kind::DirectoryClash, message) });
    }
}

/// Returns each port of the rows, with its row and its role.
fn ports(rows: &[Allocation]) -> impl Iterator<Item = (&Allocation, &'static str, i64)> {
    rows.iter().flat_map(|row| [(row, "Backend", row.backend_port), (row, "Frontend", row.frontend_port)])
}

/// Adds findings for numbers that are not ports, and for ports that browsers refuse.
pub(super) fn odd_ports(snapshot: &Snapshot<'_>, findings: &mut Vec<Finding>) {
    for (row, role, port) in ports(snapshot.rows) {
        let mut push = |kind, what: &str| findings.push(about_port(kind, row, role, port, what));
        match as_port(port) {
            None => push(Kind::InvalidPort, "is not a port from 1 to 65535"),
            Some(valid) if !snapshot.allow_browser_blocked && is_browser_blocked(valid) => {
                push(Kind::BrowserBlockedPort, "is one that browsers refuse to open");
            }
            Some(_) => {}
        }
    }
}

/// Adds findings for ports that the system may give to outgoing connections. If the system's range holds
/// every allocated port, there is one finding for all, because one for each would say no more.
pub(super) fn ephemeral_ports(snapshot: &Snapshot<'_>, findings: &mut Vec<Finding>) {
    let Some(range) = &snapshot.ephemeral_ports else { return };
    let name = format!("this machine's ephemeral range {}-{}", range.start(), range.end());
    let valid = || ports(snapshot.rows).filter_map(|(row, role, port)| Some((row, role, as_port(port)?)));
    let mut ephemeral =
        valid().filter(|(.., port)| range.contains(port) && !snapshot.reserved_ports.contains(*port)).peekable();
    if valid().all(|(.., port)| range.contains(&port)) && ephemeral.peek().is_some() {
        let message = format!("Every allocated port is inside {name}: an outgoing connection may take one");
        let ports: BTreeSet<_> = ephemeral.map(|(.., port)| i64::from(port)).collect();
        let apps = apps_of(&snapshot.rows.iter().collect::<Vec<_>>());
        let ports = ports.into_iter().collect();
        findings.push(Finding { ports, apps, ..Finding::new(Kind::EphemeralPort, message) });
        return;
    }
    let what = format!("is inside {name}: an outgoing connection may take it");
    findings.extend(ephemeral.map(|(row, role, port)| about_port(Kind::EphemeralPort, row, role, port.into(), &what)));
}

fn about_port(kind: Kind, row: &Allocation, role: &str, port: i64, what: &str) -> Finding {
    let message = format!("{role} port {port} of {} {what}", row.app);
    Finding { ports: vec![port], apps: vec![row.app.clone()], ..Finding::new(kind, message) }
}

/// Adds findings for expired reservations of apps without a directory, and for reservations that could not be
/// read.
pub(super) fn reservations(snapshot: &Snapshot<'_>, findings: &mut Vec<Finding>) {
    for (index, row) in snapshot.rows.iter().enumerate() {
        let presence = snapshot.apps_dir.and_then(|view| view.presence.get(index));
        match row.reservation() {
            Reservation::Until(until)
                if until <= snapshot.now && presence.is_none_or(|presence| *presence == Presence::Absent) =>
            {
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
}
