//! Decides which entries of an import become rows, given the rows that are in the table.
//!
//! A file may hold a million entries, and most of them cannot be added, as there are not so many ports. The
//! entries and the reasons against them are therefore stored compactly, and each message is built only when
//! it is shown.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;

use super::allocation::{Allocation, PortPair};
use super::app::AppId;
use super::app_folder::AppFolder;

/// One entry of an import: an app and the pair of ports that the file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The app that has the ports.
    pub(crate) app: AppId,
    /// The ports.
    pub(crate) pair: PortPair,
    /// When the app's reservation ends, if the entry names a time.
    pub(crate) until: Option<Timestamp>,
}

/// The entries of an import, in their order, in a compact form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    /// The names of the models, concatenated.
    models: String,
    entries: Vec<Small>,
    /// The end of each reservation, by the index of its entry; most entries have no reservation.
    held: Vec<(usize, Timestamp)>,
}

/// An entry whose model is stored as a slice of [`Entries::models`].
#[derive(Debug, Clone)]
struct Small {
    model_start: usize,
    model_length: u32,
    app_num: u32,
    pair: PortPair,
}

impl Entries {
    /// Adds an entry.
    pub(crate) fn push(&mut self, model: &str, app_num: u32, pair: PortPair, until: Option<Timestamp>) {
        let last = self.entries.last().map(|last| (last.model_start, last.model_length));
        let (model_start, model_length) = match last {
            Some(place) if self.model(place) == model => place,
            _ => {
                let start = self.models.len();
                self.models.push_str(model);
                // A model has 200 characters at most, so its length fits.
                (start, u32::try_from(model.len()).unwrap_or(u32::MAX))
            }
        };
        self.held.extend(until.map(|until| (self.entries.len(), until)));
        self.entries.push(Small { model_start, model_length, app_num, pair });
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entry with this index, counted from 0.
    pub(crate) fn get(&self, index: usize) -> Option<Entry> {
        let small = self.entries.get(index)?;
        let app = AppId::new(self.model((small.model_start, small.model_length)), small.app_num);
        let held = self.held.binary_search_by_key(&index, |(index, _)| *index).ok();
        let until = held.and_then(|place| self.held.get(place)).map(|(_, until)| *until);
        Some(Entry { app, pair: small.pair, until })
    }

    /// Returns all entries, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    fn model(&self, (start, length): (usize, u32)) -> &str {
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        self.models.get(start..end).unwrap_or_default()
    }
}

/// The decision for each entry of an import: added, already there, or in conflict.
#[derive(Debug, Clone, Default)]
pub(crate) struct Import {
    /// The entries to add, in their order.
    pub(crate) new: Vec<Entry>,
    /// The number of entries whose apps have the same ports in the table already.
    pub(crate) existing: usize,
    /// The entries that cannot be added, each as its index and the reason.
    pub(crate) conflicts: Vec<(u32, Obstacle)>,
    /// The apps that have ports, each with its two ports; an [`Obstacle`] refers to an app by its index here.
    users: Vec<(AppId, [i64; 2])>,
}

/// Why an entry cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The app has other ports; the number is its index in the field `users` of [`Import`].
    OtherPorts(u32),
    /// Another app has one of the ports.
    Taken {
        /// The port that another app has.
        port: u16,
        /// Whether the port is that app's backend port; it is its frontend port otherwise.
        is_backend: bool,
        /// That app's index in the field `users` of [`Import`].
        user: u32,
    },
}

impl Import {
    /// Returns the obstacle as a message that can be displayed.
    pub(crate) fn told(&self, obstacle: Obstacle) -> impl Display {
        Told { import: self, obstacle }
    }
}

/// An obstacle with the import whose apps its message names.
struct Told<'a> {
    import: &'a Import,
    obstacle: Obstacle,
}

