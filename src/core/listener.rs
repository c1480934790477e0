//! Who listens on the ports of allocations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::allocation::Allocation;
use super::text::Shown;

/// A process that listens on a port; nothing is known of one that may not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listener {
    /// Its process id.
    pub(crate) pid: Option<u32>,
    /// The name of its program, as the system found it.
    pub(crate) program: Option<String>,
}

impl Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{} (pid {pid})", Shown(program)),
            (Some(pid), None) => write!(f, "pid {pid}"),
            (None, _) => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// The listeners on each port that something listens on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listeners(BTreeMap<u16, BTreeSet<Listener>>);

impl Listeners {
    /// Who listens on the row's ports, by port.
    pub(crate) fn of(&self, row: &Allocation) -> impl Iterator<Item = (u16, &Listener)> {
        let ports: BTreeSet<_> = row.valid_ports().collect();
        ports.into_iter().flat_map(|port| self.0.get(&port).into_iter().flatten().map(move |listener| (port, listener)))
    }
}

impl FromIterator<(u16, Listener)> for Listeners {
    fn from_iter<I: IntoIterator<Item = (u16, Listener)>>(found: I) -> Self {
        let mut ports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (port, listener) in found {
            ports.entry(port).or_default().insert(listener);
        }
        Self(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    #[test]
    fn a_row_has_the_listeners_on_its_ports_each_once() {
        let python = Listener { pid: Some(12), program: Some("py\u{1b}thon".into()) };
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
        assert_eq!(Listener { pid: Some(3), program: None }.to_string(), "pid 3");
    }
}
