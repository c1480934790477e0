//! Who listens on this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

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