impl Display for Told<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let user = |user: u32| usize::try_from(user).ok().and_then(|user| self.import.users.get(user));
        match self.obstacle {
            Obstacle::OtherPorts(app) => {
                let [backend, frontend] = user(app).map_or([0, 0], |(_, ports)| *ports);
                write!(f, "it has other ports, backend {backend} and frontend {frontend}")
            }
            Obstacle::Taken { port, is_backend, user: app } => {
                let role = if is_backend { "backend" } else { "frontend" };
                write!(f, "port {port} is the {role} of ")?;
                user(app).map_or(Ok(()), |(app, _)| app.fmt(f))
            }
        }
    }
}

/// An app that an import skips, and the reason as a message.
pub(crate) type Skipped = (AppId, String);

/// The result of an import or of its dry run.
pub(crate) struct Report {
    /// Whether this was a dry run, which changes nothing.
    pub(crate) is_dry_run: bool,
    /// The number of allocations that the import inserted, or would insert without the dry run.
    pub(crate) imported: usize,
    /// The number of apps that had the same ports in the table already.
    pub(crate) existing: usize,
    /// The number of apps that the import skipped.
    pub(crate) skipped: usize,
    /// The first of the skipped apps.
    pub(crate) skipped_apps: Vec<Skipped>,
}

/// Decides, for each entry, whether to add it: an app keeps the pair that it has, and a port belongs to the
/// first app that has it.
///
/// An entry counts as existing if its app has the same ports already, or if an app with the same folder has
/// them, because the platform writes a model's name in two ways. Ports are taken as the file names them, even
/// if they are excluded or refused by browsers, because the apps use them already.
pub(crate) fn plan(entries: &Entries, rows: &[Allocation]) -> Import {
    let mut import = Import::default();
    let mut known = Known::default();
    for row in rows {
        known.insert(&row.app, row.ports(), &mut import.users);
    }
    for (index, entry) in (0..).zip(entries.iter()) {
        match known.obstacle(&entry) {
            Some(_) if known.is_there(&entry, &import.users) => import.existing += 1,
            Some(why) => import.conflicts.push((index, why)),
            None => {
                known.insert(&entry.app, entry.pair.ports().map(i64::from), &mut import.users);
                import.new.push(entry);
            }
        }
    }
    import
}

/// The apps and the ports that they have so far. An app is represented by its index in [`Import::users`].
#[derive(Default)]
struct Known {
    apps: HashMap<AppId, u32>,
    /// The apps that have each port, the first one first, and whether it is the app's backend port.
    users: HashMap<u16, Vec<(u32, bool)>>,
}

impl Known {
    fn insert(&mut self, app: &AppId, ports: [i64; 2], users: &mut Vec<(AppId, [i64; 2])>) {
        // There are no more apps than ports, so the number fits.
        let Ok(user) = u32::try_from(users.len()) else { return };
        self.apps.entry(app.clone()).or_insert(user);
        for (port, is_backend) in ports.into_iter().zip([true, false]) {
            if let Ok(port) = u16::try_from(port) {
                self.users.entry(port).or_default().push((user, is_backend));
            }
        }
        users.push((app.clone(), ports));
    }

    /// Returns the reason why an entry cannot be added, or `None` if it can.
    fn obstacle(&self, entry: &Entry) -> Option<Obstacle> {
        if let Some(user) = self.apps.get(&entry.app) {
            return Some(Obstacle::OtherPorts(*user));
        }
        entry.pair.ports().into_iter().find_map(|port| {
            let (user, is_backend) = *self.users.get(&port)?.first()?;
            Some(Obstacle::Taken { port, is_backend, user })
        })
    }

