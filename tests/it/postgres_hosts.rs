//! Which server of several answers, and the forms in which a URL names it.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::fixture::{Ran, World, not_run};
use super::postgres::world;
use super::server::SCHEMA;

/// A port that drops packets: its queue of connections is full, so that the system lets new ones wait.
struct Dropping {
    port: u16,
    _socket: Socket,
    _queue: Vec<TcpStream>,
}

impl Dropping {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
        }
        Self { port: address.port(), _socket: socket, _queue: queue }
    }
}

/// Runs a line on the world's database at these hosts, which stand before the server's own.
fn at(world: &World, hosts: &[u16], line: &str) -> (Ran, Duration) {
    let server = world.server().server().port();
    let hosts: Vec<_> = hosts.iter().chain([&server]).map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("postgresql://postgres@{}/{}", hosts.join(","), world.server().name());
    let start = Instant::now();
    let ran = Ran::of(world.command().args(line.split(' ')).env("MANAGE_PORTS_DATABASE", url));
    (ran, start.elapsed())
}

#[test]
fn a_silent_host_leaves_time_for_the_next() {
    let Some(world) = world("silent hosts") else { return };
    world.sql(SCHEMA);
    // One takes the connection and says nothing, the other does not even take it.
    let (listener, dropping) = (TcpListener::bind("127.0.0.1:0").unwrap(), Dropping::new());
    let silent = listener.local_addr().unwrap().port();
    let list = "list --format plain";
    for hosts in [&[silent][..], &[dropping.port], &[dropping.port, silent]] {
        for (timeout, longest) in [("", 25), (" --timeout 6s", 6), (" --timeout 0s", 6)] {
            let (ran, took) = at(&world, hosts, &format!("{list}{timeout}"));
            ran.ok();
            assert!(took < Duration::from_secs(longest), "{took:?} of {hosts:?} with{timeout}");
        }
    }

    // If nobody answers, the call ends with its time.
    let url = format!("postgresql://postgres@127.0.0.1:{silent},127.0.0.1:{}/d", dropping.port);
    let start = Instant::now();
    let message = world.run(["list", "--json", "--timeout", "2500ms", "--database", &url]).fails_as_json(3, "locked");
    assert!(message.contains("for the server to answer"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_silent_address_of_a_name_leaves_time_for_the_next() {
    let Some(world) = world("a name with two addresses") else { return };
    world.sql(SCHEMA);
    let port = world.server().server().port();
    let Ok(_silent) = TcpListener::bind(("127.0.0.2", port)) else {
        return not_run("a name with two addresses: 127.0.0.2 is no address of this machine");
    };
    // In a namespace of its own, the name has two addresses.
    let hosts = world.write("hosts", "127.0.0.2 two.test\n127.0.0.1 two.test\n");
    let script = "mount --bind \"$1\" /etc/hosts || exit 99; shift; exec \"$@\"";
    let url = format!("postgresql://postgres@two.test:{port}/{}", world.server().name());
    let list = world.command();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(hosts).arg(list.get_program());
    command.args(["list", "--format", "plain", "--timeout", "6s", "--database", &url]).current_dir(world.path(""));
    match command.output() {
        Ok(output) if output.status.success() => assert_eq!(Ran::from(output).ok(), ""),
        Ok(output) if output.status.code() == Some(3) => panic!("{:?}", Ran::from(output)),
        failed => not_run(&format!("a name with two addresses: {failed:?}")),
    }
}

#[test]
fn a_url_as_sqlalchemy_and_its_drivers_write_it() {
    let Some(world) = world("forms of URLs") else { return };
    let (server, name) = (world.server().server(), world.server().name());
    let port = server.port();
    let folder = server.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let [nobody] = super::fixture::free_ports();
    world.line("allocate --model m --app 1 -q").ok();
    for url in [
        format!("postgresql+asyncpg://postgres@127.0.0.1:{port}/{name}?ssl=require"),
        format!("postgresql+asyncpg://postgres@127.0.0.1:{port}/{name}?ssl=disable&prepared_statement_cache_size=0"),
        format!("postgresql+asyncpg://postgres@127.0.0.1:{port}/{name}?ssl=prefer&async_fallback=true&timeout=9.5"),
        format!("postgresql+asyncpg://postgres@/{name}?host=127.0.0.1:{nobody}&host=127.0.0.1:{port}"),
        format!("postgresql+psycopg2://postgres@/{name}?host=127.0.0.1:{port}"),
        format!("postgresql+psycopg://postgres@/{name}?host=127.0.0.1,127.0.0.1&port={nobody},{port}"),
        format!("postgresql+psycopg2://postgres@/{name}?host={folder}&port={port}"),
        format!("postgresql+pg8000://postgres@/{name}?unix_sock={folder}/.s.PGSQL.{port}"),
        format!("postgresql+psycopg2://postgres@/{name}?host={}&port={port}", folder.replace('/', "%2F")),
        format!("postgresql://postgres:un%40used@127.0.0.1:{port}/{name}?options=-c+geqo%3Doff"),
    ] {
        let ran = world.run(["list", "--format", "plain", "--database", &url]);
        assert!(ran.ok().starts_with("m\t1\t5001\t8001\t"), "{url}: {ran:?}");
    }
    for (query, part) in [("ssl=sometimes", "ssl 'sometimes'"), ("server_settings=x", "'server_settings'")] {
        let url = format!("postgresql+asyncpg://postgres@127.0.0.1:{port}/{name}?{query}");
        world.run(["list", "--database", &url]).fails(2, &[part]);
    }
}
