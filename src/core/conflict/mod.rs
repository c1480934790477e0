//! This module finds the problems in the allocations: it takes a snapshot and returns findings.
//!
//! Everything that `check` reports is decided here from plain values, in a stable order: by kind in the order
//! of [`Kind`], then by port or by app.

mod directories;
mod files;
mod finding;
mod grouped;
mod report;
mod snapshot;
mod table;
mod totals;

pub(crate) use self::finding::{Finding, Kind};
pub(crate) use self::grouped::grouped;
pub(crate) use self::report::Report;
pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::table::obstacle;
pub(crate) use self::totals::Examined;

use std::collections::HashSet;

use super::text::Shown;

/// Finds every problem, conflicts before warnings.
pub(crate) fn find(snapshot: &Snapshot<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    table::shared_ports(snapshot.rows, &mut findings);
    table::shared_names(snapshot.rows, &mut findings);
    table::odd_ports(snapshot, &mut findings);
    table::ephemeral_ports(snapshot, &mut findings);
    table::reservations(snapshot, &mut findings);
    if let Some(view) = snapshot.apps_dir {
        directories::directories(snapshot, view, &mut findings);
        files::declarations(snapshot.rows, view, &mut findings);
    }
    for index in snapshot.missing_indexes {
        let message = format!("The table has no unique index on ({})", index.columns().join(", "));
        findings.push(Finding::new(Kind::WeakSchema, message));
    }
    if let Some(file_system) = snapshot.shared_storage {
        let message = format!("The database is on a file system that other machines may share ({file_system})");
        findings.push(Finding::new(Kind::WeakStorage, message));
    }
    if let Some(path) = &snapshot.missing_apps_dir {
        let message = format!("There is no apps directory {}", Shown(path));
        findings.push(Finding::new(Kind::NoAppsDir, message));
    }
    // If the table holds the same row twice, the same finding occurs twice.
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(finding.clone()));
    // The sort is stable: findings of one kind keep the order in which they were found.
    findings.sort_by_key(|finding| finding.kind);
    findings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::snapshot::tests::snapshot;
    use super::*;
    use crate::core::allocation::Allocation;
    use crate::core::allocation::tests::row;
    use crate::core::app::Presence;
    use crate::core::app_folder::AppFolder;
    use crate::core::apps_dir::AppsDirView;
    use crate::core::apps_dir::tests::found;
    use crate::core::declared::Declared;
    use crate::core::listener::{Listener, Listeners};
    use crate::core::schema::UniqueIndex;

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
    fn a_finding_names_its_ports_and_its_apps() {
        let rows = [
            row(1, "a/b", 1, 5001, 8001),
            row(2, "a_b", 1, 5001, 8003),
            row(3, "c", 1, 8003, 0),
            row(4, "c", 1, 5060, 8005),
            row(5, "d", 1, 5005, 8007),
        ];
        let mut presence = vec![Presence::Present; 5];
        presence[4] = Presence::Absent;
        let view = AppsDirView { presence, found: vec![found("z", 2)], ..AppsDirView::default() };
        let found = find(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) });
        let named: Vec<_> =
            found.iter().map(|found| (found.kind.name(), &found.ports[..], finding::list(&found.apps))).collect();
        let expected: [(_, &[i64], _); 8] = [
            ("duplicate_backend_port", &[5001], "a/b/app1, a_b/app1"),
            ("cross_role_port", &[8003], "a_b/app1, c/app1"),
            ("duplicate_app", &[0, 5060, 8003, 8005], "c/app1"),
            ("invalid_port", &[0], "c/app1"),
            ("directory_clash", &[5001, 8001, 8003], "a/b/app1, a_b/app1"),
            ("orphaned", &[5005, 8007], "d/app1"),
            ("unallocated_app", &[], "z/app2"),
            ("browser_blocked_port", &[5060], "c/app1"),
        ];
        assert_eq!(named, expected.map(|(kind, ports, apps)| (kind, ports, apps.to_owned())));
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
            found: [("a", 1), ("a", 2), ("z", 1_i64 << 31), ("z\u{1b}", 1)].map(|(model, n)| found(model, n)).to_vec(),
            declared: vec![Declared::default(); 4],
            unreadable: vec![("apps/y".into(), "no".into())],
        };
        let snapshot = Snapshot {
            apps_dir: Some(&view),
            missing_indexes: &[UniqueIndex::ModelApp, UniqueIndex::BackendPort],
            ..snapshot(&rows)
        };
        let listener = |pid| Listener { pid: Some(pid), program: Some("python3".into()), ..Listener::default() };
        let listeners: Listeners =
            [(5001, listener(1)), (5005, listener(2)), (5005, listener(4)), (8003, listener(3))].into_iter().collect();
        let snapshot = Snapshot { listeners: Some(&listeners), ..snapshot };
        let range = "is inside this machine's ephemeral range 32768-60999: an outgoing connection may take it";
        assert_eq!(
            lines(&snapshot),
            [
                "orphaned: e/app1 has no directory e/app1".to_owned(),
                "orphan_listening: Port 5005 of e/app1, whose directory is gone, is listened on by python3 (pid 2), \
                 listened on by python3 (pid 4)"
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

    #[test]
    fn a_range_that_holds_every_port_is_one_finding_and_reserved_ports_are_none() {
        let rows = [row(1, "a", 1, 5001, 8001), row(2, "b", 1, 5003, 8003)];
        let found = |ephemeral_ports, reserved: &[u16]| {
            let reserved_ports = reserved.iter().copied().collect();
            let snapshot = Snapshot { ephemeral_ports: Some(ephemeral_ports), reserved_ports, ..snapshot(&rows) };
            let found = find(&snapshot).into_iter().filter(|found| found.kind == Kind::EphemeralPort);
            found.map(|found| (found.message, found.ports, found.apps.len())).collect::<Vec<_>>()
        };
        let all = "Every allocated port is inside this machine's ephemeral range 1024-65535: \
                   an outgoing connection may take one";
        assert_eq!(found(1024..=65535, &[]), [(all.to_owned(), vec![5001, 5003, 8001, 8003], 2)]);
        assert_eq!(found(1024..=65535, &[5001, 5003]), [(all.to_owned(), vec![8001, 8003], 2)]);
        assert_eq!(found(1024..=65535, &[5001, 5003, 8001, 8003]), []);
        assert_eq!(found(5003..=65535, &[8001]).len(), 2);
        assert_eq!(found(9000..=65535, &[]), []);
    }

    #[test]
    fn a_reservation_that_is_over_is_told_of_apps_that_are_not_there_yet() {
        let mut held = row(1, "a", 1, 5001, 8001);
        held.metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#.into());
        for (presence, is_told) in
            [(Presence::Absent, true), (Presence::Present, false), (Presence::Unreadable("no".into()), false)]
        {
            let view = AppsDirView { presence: vec![presence.clone()], ..AppsDirView::default() };
            let rows = [held.clone()];
            let found = find(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) });
            assert_eq!(found.iter().any(|found| found.kind == Kind::ExpiredReservation), is_told, "{presence:?}");
        }
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
            let mut directories: Vec<_> = rows.iter().map(|row| AppFolder::of(&row.app)).collect();
            directories.sort_unstable();
            let is_clean = ports.windows(2).all(|w| w[0] != w[1]) && directories.windows(2).all(|w| w[0] != w[1]);
            prop_assert_eq!(findings.is_empty(), is_clean);

            // Every app that is named in a finding about a port has that port.
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
