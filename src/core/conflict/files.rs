//! What the apps' own files say, held against the table.

use std::collections::{BTreeMap, BTreeSet};

use super::{AppsDirView, Finding, Kind, apps_of, list};
use crate::core::allocation::Allocation;
use crate::core::app::{AppId, safe_model};
use crate::core::declared::{Declared, Role};
use crate::core::text::Shown;

/// What the apps' files say against the table, and what in them could not be read.
pub(super) fn declarations(rows: &[Allocation], view: &AppsDirView, findings: &mut Vec<Finding>) {
    type Directory = (String, i64);
    let directory_of = |app: &AppId| -> Directory { (safe_model(&app.model), app.app_num) };
    let mut by_directory = BTreeMap::<Directory, Vec<&Allocation>>::new();
    let mut by_port = BTreeMap::<i64, Vec<&Allocation>>::new();
    for row in rows {
        by_directory.entry(directory_of(&row.app)).or_default().push(row);
        for port in BTreeSet::from(row.ports()) {
            by_port.entry(port).or_default().push(row);
        }
    }
    for (directory, declared) in view.found.iter().zip(&view.declared) {
        let own = by_directory.get(directory).map_or(&[][..], Vec::as_slice);
        // Its directory may be that of another name.
        let app = own.first().map_or_else(|| AppId::new(&directory.0, directory.1), |row| row.app.clone());
        let path = |file: &str| Some(format!("{}/{file}", app.directory()));
        for (file, why) in &declared.unreadable {
            let message = format!("{} of {app} could not be read: {}", Shown(file), Shown(why));
            let (kind, apps) = (Kind::Unreadable, vec![app.clone()]);
            findings.push(Finding { kind, message, ports: Vec::new(), apps, file: path(file) });
        }
        for row in own {
            for (role, allocated) in [(Role::Backend, row.backend_port), (Role::Frontend, row.frontend_port)] {
                for (file, ports) in by_file(declared, role) {
                    // A service may publish more than the app's port, such as a debugger's.
                    if ports.contains(&allocated) {
                        continue;
                    }
                    let named: Vec<_> = ports.iter().map(i64::to_string).collect();
                    let message = format!(
                        "{} of {} names {role} port {}, its allocation {allocated}",
                        Shown(file),
                        row.app,
                        named.join(", ")
                    );
                    let ports = ports.into_iter().chain([allocated]).collect::<BTreeSet<_>>().into_iter().collect();
                    let (kind, apps) = (Kind::DeclaredPortsDiffer, vec![row.app.clone()]);
                    findings.push(Finding { kind, message, ports, apps, file: path(file) });
                }
            }
        }
        for (role, file, port) in [Role::Backend, Role::Frontend].into_iter().flat_map(|role| {
            by_file(declared, role)
                .into_iter()
                .flat_map(move |(file, ports)| ports.into_iter().map(move |port| (role, file, port)))
        }) {
            let users = by_port.get(&port).map_or(&[][..], Vec::as_slice);
            let others: Vec<_> = users.iter().copied().filter(|row| directory_of(&row.app) != *directory).collect();
            if others.is_empty() {
                continue;
            }
            let others = apps_of(&others);
            let message =
                format!("{} of {app} names {role} port {port}, which is allocated to {}", Shown(file), list(&others));
            let apps = [vec![app.clone()], others].concat();
            findings.push(Finding { kind: Kind::DeclaredClash, message, ports: vec![port], apps, file: path(file) });
        }
    }
}

/// The ports that each file declares for a role.
fn by_file(declared: &Declared, role: Role) -> BTreeMap<&str, BTreeSet<i64>> {
    let mut files = BTreeMap::<&str, BTreeSet<i64>>::new();
    for found in declared.ports.iter().filter(|found| found.role == role) {
        files.entry(&found.file).or_default().insert(found.port.into());
    }
    files
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::super::{Snapshot, find};
    use super::*;
    use crate::core::allocation::tests::row;
    use crate::core::app::Presence;
    use crate::core::declared::DeclaredPort;

    #[test]
    fn what_the_files_say_is_held_against_the_table() {
        let rows = [row(1, "a/b", 1, 5001, 8001), row(2, "c", 1, 5003, 8003), row(3, "c", 2, 5005, 8005)];
        let declared = |ports: &[(Role, u16, &str)]| Declared {
            ports: ports.iter().map(|&(role, port, file)| DeclaredPort { role, port, file: file.into() }).collect(),
            unreadable: Vec::new(),
        };
        use Role::{Backend, Frontend};
        let view = AppsDirView {
            presence: vec![Presence::Present; 3],
            found: [("a_b", 1), ("c", 1), ("c", 2), ("d", 1), ("d", 2)]
                .map(|(model, n)| (model.to_owned(), n))
                .to_vec(),
            declared: vec![
                declared(&[(Backend, 5001, ".env"), (Frontend, 8001, ".env"), (Frontend, 9229, ".env")]),
                declared(&[(Backend, 5003, ".env"), (Backend, 6001, "compose.yml"), (Frontend, 8003, ".env")]),
                declared(&[(Frontend, 5001, ".env"), (Frontend, 9000, ".env")]),
                declared(&[(Backend, 8005, ".env"), (Backend, 8005, "compose.yml"), (Frontend, 7000, ".env")]),
                Declared { unreadable: vec![(".env".into(), "is a folder".into())], ..Declared::default() },
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
