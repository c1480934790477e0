//! What is wrong with the rows alone.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Kind, about, apps_of, list};
use super::snapshot::Snapshot;
use crate::core::allocation::{Allocation, Reservation};
use crate::core::app::AppId;
use crate::core::app_folder::AppFolder;
use crate::core::ports::{as_port, is_browser_blocked};

/// Ports that stand in two places of the table.
pub(super) fn shared_ports(rows: &[Allocation], findings: &mut Vec<Finding>) {
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
            findings.push(Finding { kind, message, ports: vec![port], apps, file: None, line: None });
        }
    }
    for (&port, behind) in &backends {
        let Some(before) = frontends.get(&port) else { continue };
        let (behind, before) = (apps_of(behind), apps_of(before));
        let message = format!("Port {port} used as backend by {} and as frontend by {}", list(&behind), list(&before));
        let apps = behind.into_iter().chain(before).collect::<BTreeSet<_>>().into_iter().collect();
        findings.push(Finding { kind: Kind::CrossRolePort, message, ports: vec![port], apps, file: None, line: None });
    }
}

/// Apps that have two rows, and apps of two models that have one directory.
pub(super) fn shared_names(rows: &[Allocation], findings: &mut Vec<Finding>) {
    let mut by_app = BTreeMap::<&AppId, Vec<&Allocation>>::new();
    for row in rows {
        by_app.entry(&row.app).or_default().push(row);
    }
    let mut by_directory = BTreeMap::<AppFolder, Vec<AppId>>::new();
    for (&app, rows) in &by_app {
        by_directory.entry(AppFolder::of(app)).or_default().push(app.clone());
        if rows.len() > 1 {
            let pairs: Vec<_> = rows.iter().map(|row| format!("{}/{}", row.backend_port, row.frontend_port)).collect();
            findings.push(Finding {
                kind: Kind::DuplicateApp,
                message: format!("App {app} has {} allocations: {}", rows.len(), pairs.join(", ")),
                ports: rows.iter().flat_map(|row| row.ports()).collect::<BTreeSet<_>>().into_iter().collect(),
                apps: vec![app.clone()],
                file: None,
                line: None,
            });
        }
    }
    for (folder, apps) in by_directory.into_iter().filter(|(_, apps)| apps.len() > 1) {
        let mut ports: Vec<_> = apps.iter().flat_map(|app| &by_app[app]).flat_map(|row| row.ports()).collect();
        ports.sort_unstable();
        ports.dedup();
        let message = format!("Directory {} belongs to multiple apps: {}", folder.path(), list(&apps));
        findings.push(Finding { kind: Kind::DirectoryClash, message, ports, apps, file: None, line: None });
    }
}

/// Ports of one row that are no ports, or poor ones.
pub(super) fn odd_ports(snapshot: &Snapshot<'_>, row: &Allocation, findings: &mut Vec<Finding>) {
    for (role, port) in [("Backend", row.backend_port), ("Frontend", row.frontend_port)] {
        let mut push = |kind, what: String| {
            let message = format!("{role} port {port} of {} {what}", row.app);
            findings.push(Finding {
                kind,
                message,
                ports: vec![port],
                apps: vec![row.app.clone()],
                file: None,
                line: None,
            });
        };
        let Some(valid) = as_port(port) else {
            push(Kind::InvalidPort, "is not a port from 1 to 65535".to_owned());
            continue;
        };
        if !snapshot.allow_browser_blocked && is_browser_blocked(valid) {
            push(Kind::BrowserBlockedPort, "is one that browsers refuse to open".to_owned());
        }
        if let Some(range) = snapshot.ephemeral_ports.as_ref().filter(|range| range.contains(&valid))
            && !snapshot.reserved_ports.contains(valid)
        {
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
pub(super) fn reservation(snapshot: &Snapshot<'_>, row: &Allocation, findings: &mut Vec<Finding>) {
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