    /// Tells whether an app with the same folder as the entry's app has the entry's ports.
    fn is_there(&self, entry: &Entry, users: &[(AppId, [i64; 2])]) -> bool {
        let [backend, frontend] = entry.pair.ports().map(|port| self.users.get(&port).map_or(&[][..], Vec::as_slice));
        let folder = AppFolder::of(&entry.app);
        let is_its = |user: u32| {
            let user = usize::try_from(user).ok().and_then(|user| users.get(user));
            user.is_some_and(|(app, _)| AppFolder::of(app) == folder)
        };
        let mut backends = backend.iter().filter(|(_, is_backend)| *is_backend);
        backends.any(|&(user, _)| frontend.contains(&(user, false)) && is_its(user))
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    fn entries(all: &[(&str, u32, u16, u16)]) -> Entries {
        let mut entries = Entries::default();
        for &(model, app_num, backend, frontend) in all {
            entries.push(model, app_num, PortPair::new(backend, frontend).unwrap(), None);
        }
        entries
    }

    fn told(entries: &Entries, import: &Import) -> Vec<String> {
        let told = |&(index, why): &(u32, Obstacle)| {
            format!("{}: {}", entries.get(index.try_into().unwrap()).unwrap().app, import.told(why))
        };
        import.conflicts.iter().map(told).collect()
    }

    #[test]
    fn an_app_keeps_its_pair_and_a_port_its_first_user() {
        let rows = [row(1, "a", 1, 5001, 8001), row(2, "a", 2, 5003, 8003)];
        let entries = entries(&[
            ("a", 1, 5001, 8001),
            ("a", 2, 5003, 8005),
            ("b", 1, 5005, 5001),
            ("b", 2, 8003, 5007),
            ("c", 1, 5005, 8005),
            ("c", 1, 5005, 8005),
            ("c", 1, 5009, 8009),
            ("d", 1, 8005, 5009),
            ("e", 1, 5061, 6000),
        ]);
        let import = plan(&entries, &rows);
        let new: Vec<_> = [4, 8].into_iter().filter_map(|index| entries.get(index)).collect();
        assert_eq!(import.new, new);
        assert_eq!(import.existing, 2);
        assert_eq!(
            told(&entries, &import),
            [
                "a/app2: it has other ports, backend 5003 and frontend 8003",
                "b/app1: port 5001 is the backend of a/app1",
                "b/app2: port 8003 is the frontend of a/app2",
                "c/app1: it has other ports, backend 5005 and frontend 8005",
                "d/app1: port 8005 is the frontend of c/app1",
            ]
        );
    }

    #[test]
    fn an_app_with_the_same_folder_and_ports_is_there() {
        let rows = [row(1, "openai_gpt-4", 1, 5001, 8001), row(2, "b", 1, 5003, 8003)];
        let entries = entries(&[
            ("openai/gpt-4", 1, 5001, 8001),
            ("openai:gpt-4", 1, 5001, 8001),
            ("openai/gpt-4", 2, 5001, 8001),
            ("openai/gpt-4", 1, 8001, 5001),
            ("openai/gpt-4", 1, 5001, 8003),
            ("a/b", 7, 5005, 8005),
            ("a_b", 7, 5005, 8005),
        ]);
        let import = plan(&entries, &rows);
        assert_eq!((import.existing, import.new.len()), (3, 1));
        assert_eq!(
            told(&entries, &import),
            [
                "openai/gpt-4/app2: port 5001 is the backend of openai_gpt-4/app1",
                "openai/gpt-4/app1: port 8001 is the frontend of openai_gpt-4/app1",
                "openai/gpt-4/app1: port 5001 is the backend of openai_gpt-4/app1",
            ]
        );
    }

    #[test]
    fn entries_are_small_and_come_out_as_they_went_in() {
        assert!(size_of::<Small>() <= 24, "{}", size_of::<Small>());
        assert!(size_of::<(u32, Obstacle)>() <= 16, "{}", size_of::<(u32, Obstacle)>());
        let all = [("é", 1, 1, 2), ("é", 2, 3, 4), ("b", 1, 5, 6), ("é", 3, 7, 8)];
        let entries = entries(&all);
        assert_eq!(entries.models, "ébé", "a model in a row is stored once");
        let found: Vec<_> = entries.iter().map(|entry| (entry.app.model, entry.app.app_num)).collect();
        assert_eq!(found, [("é".to_owned(), 1), ("é".to_owned(), 2), ("b".to_owned(), 1), ("é".to_owned(), 3)]);
    }
}
