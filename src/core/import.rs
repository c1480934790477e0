//! Which allocations an import adds: the rows there are and the entries in, what is new out.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::allocation::{Allocation, PortPair};
use super::app::AppId;

/// An app and the pair that it is said to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose the ports are.
    pub(crate) app: AppId,
    /// The ports.
    pub(crate) pair: PortPair,
    /// The moment until which they are held for it, where one is told.
    pub(crate) until: Option<Timestamp>,
}

/// What becomes of the entries of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Import {
    /// The entries to add, in their order.
    pub(crate) new: Vec<Entry>,
    /// How many are there already, with the same ports.
    pub(crate) existing: usize,
    /// The entries that cannot be added, each with the reason in words.
    pub(crate) conflicts: Vec<(Entry, String)>,
}

/// An app that is passed over, and the reason in words.
pub(crate) type Skipped = (AppId, String);

/// What an import did.
pub(crate) struct Report {
    /// How many allocations it made.
    pub(crate) imported: usize,
    /// How many were there already, with the same ports.
    pub(crate) existing: usize,
    /// The apps that it passed over.
    pub(crate) skipped: Vec<Skipped>,
}

/// Sorts out entries: an app keeps the pair that it has, and a port its first user.
///
/// Ports are taken as they are said to be, excluded ones and those that browsers refuse among them:
/// the apps use them already.
pub(crate) fn plan(entries: &[Entry], rows: &[Allocation]) -> Import {
    let mut import = Import::default();
    let mut known = Known::default();
    for row in rows {
        known.insert(&row.app, row.ports());
    }
    for entry in entries {
        let Entry { app, pair, .. } = entry;
        let ports = pair.ports().map(i64::from);
        match known.obstacle(app, ports) {
            Some(_) if known.pairs.contains(&(app.clone(), ports)) => import.existing += 1,
            Some(why) => import.conflicts.push((entry.clone(), why)),
            None => {
                known.insert(app, ports);
                import.new.push(entry.clone());
            }
        }
    }
    import
}

/// Who has which ports, so far.
#[derive(Default)]
struct Known {
    pairs: HashSet<(AppId, [i64; 2])>,
    apps: HashMap<AppId, [i64; 2]>,
    users: HashMap<i64, (&'static str, AppId)>,
}

impl Known {
    fn insert(&mut self, app: &AppId, ports: [i64; 2]) {
        self.pairs.insert((app.clone(), ports));
        self.apps.entry(app.clone()).or_insert(ports);
        for (role, port) in ["backend", "frontend"].into_iter().zip(ports) {
            self.users.entry(port).or_insert_with(|| (role, app.clone()));
        }
    }

    /// Why the app cannot have these ports, if it cannot.
    fn obstacle(&self, app: &AppId, ports: [i64; 2]) -> Option<String> {
        if let Some([backend, frontend]) = self.apps.get(app) {
            return Some(format!("it has other ports, backend {backend} and frontend {frontend}"));
        }
        ports.into_iter().find_map(|port| {
            let (role, user) = self.users.get(&port)?;
            Some(format!("port {port} is the {role} of {user}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    fn entry(model: &str, app_num: i64, backend: u16, frontend: u16) -> Entry {
        let pair = PortPair::new(backend, frontend).unwrap();
        Entry { app: AppId::new(model, app_num), pair, until: None }
    }

    #[test]
    fn an_app_keeps_its_pair_and_a_port_its_first_user() {
        let rows = [row(1, "a", 1, 5001, 8001), row(2, "a", 2, 5003, 8003)];
        let entries = [
            entry("a", 1, 5001, 8001),
            entry("a", 2, 5003, 8005),
            entry("b", 1, 5005, 5001),
            entry("b", 2, 8003, 5007),
            entry("c", 1, 5005, 8005),
            entry("c", 1, 5005, 8005),
            entry("c", 1, 5009, 8009),
            entry("d", 1, 8005, 5009),
            entry("e", 1, 5061, 6000),
        ];
        let import = plan(&entries, &rows);
        assert_eq!(import.new, [entry("c", 1, 5005, 8005), entry("e", 1, 5061, 6000)]);
        assert_eq!(import.existing, 2);
        let conflicts: Vec<_> = import.conflicts.iter().map(|(entry, why)| format!("{}: {why}", entry.app)).collect();
        assert_eq!(
            conflicts,
            [
                "a/app2: it has other ports, backend 5003 and frontend 8003",
                "b/app1: port 5001 is the backend of a/app1",
                "b/app2: port 8003 is the frontend of a/app2",
                "c/app1: it has other ports, backend 5005 and frontend 8005",
                "d/app1: port 8005 is the frontend of c/app1",
            ]
        );
    }
}
