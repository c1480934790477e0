//! Who uses ports on this machine: the processes that listen, and the containers that publish.

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

/// What a look at ports saw.
pub(crate) struct PortUse {
    /// The users of those ports.
    pub(crate) listeners: Listeners,
    /// What is known of containers.
    pub(crate) containers: Containers,
}

/// What is known of the ports that containers publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Containers {
    /// A server of Docker's API answered, or there was nothing to ask about.
    Known,
    /// No server of Docker's API is there for this user.
    NoServer,
    /// A server is there and gave no usable answer, for this reason.
    Unknown(String),
}

/// Looks for the users of these TCP ports: processes that listen on them, and running containers that
/// publish them. For the containers, the servers behind `sockets` are asked for so long at most.
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

/// Why listeners outside of this process's network namespace may exist that nobody sees from here;
/// `None` where nothing shows that there are others.
///
/// Sources: `/.dockerenv` and `/run/.containerenv` are made by Docker and Podman in each container, see
/// <https://docs.podman.io/en/latest/markdown/podman-run.1.html>; `namespaces(7)`. Who may not look at
/// the namespace of process 1 knows nothing of it.
pub(crate) fn hidden_namespace() -> Option<&'static str> {
    hidden_below(Path::new("/"))
}

/// The same, as the files below a root folder tell.
fn hidden_below(root: &Path) -> Option<&'static str> {
    if [".dockerenv", "run/.containerenv"].iter().any(|mark| root.join(mark).exists()) {
        return Some("this is a container");
    }
    let namespace = |process| fs::read_link(root.join("proc").join(process).join("ns/net")).ok();
    let (own, first) = (namespace("self")?, namespace("1")?);
    (own != first).then_some("this is another network namespace than that of process 1")
}

/// The lowest port that this user may listen on: the system keeps lower ones for others (`ip(7)`,
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
    /// Ports in use, of which a bind does not tell.
    in_use: PortSet,
    /// Those of the wanted ports that this user may not bind to.
    not_permitted: PortSet,
}

impl Probe {
    /// Prepares a probe, for which containers are asked where `sockets` names servers.
    ///
    /// Of `wanted` ports that this user may not bind to, the kernel's table tells who listens.
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

    /// Whether this user may not listen on a port that was wanted.
    pub(crate) fn may_not_bind(&self, port: u16) -> bool {
        self.not_permitted.contains(port)
    }

    /// The ports that something is seen to use, however the system answers a bind; `None` where the
    /// kernel has no table of them.
    pub(crate) fn ports_seen_in_use(&self) -> Option<PortSet> {
        let mut ports = listeners::listening_ports()?;
        ports.extend((1..=u16::MAX).filter(|&port| self.in_use.contains(port)));
        Some(ports)
    }

    /// What keeps a new server from the port, if anything does. Reads no file.
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
