//! This file finds the users of ports on this machine: processes that listen, and containers that publish
//! ports.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bind::{Bind, try_bind};
use super::containers::{self, Answer};
use super::listeners;
use crate::core::listener::Listeners;
use crate::core::ports::PortSet;
use crate::core::refusal::Reason;

/// The users of ports that were found.
pub(crate) struct PortUse {
    /// The processes and containers that use the ports.
    pub(crate) listeners: Listeners,
    /// What is known of containers.
    pub(crate) containers: Containers,
}

/// The state of our knowledge about the ports that containers publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Containers {
    /// A server of Docker's API answered, or there were no ports to ask about.
    Known,
    /// This user can reach no server of Docker's API.
    NoServer,
    /// A server is there but gave no usable answer, for this reason.
    Unknown(String),
}

/// Finds the processes that listen on these TCP ports and the running containers that publish them. The
/// servers behind `sockets` are asked about containers, for at most `patience` in all.
pub(crate) fn look(ports: impl IntoIterator<Item = u16>, sockets: &[PathBuf], patience: Duration) -> PortUse {
    let ports: HashSet<_> = ports.into_iter().collect();
    if ports.is_empty() {
        return PortUse { listeners: Listeners::default(), containers: Containers::Known };
    }
    let mut listeners = listeners::on(&ports);
    let containers = match containers::published(sockets, patience) {
        Answer::Published(published) => {
            listeners.extend(published.into_iter().filter(|(port, _)| ports.contains(port)));
            Containers::Known
        }
        Answer::NoServer => Containers::NoServer,
        Answer::Unusable(why) => Containers::Unknown(why),
    };
    PortUse { listeners, containers }
}

/// Returns the reason why listeners outside of this process's network namespace may exist and stay unseen, or
/// `None` if there is no sign of them.
///
/// Sources: `/.dockerenv` and `/run/.containerenv` are made by Docker and Podman in each container, see
/// A user who may not read the namespace of process 1 learns nothing from it.
pub(crate) fn hidden_namespace() -> Option<&'static str> {
    hidden_below(Path::new("/"))
}

/// Returns the reason, like [`hidden_namespace`], from the files below a root folder.
fn hidden_below(root: &Path) -> Option<&'static str> {
    if [".dockerenv", "run/.containerenv"].iter().any(|mark| root.join(mark).exists()) {
        return Some("this is a container");
    }
    let namespace = |process| fs::read_link(root.join("proc").join(process).join("ns/net")).ok();
    let (own, first) = (namespace("self")?, namespace("1")?);
    (own != first).then_some("this is another network namespace than that of process 1")
}

/// Returns the lowest port on which this user may listen. The system reserves lower ports (`ip(7)`,
/// `net.ipv4.ip_unprivileged_port_start`).
pub(crate) fn first_permitted_port() -> u16 {
    let (mut low, mut high) = (1, u16::MAX);
    while low < high {
        let middle = low.midpoint(high);
        if try_bind(middle) == Bind::NotPermitted { low = middle + 1 } else { high = middle }
    }
    low
}

/// Tells which ports a new server of this user could not listen on.
pub(crate) struct Probe {
    /// Ports in use that a bind would not reveal.
    in_use: PortSet,
    /// The wanted ports to which this user may not bind.
    not_permitted: PortSet,
}

impl Probe {
    /// Prepares a probe. The servers behind `sockets` are asked about containers.
    ///
    /// For each `wanted` port to which this user may not bind, the kernel's table shows whether it has a
    /// listener.
    pub(crate) fn new(wanted: impl IntoIterator<Item = u16>, sockets: &[PathBuf]) -> Self {
        let mut in_use = PortSet::new();
        if let Answer::Published(published) = containers::published(sockets, containers::PATIENCE) {
            in_use.extend(published.into_iter().map(|(port, _)| port));
        }
        let not_permitted: Vec<_> = wanted.into_iter().filter(|&port| try_bind(port) == Bind::NotPermitted).collect();
        if !not_permitted.is_empty() {
            let listening = listeners::listening_ports().unwrap_or_default();
            in_use.extend(not_permitted.iter().copied().filter(|&port| listening.contains(port)));
        }
        Self { in_use, not_permitted: not_permitted.into_iter().collect() }
    }

    /// Tells whether a port was wanted and this user may not listen on it.
    pub(crate) fn may_not_bind(&self, port: u16) -> bool {
        self.not_permitted.contains(port)
    }

    /// Returns the ports that are known to be in use without a bind, or `None` if the kernel has no table of
    /// them.
    pub(crate) fn ports_seen_in_use(&self) -> Option<PortSet> {
        let mut ports = listeners::listening_ports()?;
        ports.extend((1..=u16::MAX).filter(|&port| self.in_use.contains(port)));
        Some(ports)
    }

    /// Returns the reason why a new server could not use the port, if there is one. Reads no file.
    pub(crate) fn obstacle(&self, port: u16) -> Option<Reason> {
        if self.in_use.contains(port) {
            return Some(Reason::InUse);
        }
        match try_bind(port) {
            Bind::Free => None,
            Bind::InUse => Some(Reason::InUse),
            Bind::NotPermitted => Some(Reason::NotPermitted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn another_namespace_shows_and_what_may_not_be_read_shows_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        assert_eq!(hidden_below(root.path()), None);
        symlink("net:[1]", path("proc/self/ns/net")).unwrap();
        assert_eq!(hidden_below(root.path()), None, "the namespace of process 1 is not known");
        symlink("net:[1]", path("proc/1/ns/net")).unwrap();
        assert_eq!(hidden_below(root.path()), None);
        fs::remove_file(path("proc/self/ns/net")).unwrap();
        symlink("net:[2]", path("proc/self/ns/net")).unwrap();
        assert!(hidden_below(root.path()).is_some_and(|why| why.contains("another network namespace")));
        for mark in ["run/.containerenv", ".dockerenv"] {
            fs::write(path(mark), "").unwrap();
            assert_eq!(hidden_below(root.path()), Some("this is a container"));
            fs::remove_file(path(mark)).unwrap();
        }
    }
}
