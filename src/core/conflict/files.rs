//! This file compares the ports that the apps' own files declare with the table.
//!
//! A file may name every possible port. If it names many wrong ones, the report shows the first and counts
//! the others, so that no file makes the report too long to read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::finding::{Finding, Kind, apps_of, list};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::{AppsDirView, FoundFolder};
use crate::core::declared::{Declared, DeclaredPorts, ENV_FILE, Role, WhyUnpublished, union};
use crate::core::text::{LISTED, Shown, listed};

/// The rows that have each port, in either column.
type ByPort<'a> = BTreeMap<i64, Vec<&'a Allocation>>;

/// Adds findings about the differences between the apps' files and the table, and about files that could not
/// be read.
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
        // The directory may belong to an app whose name is spelled differently.
        let app = own.first().map_or_else(|| found.folder.app(), |row| row.app.clone());
        let files = Files { app: &app, found, declared };
        notes(files, findings);
        own.iter().for_each(|row| differences(row, files, findings));
        clashes(files, own, &by_port, findings);
        unpublished(files, &by_port, findings);
    }
}

/// The files in one folder of an app.
#[derive(Clone, Copy)]
struct Files<'a> {
    app: &'a AppId,
    found: &'a FoundFolder,
    declared: &'a Declared,
}

impl Files<'_> {
    /// Returns the name of a file, with its folder if that is not the app's first folder.
    fn shown(&self, file: &str) -> String {
        let FoundFolder { folder, path } = self.found;
        let place = path.strip_prefix(&format!("{}/", folder.model)).unwrap_or(path);
        if *path == folder.path() { Shown(file).to_string() } else { format!("{}/{}", Shown(place), Shown(file)) }
    }

    /// Returns a finding about a file, which names the app and no ports yet.
    fn finding(&self, kind: Kind, place: Place<'_>) -> Finding {
        let file = Some(format!("{}/{}", self.found.path, place.file));
        Finding {
            kind,
            message: String::new(),
            ports: Vec::new(),
            apps: vec![self.app.clone()],
            file,
            line: place.line,
        }
    }
}

/// Adds findings for the parts of an app's files that could not be read, and for those that Compose refuses.
fn notes(files: Files<'_>, findings: &mut Vec<Finding>) {
    let Files { app, declared, .. } = files;
    let unreadable = declared.unreadable.iter().map(|note| (Kind::Unreadable, "could not be read", note));
    let refused = declared.refused.iter().map(|note| (Kind::RefusedPort, "has a port that Compose refuses", note));
    for (kind, what, note) in unreadable.chain(refused) {
        let message = format!("{} of {app} {what}: {}", files.shown(&note.file), Shown(&note.reason));
        let place = Place { file: &note.file, line: note.line };
        findings.push(Finding { message, ..files.finding(kind, place) });
    }
}

/// Adds a finding for each file that does not name the port that a row has. All Compose files count as one,
/// because Compose merges them.
fn differences(row: &Allocation, files: Files<'_>, findings: &mut Vec<Finding>) {
    let declared = files.declared;
    for (role, allocated) in [(Role::Backend, row.backend_port), (Role::Frontend, row.frontend_port)] {
        let (env, compose): (Vec<_>, Vec<_>) = declared.of(role).partition(|found| found.file == ENV_FILE);
        // An unknown value may be the allocated port.
        let compose = if declared.unknown_in_compose.contains(&role) { Vec::new() } else { compose };
        for named in [env, compose] {
            // A service may publish more than the app's port, such as a debugger's port.
            let is_allocated = |port| named.iter().any(|found| found.ports.contains(&port));
            let Some(first) = named.first() else { continue };
            if u16::try_from(allocated).is_ok_and(is_allocated) {
                continue;
            }
            let ranges = union(named.iter().map(|found| found.ports.clone()).collect());
            let count = ranges.iter().map(ExactSizeIterator::len).sum();
            let ports = ranges.into_iter().flatten();
            let names: BTreeSet<_> = named.iter().map(|found| files.shown(&found.file)).collect();
            let verb = if names.len() == 1 { "names" } else { "name" };
            let names = listed(&names, names.len());
            let message = format!(
                "{names} of {} {verb} {role} port {}, its allocation {allocated}",
                row.app,
                listed(ports.clone(), count)
            );
            let ports: BTreeSet<_> = ports.take(LISTED).map(i64::from).chain([allocated]).collect();
            let (ports, apps) = (ports.into_iter().collect(), vec![row.app.clone()]);
            let finding = files.finding(Kind::DeclaredPortsDiffer, Place::of(first));
            findings.push(Finding { message, ports, apps, ..finding });
        }
    }
}

