//! What the apps' own files say, held against the table.
//!
//! A file may name every port there is. Of what it names too much, the first is told and the rest
//! counted, so that no file makes a report that nobody can read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::finding::{Finding, Kind, apps_of, list};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::{AppsDirView, FoundFolder};
use crate::core::declared::{Declared, Role};
use crate::core::text::{LISTED, Shown, listed};

/// The rows that have each port, in either column.
type ByPort<'a> = BTreeMap<i64, Vec<&'a Allocation>>;

/// What the apps' files say against the table, and what in them could not be read.
pub(super) fn declarations(rows: &[Allocation], view: &AppsDirView, findings: &mut Vec<Finding>) {
    let mut by_directory = BTreeMap::<_, Vec<&Allocation>>::new();
    let mut by_port = ByPort::new();
    for row in rows {
        by_directory.entry(AppFolder::of(&row.app)).or_default().push(row);
        for port in BTreeSet::from(row.ports()) {
            by_port.entry(port).or_default().push(row);
        }
    }
    for (found, declared) in view.found.iter().zip(&view.declared) {
        let own = by_directory.get(&found.folder).map_or(&[][..], Vec::as_slice);
        // Its directory may be that of another name.
        let app = own.first().map_or_else(|| found.folder.app(), |row| row.app.clone());
        for (file, why) in &declared.unreadable {
            let message = format!("{} of {app} could not be read: {}", shown_file(found, file), Shown(why));
            findings.push(Finding { message, apps: vec![app.clone()], ..in_file(Kind::Unreadable, found, file) });
        }
        own.iter().for_each(|row| differences(row, found, declared, findings));
        clashes(&app, own, found, declared, &by_port, findings);
    }
}

/// Files that do not name the port that a row has.
fn differences(row: &Allocation, found: &FoundFolder, declared: &Declared, findings: &mut Vec<Finding>) {
    for (role, allocated) in [(Role::Backend, row.backend_port), (Role::Frontend, row.frontend_port)] {
        for (file, ranges) in by_file(declared, role) {
            // A service may publish more than the app's port, such as a debugger's.
            if u16::try_from(allocated).is_ok_and(|port| ranges.iter().any(|range| range.contains(&port))) {
                continue;
            }
            let count = ranges.iter().map(ExactSizeIterator::len).sum();
            let named = ranges.into_iter().flatten();
            let message = format!(
                "{} of {} names {role} port {}, its allocation {allocated}",
                shown_file(found, file),
                row.app,
                listed(named.clone(), count)
            );
            let ports: BTreeSet<_> = named.take(LISTED).map(i64::from).chain([allocated]).collect();
            let (ports, apps) = (ports.into_iter().collect(), vec![row.app.clone()]);
            findings.push(Finding { message, ports, apps, ..in_file(Kind::DeclaredPortsDiffer, found, file) });
        }
    }
}

/// Files that name ports of other apps than those whose directory it is.
fn clashes(
    app: &AppId,
    own: &[&Allocation],
    found: &FoundFolder,
    declared: &Declared,
    by_port: &ByPort<'_>,
    findings: &mut Vec<Finding>,
) {
    let is_other = |row: &&Allocation| own.iter().all(|own| own.id != row.id);
    for role in Role::ALL {
        for (file, ranges) in by_file(declared, role) {
            let finding = || in_file(Kind::DeclaredClash, found, file);
            let shown = shown_file(found, file);
            let taken =
                ranges.iter().flat_map(|range| by_port.range(i64::from(*range.start())..=(*range.end()).into()));
            let mut clashing = taken.filter(|(_, users)| users.iter().any(is_other));
            for (&port, users) in clashing.by_ref().take(LISTED) {
                let others = apps_of(&users.iter().copied().filter(is_other).collect::<Vec<_>>());
                let message =
                    format!("{shown} of {app} names {} {port}, which is allocated to {}", named(role), list(&others));
                let apps = [vec![app.clone()], others].concat();
                findings.push(Finding { message, ports: vec![port], apps, ..finding() });
            }
            let more = clashing.count();
            if more > 0 {
                let message = format!("{shown} of {app} names {more} more {}(s) allocated to other apps", named(role));
                findings.push(Finding { message, apps: vec![app.clone()], ..finding() });
            }
        }
    }
}

/// What the port of a role is called.
fn named(role: Role) -> String {
    if role == Role::Other { "port".to_owned() } else { format!("{role} port") }
}

/// The name of a file in an app's folder, with the folder's where that is not the first of its places.
fn shown_file(found: &FoundFolder, file: &str) -> String {
    let place = found.path.strip_prefix(&format!("{}/", found.folder.model)).unwrap_or(&found.path);
    if found.path == found.folder.path() {
        Shown(file).to_string()
    } else {
        format!("{}/{}", Shown(place), Shown(file))
    }
}

/// A finding about a file in an app's folder, with nothing told yet.
fn in_file(kind: Kind, found: &FoundFolder, file: &str) -> Finding {
    let file = Some(format!("{}/{file}", found.path));
    Finding { kind, message: String::new(), ports: Vec::new(), apps: Vec::new(), file }
}

