//! This file reads the hosts of a connection, as libpq and SQLAlchemy write them.

use std::fmt::{self, Display};
use std::net::Ipv6Addr;

use super::parameters::Parameters;

/// One of the hosts that are tried in turn. A part that is not given is empty.
pub(super) struct Host {
    /// Its name or address, or the folder of a server's socket.
    pub(super) name: String,
    pub(super) port: String,
    /// The address to connect to in place of the name.
    pub(super) address: String,
}

impl Host {
    /// Tells whether the server is reached through a Unix socket on this machine.
    pub(super) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl Display for Host {
    /// Writes the name, in brackets where it is an IPv6 address, and the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port, .. } = self;
        if name.contains(':') { write!(f, "[{name}]") } else { write!(f, "{name}") }?;
        if port.is_empty() { Ok(()) } else { write!(f, ":{port}") }
    }
}

/// Returns the hosts that the parameters list. If there is only one port, it applies to all hosts.
pub(super) fn hosts_of(parameters: &Parameters) -> Result<Vec<Host>, String> {
    let list = |key: &str| parameters.get(key).map_or("", String::as_str).split(',').collect::<Vec<_>>();
    let (names, ports, addresses) = (list("host"), list("port"), list("hostaddr"));
    if ![1, names.len()].contains(&ports.len()) || (addresses != [""] && addresses.len() != names.len()) {
        return Err("there must be as many ports and addresses as hosts, or one port for all".to_owned());
    }
    let nth = |list: &[&str], index: usize| list.get(index).or(list.first()).copied().unwrap_or_default().to_owned();
    let host = |index| Host { name: nth(&names, index), port: nth(&ports, index), address: nth(&addresses, index) };
    Ok((0..names.len()).map(host).collect())
}

/// Takes a host in a URL's authority apart: `name`, `name:port`, `[address]` or `[address]:port`.
pub(super) fn name_and_port(host: &str) -> (&str, &str) {
    // An IPv6 address stands in brackets.
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
        None => host.split_once(':').unwrap_or((host, "")),
    }
}

/// Writes the names of hosts, which commas separate, as [`name_and_port_in_query`] reads them: no part of an
/// address is taken for a port.
pub(super) fn in_query(names: &str) -> String {
    let has_colons = |name: &str| name.contains(':') && !name.starts_with('/');
    let written = |name: &str| if has_colons(name) { format!("[{name}]") } else { name.to_owned() };
    names.split(',').map(written).collect::<Vec<_>>().join(",")
}

/// Takes a host in a URL's query apart, where it may also be an address without brackets, the folder of a
/// socket, or the socket itself, as pg8000's `unix_sock` names it.
pub(super) fn name_and_port_in_query(host: &str) -> (&str, &str) {
    if host.parse::<Ipv6Addr>().is_ok() {
        return (host, "");
    }
    if !host.starts_with('/') {
        return name_and_port(host);
    }
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let parts = host.split_once("/.s.PGSQL.").or_else(|| host.rsplit_once(':'));
    parts.filter(|(_, port)| is_number(port)).unwrap_or((host, ""))
}
