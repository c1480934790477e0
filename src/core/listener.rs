//! Models the users of ports: processes that listen on them and containers that publish them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::allocation::Allocation;
use super::text::Shown;

/// A user of a port: a process that listens on it, or a running container that publishes it.
///
/// The process id and the program are `None` if this user may not see the process. The field `container`
/// is set only for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listener {
    /// The process's id.
    pub(crate) pid: Option<u32>,
    /// The name of the process's program, as the system found it.
    pub(crate) program: Option<String>,
    /// The container's name.
    pub(crate) container: Option<String>,
    /// The Compose project that the container belongs to.
    pub(crate) project: Option<String>,
}

impl Listener {
    /// Returns the verb that a message puts between the user and the port: `python3 (pid 12) listens on`.
    pub(crate) fn verb(&self) -> &'static str {
        if self.container.is_some() { "publishes" } else { "listens on" }
    }

    /// Returns the phrase that a message puts after the port: `listened on by python3 (pid 12)`.
    pub(crate) fn use_of_port(&self) -> String {
        let verb = if self.container.is_some() { "published" } else { "listened on" };
        format!("{verb} by {self}")
    }
}

impl Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(container) = &self.container {
            write!(f, "container {}", Shown(container))?;
            return match &self.project {
                Some(project) => write!(f, " of Compose project {}", Shown(project)),
                None => Ok(()),
            };
        }
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{} (pid {pid})", Shown(program)),
            (Some(pid), None) => write!(f, "pid {pid}"),
            (None, _) => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// The users of each port that is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listeners(BTreeMap<u16, BTreeSet<Listener>>);

impl Listeners {
    /// Returns the users of the port.
    pub(crate) fn on(&self, port: u16) -> impl Iterator<Item = &Listener> {
        self.0.get(&port).into_iter().flatten()
    }

    /// Returns the users of the row's two ports, each with the port.
    pub(crate) fn of(&self, row: &Allocation) -> impl Iterator<Item = (u16, &Listener)> {
        let ports: BTreeSet<_> = row.valid_ports().collect();
        ports.into_iter().flat_map(|port| self.on(port).map(move |listener| (port, listener)))
    }
}

impl FromIterator<(u16, Listener)> for Listeners {
    fn from_iter<I: IntoIterator<Item = (u16, Listener)>>(found: I) -> Self {
        let mut listeners = Self::default();
        listeners.extend(found);
        listeners
    }
}

impl Extend<(u16, Listener)> for Listeners {
    fn extend<I: IntoIterator<Item = (u16, Listener)>>(&mut self, found: I) {
        for (port, listener) in found {
            self.0.entry(port).or_default().insert(listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    #[test]
    fn a_row_has_the_listeners_on_its_ports_each_once() {
        let python = Listener { pid: Some(12), program: Some("py\u{1b}thon".into()), ..Listener::default() };
        let found =
            [(8001, Listener::default()), (5001, python.clone()), (5001, python.clone()), (5003, python.clone())];
        let listeners: Listeners = found.into_iter().collect();
        let of = |backend, frontend| {
            let row = row(1, "m", 1, backend, frontend);
            listeners.of(&row).map(|(port, listener)| (port, listener.to_string())).collect::<Vec<_>>()
        };
        let [python, unseen] = ["py\\u{1b}thon (pid 12)", "a process that cannot be seen from here"];
        assert_eq!(of(5001, 8001), [(5001, python.to_owned()), (8001, unseen.to_owned())]);
        assert_eq!(of(5001, 5001), [(5001, python.to_owned())]);
        assert_eq!(of(5001 + 65536, 0), []);
        assert_eq!(Listener { pid: Some(3), ..Listener::default() }.to_string(), "pid 3");
    }

    #[test]
    fn a_container_is_named_with_its_project() {
        let container = |project: Option<&str>| Listener {
            container: Some("shop-web-1\n".into()),
            project: project.map(str::to_owned),
            ..Listener::default()
        };
        assert_eq!(container(None).use_of_port(), "published by container shop-web-1\\n");
        assert_eq!(
            container(Some("shop")).use_of_port(),
            "published by container shop-web-1\\n of Compose project shop"
        );
        assert_eq!([container(None).verb(), Listener::default().verb()], ["publishes", "listens on"]);
        let unseen = "listened on by a process that cannot be seen from here";
        assert_eq!(Listener::default().use_of_port(), unseen);
    }
}