/// The ports that each file declares for a role, in the order of the files' names.
fn by_file(declared: &Declared, role: Role) -> BTreeMap<&'static str, Vec<RangeInclusive<u16>>> {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for found in declared.of(role) {
        files.entry(found.file).or_default().push(found.ports.clone());
    }
    files
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::snapshot;
    use super::super::{Snapshot, find};
    use super::*;
    use crate::core::allocation::tests::row;
    use crate::core::app::Presence;
    use crate::core::apps_dir::tests::found;
    use crate::core::declared::DeclaredPorts;

    use Role::{Backend, Frontend};

    fn declared(ports: impl IntoIterator<Item = (Role, RangeInclusive<u16>, &'static str)>) -> Declared {
        let each = |(role, ports, file)| DeclaredPorts { role, ports, file };
        Declared { ports: ports.into_iter().map(each).collect(), unreadable: Vec::new() }
    }

    #[test]
    fn of_a_wide_range_the_first_ports_are_told_and_the_others_counted() {
        let rows: Vec<_> = (1..=8).map(|n| row(n, "a", n, 5000 + n, 8000 + n)).collect();
        let view = AppsDirView {
            presence: vec![Presence::Present; 8],
            found: vec![found("a", 1), found("a", 8)],
            declared: vec![
                declared([(Backend, 4990..=4991, ".env"), (Backend, 5004..=65535, ".env")]),
                declared([(Frontend, 8001..=8008, ".env")]),
            ],
            ..AppsDirView::default()
        };
        let found = find(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) });
        let lines: Vec<_> = found.iter().map(|found| format!("{} {:?}", found.message, found.ports)).collect();
        let clash = |app: u32, role, port: i64, other: u32| {
            format!(".env of a/app{app} names {role} port {port}, which is allocated to a/app{other} [{port}]")
        };
        let expected = [
            vec![
                ".env of a/app1 names backend port 4990, 4991, 5004, 5005, 5006 and 60529 more, its allocation 5001 \
                 [4990, 4991, 5001, 5004, 5005, 5006]"
                    .to_owned(),
            ],
            (4..=8).map(|n| clash(1, "backend", 5000 + i64::from(n), n)).collect(),
            vec![".env of a/app1 names 7 more backend port(s) allocated to other apps []".to_owned()],
            (1..=5).map(|n| clash(8, "frontend", 8000 + i64::from(n), n)).collect(),
            vec![".env of a/app8 names 2 more frontend port(s) allocated to other apps []".to_owned()],
        ];
        assert_eq!(lines, expected.concat());
    }

    #[test]
    fn what_the_files_say_is_held_against_the_table() {
        let rows = [row(1, "a/b", 1, 5001, 8001), row(2, "c", 1, 5003, 8003), row(3, "c", 2, 5005, 8005)];
        let declared = |ports: &[(Role, u16, &'static str)]| {
            declared(ports.iter().map(|&(role, port, file)| (role, port..=port, file)))
        };
        let view = AppsDirView {
            presence: vec![Presence::Present; 3],
            found: [("a_b", 1), ("c", 1), ("c", 2), ("d", 1), ("d", 2)].map(|(model, n)| found(model, n)).to_vec(),
            declared: vec![
                declared(&[(Backend, 5001, ".env"), (Frontend, 8001, ".env"), (Frontend, 9229, ".env")]),
                declared(&[(Backend, 5003, ".env"), (Backend, 6001, "compose.yml"), (Frontend, 8003, ".env")]),
                declared(&[(Frontend, 5001, ".env"), (Frontend, 9000, ".env")]),
                declared(&[(Backend, 8005, ".env"), (Backend, 8005, "compose.yml"), (Frontend, 7000, ".env")]),
                Declared { unreadable: vec![(".env", "is a folder".into())], ..Declared::default() },
            ],
            ..AppsDirView::default()
        };
        let found: Vec<_> = find(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) })
            .into_iter()
            .filter(|found| found.kind != Kind::UnallocatedApp)
            .map(|found| format!("{}: {} {:?} {}", found.kind.name(), found.message, found.ports, found.file.unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                "declared_ports_differ: compose.yml of c/app1 names backend port 6001, its allocation 5003 [5003, 6001] c/app1/compose.yml",
                "declared_ports_differ: .env of c/app2 names frontend port 5001, 9000, its allocation 8005 [5001, 8005, 9000] c/app2/.env",
                "declared_clash: .env of c/app2 names frontend port 5001, which is allocated to a/b/app1 [5001] c/app2/.env",
                "declared_clash: .env of d/app1 names backend port 8005, which is allocated to c/app2 [8005] d/app1/.env",
                "declared_clash: compose.yml of d/app1 names backend port 8005, which is allocated to c/app2 [8005] d/app1/compose.yml",
                "unreadable: .env of d/app2 could not be read: is a folder [] d/app2/.env",
            ]
        );
    }
}
