//! This file tests whether a program of this user could listen on a port, by binding to the port.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// The result of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    /// A program of this user could listen on the port.
    Free,
    /// The system says that the port is in use.
    InUse,
    /// This user may not bind to the port, such as one below `net.ipv4.ip_unprivileged_port_start`
    /// (`ip(7)`). That says nothing about who listens on it.
    NotPermitted,
}

/// Binds to the TCP port on IPv4 and IPv6, on all addresses and on loopback, and closes the sockets again.
///
/// The sockets never listen. With `SO_REUSEADDR`, a bind fails if a socket listens on the port, but not if
/// another probe is bound to the port at the same time (`socket(7)`).
pub(crate) fn try_bind(port: u16) -> Bind {
    // On Linux, a bind to all addresses of both families fails for a listener on any of them.
    if cfg!(target_os = "linux") {
        match bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Ok(()) => return Bind::Free,
            Err(ErrorKind::AddrInUse) => return Bind::InUse,
            Err(_) => {} // This machine may have no IPv6.
        }
    }
    let addresses: [IpAddr; 4] = [
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
    ];
    let answers = addresses.map(|address| bind(SocketAddr::new(address, port)));
    if answers.contains(&Err(ErrorKind::AddrInUse)) {
        Bind::InUse
    } else if answers.contains(&Err(ErrorKind::PermissionDenied)) && !answers.contains(&Ok(())) {
        Bind::NotPermitted
    } else {
        Bind::Free
    }
}

/// Binds to an address. A bind to all addresses of IPv6 includes all addresses of IPv4.
fn bind(address: SocketAddr) -> Result<(), ErrorKind> {
    let bound = Socket::new(Domain::for_address(address), Type::STREAM, None).and_then(|socket| {
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())
    });
    bound.map_err(|err| err.kind())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn listeners_are_seen_and_probes_are_not() {
        for address in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0", "[::1]:0", "127.0.0.2:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("{address}: not run, this machine has no such address");
                continue;
            };
            assert_eq!(try_bind(listener.local_addr().unwrap().port()), Bind::InUse, "{address}");
        }

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(free);
        assert_eq!(try_bind(port), Bind::Free, "a connection that is left over does not listen");
        drop(connection);

        let probe = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        probe.set_reuse_address(true).unwrap();
        probe.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
        assert_eq!(try_bind(port), Bind::Free, "another probe does not listen");
        drop(probe);

        let datagrams = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        assert_eq!(try_bind(datagrams.local_addr().unwrap().port()), Bind::Free, "UDP is not ours to judge");
    }
}
