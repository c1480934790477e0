//! Who listens on this machine.
//!
//! On Linux the kernel's tables tell which ports are listened on, to every user, and the open files
//! of the processes tell by whom, to those who may see them. The crate `listeners` reads the same
//! but leaves out each socket whose owner it may not see, and to us such a port is not free; it also
//! walks all processes where nothing listens. Elsewhere each port is probed, and the owner unknown.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fs, io};

use socket2::{Domain, Socket, Type};

use crate::core::listener::{Listener, Listeners};

/// Who listens on these TCP ports.
///
/// Of the processes that share a socket, such as a server and its workers, each program is named
/// once, with the process that `/proc` lists first: the lowest id.
pub(crate) fn on(ports: impl IntoIterator<Item = u16>) -> Listeners {
    let ports: HashSet<_> = ports.into_iter().collect();
    if ports.is_empty() {
        return Listeners::default();
    }
    let Ok(mut sockets) = listening_sockets() else {
        return ports.into_iter().filter(|&port| is_listening(port)).map(|port| (port, Listener::default())).collect();
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

/// The port and the inode of every TCP socket that listens.
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

/// The port and the inode in a line of the kernel's table, if that socket listens.
fn listening_socket(line: &str) -> Option<(u16, u64)> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTEN).then_some(())?;
    Some((u16::from_str_radix(port, 16).ok()?, inode.parse().ok()?))
}

/// The processes that hold these sockets, as far as this user may see them.
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
                owners.push(Listener { pid: Some(pid), program: program.clone() });
            }
        }
    }
    owners
}

/// The names in a folder; none where it cannot be read.
fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// The inode of the socket that an open file's link leads to (`proc_pid_fd(5)`).
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Whether something on this machine listens on the TCP port: on IPv4 or IPv6, on all addresses or
/// on loopback.
///
/// It asks by binding and never listens itself: with `SO_REUSEADDR` a bind fails on a port that is
/// listened on, and not because another probe has just bound it too (`socket(7)`). Where the
/// system will not say, as for a port below 1024, the port counts as free.
pub(crate) fn is_listening(port: u16) -> bool {
    let is_taken = |address: IpAddr| {
        let bound = bind(SocketAddr::new(address, port));
        matches!(bound, Err(err) if err.kind() == io::ErrorKind::AddrInUse)
    };
    // On Linux, a bind to all addresses of both families fails for a listener on any of them.
    if cfg!(target_os = "linux") && bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).is_ok() {
        return false;
    }
    [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        .into_iter()
        .any(is_taken)
}

/// Binds to an address; to all addresses of IPv6 is to all of IPv4 as well.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

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
        let this = Listener { pid: Some(std::process::id()), program: Some(comm.trim_end().to_owned()) };
        for address in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("{address}: not run, this machine has no such address");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let second = listener.try_clone().unwrap();
            assert_eq!(on([port]), [(port, this.clone())].into_iter().collect(), "{address}");
            drop((listener, second));
            assert_eq!(on([port]), Listeners::default(), "{address}");
        }
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(on([datagrams.local_addr().unwrap().port()]), Listeners::default(), "UDP is not ours to judge");
        assert_eq!(on([]), Listeners::default());
    }

    #[test]
    fn listeners_are_seen_and_probes_are_not() {
        for address in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0", "[::1]:0", "127.0.0.2:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("{address}: not run, this machine has no such address");
                continue;
            };
            assert!(is_listening(listener.local_addr().unwrap().port()), "{address}");
        }

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(free);
        assert!(!is_listening(port), "a connection that is left over does not listen");
        drop(connection);

        let probe = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        probe.set_reuse_address(true).unwrap();
        probe.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
        assert!(!is_listening(port), "another probe does not listen");
        drop(probe);

        let datagrams = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        assert!(!is_listening(datagrams.local_addr().unwrap().port()), "UDP is not ours to judge");
    }
}
