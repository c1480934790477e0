//! This file finds the processes that listen on this machine, in this network namespace.
//!
//! On Linux, the kernel's tables show every user which ports have a listener. The open files of the processes
//! show who listens, to users who may read them. The crate `listeners` reads these tables, too, but it omits
//! each socket whose owner it may not see, and such a port is not free. It also walks all processes if
//! nothing listens. On other systems we bind to each port, and the listener stays unknown.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

use super::bind::{Bind, try_bind};
use crate::core::listener::{Listener, Listeners};
use crate::core::ports::PortSet;

/// Returns the processes that listen on these TCP ports.
///
/// If several processes share a socket, such as a server and its workers, each program is named once, with
/// the process that has the lowest id.
pub(super) fn on(ports: &HashSet<u16>) -> Listeners {
    let Ok(mut sockets) = listening_sockets() else {
        // A port to which this user may not bind may have a listener.
        let in_use = ports.iter().filter(|&&port| try_bind(port) != Bind::Free);
        return in_use.map(|&port| (port, Listener::default())).collect();
    };
    sockets.retain(|(port, _)| ports.contains(port));
    let mut owners = owners(&sockets.iter().map(|&(_, inode)| inode).collect());
    let unseen = || vec![Listener::default()];
    sockets
        .into_iter()
        .flat_map(|(port, inode)| {
            owners.remove(&inode).unwrap_or_else(unseen).into_iter().map(move |owner| (port, owner))
        })
        .collect()
}

/// Returns every TCP port that has a listener, or `None` if the kernel has no table of them.
pub(super) fn listening_ports() -> Option<PortSet> {
    Some(listening_sockets().ok()?.into_iter().map(|(port, _)| port).collect())
}

/// Returns the port and the inode of every listening TCP socket.
///
/// Source: the kernel's `Documentation/networking/proc_net_tcp.rst`.
fn listening_sockets() -> io::Result<Vec<(u16, u64)>> {
    let mut table = fs::read_to_string("/proc/net/tcp")?;
    match fs::read_to_string("/proc/net/tcp6") {
        Ok(more) => table.push_str(&more),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
        Err(err) => return Err(err),
    }
    Ok(table.lines().filter_map(listening_socket).collect())
}

/// Returns the port and the inode in a line of the kernel's table, if that socket listens.
fn listening_socket(line: &str) -> Option<(u16, u64)> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTEN).then_some(())?;
    Some((u16::from_str_radix(port, 16).ok()?, inode.parse().ok()?))
}

/// Returns the processes that hold these sockets, as far as this user may see them.
fn owners(sockets: &HashSet<u64>) -> HashMap<u64, Vec<Listener>> {
    let mut owners = HashMap::<_, Vec<Listener>>::new();
    if sockets.is_empty() {
        return owners;
    }
    let pids = names(Path::new("/proc")).filter_map(|name| name.parse::<u32>().ok());
    for pid in pids {
        let process = Path::new("/proc").join(pid.to_string());
        let files = process.join("fd");
        let held = names(&files).filter_map(|name| inode(&fs::read_link(files.join(name)).ok()?));
        let held: HashSet<_> = held.filter(|inode| sockets.contains(inode)).collect();
        if held.is_empty() {
            continue;
        }
        let program = fs::read(process.join("comm")).ok();
        let program = program.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned());
        for inode in held {
            let owners = owners.entry(inode).or_default();
            if owners.iter().all(|owner| owner.program != program) {
                owners.push(Listener { pid: Some(pid), program: program.clone(), ..Listener::default() });
            }
        }
    }
    owners
}

/// Returns the names in a folder; none if it cannot be read.
fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Returns the inode of the socket that an open file's link leads to (`proc_pid_fd(5)`).
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let v4 = "  13: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 00000000";
        let v6 = "   0: 00000000000000000000000001000000:FFFF 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                  00:00000000 00000000     0        0 18446744073709551615 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listening_socket(v4), Some((5001, 4711)));
        assert_eq!(listening_socket(v6), Some((65535, u64::MAX)));
        assert_eq!(listening_socket(&v4.replace(" 0A ", " 01 ")), None, "established");
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!((listening_socket(header), listening_socket("")), (None, None));
    }

    #[test]
    fn the_link_of_an_open_file_is_read() {
        assert_eq!(inode(Path::new("socket:[4711]")), Some(4711));
        for other in ["pipe:[4711]", "/dev/null", "socket:[]", "anon_inode:[eventfd]"] {
            assert_eq!(inode(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_is_told_who_listens() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let this = Listener {
            pid: Some(std::process::id()),
            program: Some(comm.trim_end().to_owned()),
            ..Listener::default()
        };
        let on = |port| on(&[port].into_iter().collect());
        for address in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("{address}: not run, this machine has no such address");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let second = listener.try_clone().unwrap();
            assert_eq!(on(port), [(port, this.clone())].into_iter().collect(), "{address}");
            drop((listener, second));
            assert_eq!(on(port), Listeners::default(), "{address}");
        }
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(on(datagrams.local_addr().unwrap().port()), Listeners::default(), "UDP is not ours to judge");
    }
}