/// Adds findings for files that name ports of other apps than the app of the directory.
fn clashes(files: Files<'_>, own: &[&Allocation], by_port: &ByPort<'_>, findings: &mut Vec<Finding>) {
    let Files { app, declared, .. } = files;
    let is_other = |row: &&Allocation| own.iter().all(|own| own.id != row.id);
    for role in Role::ALL {
        for (file, named) in by_file(declared, role) {
            let clashing = |found: &&DeclaredPorts| {
                let users = by_port.range(i64::from(*found.ports.start())..=(*found.ports.end()).into());
                users
                    .filter(|(_, users)| users.iter().any(is_other))
                    .map(|(port, users)| (*port, users))
                    .collect::<Vec<_>>()
            };
            // A port may occur in two entries.
            let mut taken = BTreeMap::new();
            for found in &named {
                for (port, users) in clashing(found) {
                    taken.entry(port).or_insert((users, Place::of(found)));
                }
            }
            let mut taken = taken.into_iter();
            for (port, (users, place)) in taken.by_ref().take(LISTED) {
                let others = apps_of(&users.iter().copied().filter(is_other).collect::<Vec<_>>());
                let message = format!(
                    "{} of {app} names {} {port}, which is allocated to {}",
                    files.shown(file),
                    called(role),
                    list(&others)
                );
                let apps = [vec![app.clone()], others].concat();
                findings.push(Finding {
                    message,
                    ports: vec![port],
                    apps,
                    ..files.finding(Kind::DeclaredClash, place)
                });
            }
            if let Some((_, (_, place))) = taken.next() {
                let more = taken.count() + 1;
                let message = format!(
                    "{} of {app} names {more} more {}(s) allocated to other apps",
                    files.shown(file),
                    called(role)
                );
                findings.push(Finding { message, ..files.finding(Kind::DeclaredClash, place) });
            }
        }
    }
}

/// Adds findings for ports that a service names but does not publish: all ports of the backend and frontend
/// services, and those ports of other services that an app has.
fn unpublished(files: Files<'_>, by_port: &ByPort<'_>, findings: &mut Vec<Finding>) {
    let Files { app, declared, .. } = files;
    for found in &declared.unpublished {
        let allocated = |range: &RangeInclusive<u16>| {
            by_port.range(i64::from(*range.start())..=(*range.end()).into()).collect::<Vec<_>>()
        };
        let taken: Vec<_> = found.ports.iter().flat_map(allocated).collect();
        let named = found.ports.iter().cloned().flatten().map(i64::from);
        let ports: Vec<_> = match found.role {
            Role::Other => taken.iter().map(|(port, _)| **port).take(LISTED).collect(),
            _ => named.take(LISTED).collect(),
        };
        if ports.is_empty() {
            continue;
        }
        let count = match found.role {
            Role::Other => taken.len(),
            _ => found.ports.iter().map(ExactSizeIterator::len).sum(),
        };
        let users: Vec<_> = taken.iter().flat_map(|(_, users)| users.iter().copied()).collect();
        let others: Vec<_> = apps_of(&users).into_iter().filter(|user| user != app).collect();
        let theirs = match others.as_slice() {
            [] => String::new(),
            others => format!("; allocated to {}", listed(others, others.len())),
        };
        let message = format!(
            "{} of {app}: the service {} does not publish {} {}{theirs}, {}",
            files.shown(&found.file),
            Shown(&found.service),
            called(found.role),
            listed(&ports, count),
            meaning(&found.why)
        );
        let apps = [vec![app.clone()], others.into_iter().take(LISTED).collect()].concat();
        let place = Place { file: &found.file, line: Some(found.line) };
        findings.push(Finding { message, ports, apps, ..files.finding(Kind::NotPublished, place) });
    }
}

/// Describes why a service publishes nothing, and what that means for its ports.
fn meaning(why: &WhyUnpublished) -> String {
    match why {
        WhyUnpublished::HostNetwork => {
            "as it uses the host's network: its program listens on the ports that it chooses itself".to_owned()
        }
        WhyUnpublished::NoNetwork => "as it has no network: nobody can reach it there".to_owned(),
        WhyUnpublished::SharedNetwork => {
            "as it uses the network of another container: only that one can publish them".to_owned()
        }
        WhyUnpublished::NoReplicas => "as it has no replica: it does not run".to_owned(),
        WhyUnpublished::Profiles(names) => format!(
            "as its profile {} is off: it would once COMPOSE_PROFILES names it",
            listed(names.iter().map(|name| Shown(name)), names.len())
        ),
    }
}

/// Returns the name of a role's port.
fn called(role: Role) -> String {
    if role == Role::Other { "port".to_owned() } else { format!("{role} port") }
}

/// A place in one of an app's files.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a str,
    line: Option<usize>,
}

impl<'a> Place<'a> {
    fn of(found: &'a DeclaredPorts) -> Self {
        Self { file: &found.file, line: Some(found.line) }
    }
}

/// Returns the ports that each file declares for a role, in the order of the files' names.
fn by_file(declared: &Declared, role: Role) -> BTreeMap<&str, Vec<&DeclaredPorts>> {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for found in declared.of(role) {
        files.entry(found.file.as_str()).or_default().push(found);
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
    use crate::core::declared::{Note, Unpublished};

    use Role::{Backend, Frontend};

    fn declared(ports: impl IntoIterator<Item = (Role, RangeInclusive<u16>, &'static str)>) -> Declared {
        let each = |(role, ports, file): (_, _, &str)| DeclaredPorts { role, ports, file: file.to_owned(), line: 3 };
        Declared { ports: ports.into_iter().map(each).collect(), ..Declared::default() }
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
                Declared {
                    unreadable: vec![Note { file: ".env".into(), line: None, reason: "is a folder".into() }],
                    ..Declared::default()
                },
            ],
            ..AppsDirView::default()
        };
        let found: Vec<_> = find(&Snapshot { apps_dir: Some(&view), ..snapshot(&rows) })
            .into_iter()
            .filter(|found| found.kind != Kind::UnallocatedApp)
            .inspect(|found| assert_eq!(found.line, (found.kind != Kind::Unreadable).then_some(3), "{found:?}"))
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

    #[test]
    fn the_compose_files_of_an_app_are_one() {
        let rows = [row(1, "a", 1, 5001, 8001), row(2, "a", 2, 5003, 8003)];
        let compose = |unknown: &[Role], ports: &[(Role, u16, &'static str)]| Declared {
            unknown_in_compose: unknown.to_vec(),
            ..declared(ports.iter().map(|&(role, port, file)| (role, port..=port, file)))
        };
        let messages = |declared: Declared| {
            let view = AppsDirView { found: vec![found("a", 1)], declared: vec![declared], ..AppsDirView::default() };
            let mut findings = Vec::new();
            declarations(&rows, &view, &mut findings);
            findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
        };
        let both = [(Backend, 9229, "a.yml"), (Backend, 5001, "b.yml")];
        assert_eq!(messages(compose(&[], &both)), [""; 0]);
        let neither = [(Backend, 9229, "a.yml"), (Backend, 9230, "b.yml")];
        let differs = "a.yml, b.yml of a/app1 name backend port 9229, 9230, its allocation 5001";
        assert_eq!(messages(compose(&[], &neither)), [differs]);
        // An unknown value may be the allocated port, but a port of another app is known to be wrong.
        assert_eq!(messages(compose(&[Backend], &neither)), [""; 0]);
        let clash = [(Backend, 5003, "a.yml"), (Backend, 5003, ".env")];
        let clashes = |file: &str| format!("{file} of a/app1 names backend port 5003, which is allocated to a/app2");
        assert_eq!(
            messages(compose(&[Backend], &clash)),
            [
                ".env of a/app1 names backend port 5003, its allocation 5001".to_owned(),
                clashes(".env"),
                clashes("a.yml"),
            ]
        );
    }

    #[test]
    fn a_finding_names_the_row_that_differs_and_a_clash_the_folders_first_app_and_the_others() {
        let rows = [row(1, "a/b", 1, 5001, 8001), row(2, "a_b", 1, 5003, 8003), row(3, "c", 1, 5005, 8005)];
        let declared = vec![declared([(Backend, 5005..=5005, ".env")])];
        let view = AppsDirView { found: vec![found("a_b", 1)], declared, ..AppsDirView::default() };
        let mut findings = Vec::new();
        declarations(&rows, &view, &mut findings);
        let apps: Vec<_> = findings.iter().map(|found| (found.kind, list(&found.apps))).collect();
        let expected = [
            (Kind::DeclaredPortsDiffer, "a/b/app1"),
            (Kind::DeclaredPortsDiffer, "a_b/app1"),
            (Kind::DeclaredClash, "a/b/app1, c/app1"),
        ];
        assert_eq!(apps, expected.map(|(kind, apps)| (kind, apps.to_owned())));
    }

    #[test]
    fn what_a_service_does_not_publish_is_told_with_the_reason_and_the_apps_that_have_the_ports() {
        let rows: Vec<_> = (1..=7).map(|n| row(n, "a", n, 5000 + n, 8000 + n)).collect();
        let service = |role, ports: &[RangeInclusive<u16>], why| Unpublished {
            role,
            service: "s".into(),
            ports: ports.to_vec(),
            why,
            file: "compose.yml".into(),
            line: 3,
        };
        let profiles = ["p\u{1b}", "q"].map(str::to_owned).to_vec();
        let unpublished = vec![
            service(Backend, &[5001..=5001], WhyUnpublished::HostNetwork),
            service(Frontend, &[8001..=8003, 9000..=9009], WhyUnpublished::NoReplicas),
            service(Role::Other, &[5000..=5000, 5432..=5432], WhyUnpublished::NoNetwork),
            service(Role::Other, &[5001..=5002, 5432..=5432], WhyUnpublished::SharedNetwork),
            service(Role::Other, &[1..=65535], WhyUnpublished::Profiles(profiles)),
        ];
        let declared = vec![Declared { unpublished, ..Declared::default() }];
        let view = AppsDirView { found: vec![found("a", 1)], declared, ..AppsDirView::default() };
        let mut findings = Vec::new();
        declarations(&rows, &view, &mut findings);
        let told: Vec<_> = findings
            .iter()
            .inspect(|found| assert_eq!((found.kind, found.line), (Kind::NotPublished, Some(3)), "{found:?}"))
            .inspect(|found| assert_eq!(found.file.as_deref(), Some("a/app1/compose.yml")))
            .map(|found| format!("{} {:?} {}", found.message, found.ports, list(&found.apps)))
            .collect();
        let start = "compose.yml of a/app1: the service s does not publish";
        assert_eq!(
            told,
            [
                format!(
                    "{start} backend port 5001, as it uses the host's network: its program listens on the ports that \
                     it chooses itself [5001] a/app1"
                ),
                format!(
                    "{start} frontend port 8001, 8002, 8003, 9000, 9001 and 8 more; allocated to a/app2, a/app3, \
                     as it has no replica: it does not run [8001, 8002, 8003, 9000, 9001] a/app1, a/app2, a/app3"
                ),
                format!(
                    "{start} port 5001, 5002; allocated to a/app2, as it uses the network of another container: \
                     only that one can publish them [5001, 5002] a/app1, a/app2"
                ),
                format!(
                    "{start} port 5001, 5002, 5003, 5004, 5005 and 9 more; \
                     allocated to a/app2, a/app3, a/app4, a/app5, a/app6 and 1 more, \
                     as its profile p\\u{{1b}}, q is off: it would once COMPOSE_PROFILES names it \
                     [5001, 5002, 5003, 5004, 5005] a/app1, a/app2, a/app3, a/app4, a/app5, a/app6"
                ),
            ]
        );
    }
}
