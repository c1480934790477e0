//! Who uses a port: processes that listen, and containers, of which a stand-in for Docker's API tells.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use super::fixture::{Ran, SCHEMA, World, free_ports, hearing_interrupts, not_run, row, send};

/// A stand-in for a server of Docker's API, which does this with every connection.
struct StandIn {
    socket: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl StandIn {
    fn new(world: &World, serve: impl Fn(UnixStream) + Send + 'static) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let socket = world.path("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for connection in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                serve(connection.unwrap());
            }
        });
        Self { socket, connections }
    }

    /// One that answers every request with these bytes and closes the connection.
    fn answering(world: &World, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(world, move |mut connection| {
            read_request(&mut connection);
            // Whoever has heard enough goes away.
            let _ = connection.write_all(&answer);
        })
    }

    /// One that accepts connections and says nothing.
    fn mute(world: &World) -> Self {
        let held = Mutex::new(Vec::new());
        Self::new(world, move |connection| held.lock().unwrap().push(connection))
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Runs the binary with this server in `DOCKER_HOST`.
    fn line(&self, world: &World, line: &str) -> Ran {
        Ran::of(world.command().args(line.split_whitespace()).env("DOCKER_HOST", self.host()))
    }
}

fn read_request(connection: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}

fn with_length(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What Docker tells of a project whose web server has published this port, and of others.
fn containers(port: u16) -> String {
    let [udp, unpublished, exited] = [1, 2, 3].map(|more| port ^ more);
    json!([
        {"Id": "0123456789abcdef", "Names": ["/shop-web-1"], "State": "running", "Created": 1767323045,
         "Labels": {"com.docker.compose.project": "shop", "other": "label"},
         "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": udp, "Type": "udp"},
            {"PrivatePort": unpublished, "Type": "tcp"},
         ]},
        {"Id": "1123456789abcdef", "Names": ["/old"], "State": "exited", "Labels": null,
         "Ports": [{"PrivatePort": 80, "PublicPort": exited, "Type": "tcp"}]},
        {"Id": "2123456789abcdef", "Names": null, "State": "running", "Labels": {}, "Ports": null},
    ])
    .to_string()
}

/// A world in which `m/app1` has a port that the container of [`containers`] has published.
fn world_of_published() -> (World, u16, u16) {
    let world = World::new();
    let [published, free] = free_ports();
    world.database(SCHEMA, &[row("m", 1, i64::from(published), i64::from(free))]);
    (world, published, free)
}

#[test]
fn a_container_that_publishes_a_port_uses_it_whatever_the_framing() {
    let by_lines = |body: &str| {
        let chunks = body.split_inclusive(',').map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
    };
    let until_closed = |body: &str| format!("HTTP/1.0 200 OK\r\n\r\n{body}");
    let framings: [&dyn Fn(&str) -> String; 3] = [&with_length, &by_lines, &until_closed];
    for framing in framings {
        let (world, published, free) = world_of_published();
        let others = [1, 2, 3].map(|more| i64::from(published ^ more));
        let docker = StandIn::answering(&world, framing(&containers(published)));
        let rows = docker.line(&world, "list --json --probe");
        let rows: Value = serde_json::from_str(rows.ok()).unwrap();
        let container =
            json!({"port": published, "pid": null, "program": null, "container": "shop-web-1", "project": "shop"});
        assert_eq!(rows[0]["listeners"], json!([container]));
        let shown = format!("{published}: container shop-web-1 (shop)");
        for line in ["list --probe", "list --probe --format csv", "list --probe --format plain"] {
            let ran = docker.line(&world, line);
            assert!(ran.ok().contains(&shown), "{ran:?}");
        }
        let check: Value = serde_json::from_str(&docker.line(&world, "check --json --probe").stdout).unwrap();
        assert_eq!(check["listeners"], json!([container]), "{check}");
        assert!(docker.line(&world, "list --json").ok().contains(&free.to_string()), "asked without need");

        // What a port is published for otherwise does not count.
        world.sql(&format!(
            "UPDATE port_configurations SET backend_port = {}, frontend_port = {}",
            others[0], others[2]
        ));
        let rows = docker.line(&world, "list --json --probe");
        let rows: Value = serde_json::from_str(rows.ok()).unwrap();
        assert_eq!(rows[0]["listeners"], json!([]));
    }
}

#[test]
fn an_orphan_whose_container_runs_is_kept_and_the_container_named() {
    let (world, published, _) = world_of_published();
    world.apps(["other/app1"]);
    let docker = StandIn::answering(&world, with_length(&containers(published)));
    let use_of_it = format!("port {published} is published by container shop-web-1 of Compose project shop");
    let cleanup = docker.line(&world, "cleanup --min-age 0s");
    assert!(cleanup.stdout.contains(&format!("kept m/app1: {use_of_it}")), "{cleanup:?}");
    let check = docker.line(&world, "check --probe");
    let gone = format!("Port {published} of m/app1, whose directory is gone, is published by container shop-web-1");
    assert!(check.stdout.contains(&gone), "{check:?}");
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn exec_and_release_warn_of_who_uses_the_ports() {
    let (world, published, free) = world_of_published();
    let docker = StandIn::answering(&world, with_length(&containers(published)));
    let listener = std::net::TcpListener::bind(("127.0.0.1", free)).unwrap();
    let pid = std::process::id();
    for (line, stdout) in [("exec m 1 -- echo started", "started\n"), ("release m 1", "✓ Released ports for m/app1\n")]
    {
        let ran = docker.line(&world, line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), stdout), "{ran:?}");
        let begin = |port| format!("warning: port {port} of m/app1 is in use: ");
        let container = begin(published) + "published by container shop-web-1 of Compose project shop";
        let process = begin(free) + "listened on by ";
        // A process that another test is about to start has this one's sockets for a moment.
        assert!(ran.stderr.lines().all(|line| line == container || line.starts_with(&process)), "{ran:?}");
        assert!(ran.stderr.contains(&container) && ran.stderr.contains(&format!(" (pid {pid})\n")), "{ran:?}");
    }
    drop(listener);
}

#[test]
fn allocate_asks_for_containers_once_and_only_where_it_is_told_to_and_has_to_choose() {
    let world = World::new();
    let [published, frontend, other_backend, other_frontend] = free_ports();
    let docker = StandIn::answering(&world, with_length(&containers(published)));
    let slot = |more: &str| {
        let max = published.max(frontend);
        let slot = format!("backend_base = {published}\nfrontend_base = {frontend}\nstep = 65535\nmax = {max}\n");
        world.write("manage-ports.toml", format!("[ports]\n{slot}{more}"));
    };
    slot("containers = true\n");
    docker.line(&world, "allocate m 1-3").fails(4, &["no free pair is left", "1 listened on"]);
    assert_eq!(docker.connections(), 1);
    let explicit = format!("allocate m 1 --backend-port {published} --frontend-port {other_frontend}");
    docker.line(&world, &explicit).fails(
        6,
        &[
            &format!("port {published} is in use: container shop-web-1 of Compose project shop publishes it"),
            "--no-probe",
        ],
    );
    docker.line(&world, &format!("{explicit} --no-probe --database no-probe.db -q")).ok();
    let explicit = format!("allocate m 1 --backend-port {other_backend} --frontend-port {other_frontend}");
    docker.line(&world, &format!("{explicit} -q")).ok();
    let asked = docker.connections();
    for line in [&explicit, "allocate m 1", "reserve m 1 --for 1h", "allocate m 1 --no-probe"] {
        docker.line(&world, line).ok();
    }
    docker.line(&world, "allocate m 2 --no-probe --database other.db -q").ok();
    slot("");
    docker.line(&world, "allocate m 2").ok();
    assert_eq!(docker.connections(), asked, "an app with a row, --no-probe and the default ask nothing");
}

/// Whether a server of Docker's API may answer on this machine beside ours; a line that says so.
fn machine_has_server(test: &str) -> bool {
    let there = ["/var/run/docker.sock", "/run/podman/podman.sock"].into_iter().find(|path| Path::new(path).exists());
    there.inspect(|socket| not_run(&format!("{test}: {socket} is there"))).is_some()
}

#[test]
fn the_first_server_that_answers_counts() {
    if machine_has_server("the_first_server_that_answers_counts") {
        return;
    }
    for (docker_host, answers) in [
        ("tcp://127.0.0.1:1", None),
        ("ssh://host", None),
        ("", None),
        ("unix:///nowhere.sock", None),
        ("unix://bad.sock", Some("HTTP/1.1 500 Oh\r\n\r\n")),
        ("unix://bad.sock", Some("HTTP/1.1 200 OK\r\n\r\n{}")),
        ("unix://bad.sock", Some("")),
    ] {
        let (world, published, _) = world_of_published();
        fs::create_dir(world.path("podman")).unwrap();
        let podman = StandIn::answering(&world, with_length(&containers(published)));
        fs::rename(&podman.socket, world.path("podman/podman.sock")).unwrap();
        let bad = answers.map(|answer| {
            let bad = if answer.is_empty() { StandIn::mute(&world) } else { StandIn::answering(&world, answer) };
            fs::rename(&bad.socket, world.path("bad.sock")).unwrap();
            bad
        });
        let mut list = world.command();
        list.args(["list", "--probe"]).env("DOCKER_HOST", docker_host).env("XDG_RUNTIME_DIR", world.path(""));
        let ran = Ran::of(&mut list);
        assert!(ran.ok().contains("container shop-web-1"), "{docker_host}: {ran:?}");
        assert_eq!(podman.connections(), 1);
        assert_eq!(bad.map_or(1, |bad| bad.connections()), 1);
    }
}

/// Checks that who is answered like this goes on without, soon, and says so with `-v`.
#[track_caller]
fn is_no_answer(serve: impl Fn(UnixStream) + Send + 'static, why: &str) {
    let (world, published, _) = world_of_published();
    let docker = StandIn::new(&world, serve);
    let start = Instant::now();
    let ran = docker.line(&world, "-v list --json --probe");
    let took = start.elapsed();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&rows[0]["backend_port"], &rows[0]["listeners"]), (&json!(published), &json!([])));
    let said = |line: &&str| line.contains("docker.sock") && line.contains(why);
    assert_eq!(ran.stderr.lines().filter(said).count(), 1, "{ran:?}");
    // Half a second, and what else this machine has to do.
    assert!(took < Duration::from_secs(20), "{took:?}");
    docker.line(&world, "list --json --probe").ok();
}

#[test]
fn a_server_that_is_mute_is_no_answer() {
    let held = Mutex::new(Vec::new());
    is_no_answer(move |connection| held.lock().unwrap().push(connection), "no answer in time");
}

#[test]
fn a_server_that_accepts_no_more_connections_is_no_answer() {
    let (world, ..) = world_of_published();
    let path = world.path("docker.sock");
    let address = SockAddr::unix(&path).unwrap();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let server = socket();
    server.bind(&address).unwrap();
    server.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let host = format!("unix://{}", path.display());
    let ran = Ran::of(world.command().args(["-v", "list", "--probe"]).env("DOCKER_HOST", host));
    assert!(ran.code == Some(0) && ran.stderr.contains("docker.sock: no answer in time"), "{ran:?}");
}

#[test]
fn a_server_that_is_slow_is_no_answer() {
    let drip = |mut connection: UnixStream| {
        let answer = format!("{}{}", with_length(&containers(1))[..17].to_owned(), "X-More: more\r\n".repeat(10_000));
        thread::spawn(move || {
            for byte in answer.bytes() {
                if connection.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
    };
    is_no_answer(drip, "no answer in time");
}

#[test]
fn a_server_that_is_never_done_is_no_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n[",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[",
        "HTTP/1.1 200 OK\r\nX: ",
    ] {
        let huge = move |mut connection: UnixStream| {
            thread::spawn(move || {
                read_request(&mut connection);
                let _ = connection.write_all(head.as_bytes());
                while connection.write_all(&[b' '; 65536]).is_ok() {}
            });
        };
        is_no_answer(huge, "longer than 16 MiB");
    }
}

#[test]
fn a_server_that_answers_nonsense_is_no_answer() {
    for (answer, why) in [
        ("".to_owned(), "ends too soon"),
        ("hello\r\n\r\n".to_owned(), "not HTTP"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n[]".to_owned(), "status 403"),
        (with_length("hello"), "no list of containers"),
        (with_length("null"), "no list of containers"),
        (with_length(r#"{"message": "page not found"}"#), "no list of containers"),
        (with_length(r#"[{"Id": 5}]"#), "no list of containers"),
        (with_length(r#"[{"Id": "a", "Ports": [{"PublicPort": "5001"}]}]"#), "no list of containers"),
        (with_length(&"[".repeat(100_000)), "no list of containers"),
        (with_length("[]").replace("Content-Length: 2", "Content-Length: 3"), "ends too soon"),
    ] {
        let serve = move |mut connection: UnixStream| {
            read_request(&mut connection);
            let _ = connection.write_all(answer.as_bytes());
        };
        is_no_answer(serve, why);
    }
}

#[test]
fn without_a_server_or_the_right_to_ask_it_there_is_no_answer() {
    let (world, ..) = world_of_published();
    let file = world.write("no-socket", "");
    let stale = world.path("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for (path, why) in [(&world.path("missing"), "No such file"), (&file, "it is no socket"), (&stale, "refused")] {
        let host = format!("unix://{}", path.display());
        let ran = Ran::of(world.command().args(["-v", "list", "--probe"]).env("DOCKER_HOST", host));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let said = |line: &str| line.contains(&path.display().to_string()) && line.contains(why);
        assert!(ran.stderr.lines().any(said), "{why}: {ran:?}");
    }

    let docker = StandIn::answering(&world, with_length("[]"));
    fs::set_permissions(&docker.socket, fs::Permissions::from_mode(0o600)).unwrap();
    let Some(ran) = world.line_as_nobody("list") else { return };
    ran.ok();
    let mut command = world.command();
    command.args(["-v", "list", "--probe"]).env("DOCKER_HOST", docker.host()).uid(65534).gid(65534);
    let ran = Ran::of(&mut command);
    assert!(ran.code == Some(0) && ran.stderr.contains("docker.sock: Permission denied"), "{ran:?}");
    assert_eq!(docker.connections(), 0);
}

#[test]
fn podman_answers_as_docker_does() {
    let (world, ..) = world_of_published();
    let socket = world.path("docker.sock");
    let url = format!("unix://{}", socket.display());
    let mut podman = Command::new("podman");
    podman
        .args(["system", "service", "--time=0", &url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut podman) = podman.spawn() else {
        not_run("podman_answers_as_docker_does: no podman");
        return;
    };
    let is_up = (0..600).any(|_| {
        thread::sleep(Duration::from_millis(100));
        UnixStream::connect(&socket).is_ok()
    });
    // Its first answer takes a while.
    let list = || Ran::of(world.command().args(["-v", "list", "--probe"]).env("DOCKER_HOST", &url));
    let answer = (0..20).map(|_| list()).find(|ran| !ran.stderr.contains("docker.sock: no answer in time"));
    podman.kill().unwrap();
    podman.wait().unwrap();
    assert!(is_up, "podman's service did not start");
    let answer = answer.unwrap();
    assert!(answer.stderr.contains("docker.sock: running containers publish 0 port(s)"), "{answer:?}");
}

#[test]
fn an_interrupt_ends_the_wait_for_an_answer() {
    let (world, ..) = world_of_published();
    let (accepted, is_waiting) = std::sync::mpsc::channel();
    let docker = StandIn::new(&world, move |connection| {
        let _ = accepted.send(connection);
    });
    // What `exec` was to start does not start.
    world.write("manage-ports.toml", "[ports]\ncontainers = true\n");
    for line in ["list --probe", "check --probe", "exec m 1 -- echo started", "allocate m 2", "reserve m 2 --for 1h"] {
        let mut command = world.command();
        command.args(line.split_whitespace());
        let mut hearing = hearing_interrupts(&command);
        hearing.env("DOCKER_HOST", docker.host()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = hearing.spawn().unwrap();
        let connection = is_waiting.recv().unwrap();
        send("INT", &child);
        Ran::from(child.wait_with_output().unwrap()).is(130, "", "error: interrupted\n");
        drop(connection);
    }
    assert_eq!(world.rows().len(), 1);
}

/// Runs a script of the shell, in which `$MP` is the binary, in a network namespace of its own; a line
/// that says so where that is not permitted. The world is open to every user.
fn in_namespace(world: &World, script: &str) -> Option<Ran> {
    let mut works = Command::new("unshare");
    if !works.args(["-n", "true"]).output().is_ok_and(|ran| ran.status.success()) {
        not_run("a network namespace: unshare(1) does not work or is not permitted");
        return None;
    }
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-ec", script]).current_dir(world.path("")).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("MP", env!("CARGO_BIN_EXE_manage-ports"));
    command.env("LISTEN", LISTEN).env("NOBODY", "setpriv --reuid 65534 --regid 65534 --clear-groups");
    Some(Ran::of(&mut command))
}

/// Python that listens on the address and port of its first argument and runs the rest. It brings the
/// loopback device up first (`netdevice(7)`: `SIOCSIFFLAGS`, `IFF_UP`).
const LISTEN: &str = "\
import fcntl, socket, struct, subprocess, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 1))
address, port = sys.argv[1].rsplit(':', 1)
listener = socket.create_server((address, int(port)), family=socket.AF_INET6 if ':' in address else socket.AF_INET)
sys.exit(subprocess.run(sys.argv[2:]).returncode)";

const RESERVE_LOW: &str = "echo 6000 > /proc/sys/net/ipv4/ip_unprivileged_port_start;";

#[test]
fn a_port_that_this_user_may_not_bind_to_is_passed_over() {
    for listen in ["", "python3 -c \"$LISTEN\" 0.0.0.0:5001", "python3 -c \"$LISTEN\" 127.0.0.2:6001"] {
        let world = World::new();
        let script = format!("{RESERVE_LOW} {listen} $NOBODY $MP allocate m 1-2 --format plain -q");
        let Some(ran) = in_namespace(&world, &script) else { return };
        let expected = if listen.ends_with("6001") { "6003 9003\n6005 9005\n" } else { "6001 9001\n6003 9003\n" };
        assert_eq!(ran.ok(), expected, "{listen}");
        // Everybody else gets what the table has free, and what was given stays.
        let ran = in_namespace(&world, &format!("{RESERVE_LOW} $MP allocate m 1-3 --format plain -q")).unwrap();
        assert_eq!(ran.ok(), format!("{expected}5001 8001\n"));
    }
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nmax = 8999\n");
    let ran = in_namespace(&world, &format!("{RESERVE_LOW} $NOBODY $MP allocate m 1")).unwrap();
    ran.fails(4, &["this user may listen on hardly any of the ports", "256 not permitted to this user", "--no-probe"]);
    let ran = in_namespace(&world, &format!("{RESERVE_LOW} $NOBODY $MP allocate m 1 --no-probe -q")).unwrap();
    assert_eq!(ran.ok(), "m/app1: backend 5001, frontend 8001\n");
}

#[test]
fn a_pair_that_was_named_is_refused_for_a_listener_and_not_for_lack_of_rights() {
    for (flags, listens_on) in [
        ("", 80),
        ("", 0),
        ("--backend-port 80 --frontend-port 7001", 80),
        ("--backend-port 80 --frontend-port 7001", 0),
    ] {
        let world = World::new();
        world.write("manage-ports.toml", "preconfigured = 'plan.json'\n");
        world.write("plan.json", r#"[{"model": "m", "app_num": 1, "backend_port": 80, "frontend_port": 7001}]"#);
        let listen = if listens_on == 0 { "" } else { "python3 -c \"$LISTEN\" 127.0.0.1:80" };
        let script = format!("{RESERVE_LOW} {listen} $NOBODY $MP allocate m 1 {flags}");
        let Some(ran) = in_namespace(&world, &script) else { return };
        match (flags, listens_on) {
            (_, 0) => {
                assert_eq!(ran.stdout, "m/app1: backend 80, frontend 7001\n", "{ran:?}");
                assert!(ran.stderr.contains("warning: this user may not listen on port 80 of m/app1\n"), "{ran:?}");
            }
            ("", _) => {
                assert_eq!(ran.stdout, "m/app1: backend 6001, frontend 9001\n", "{ran:?}");
                assert!(ran.stderr.contains("the preconfigured ports 80 and 7001 of m/app1 are not free"), "{ran:?}");
            }
            _ => ran.fails(6, &["port 80 is in use: a process that cannot be seen from here listens on it"]),
        }
    }
}

#[test]
fn list_and_cleanup_see_the_listeners_that_allocate_passes_over() {
    for address in ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"] {
        let world = World::new();
        world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
        world.apps(["other/app1"]);
        let all = "$NOBODY $MP list --probe --json; $MP cleanup --json --min-age 0s -q; \
                   $NOBODY $MP allocate n 1 --format plain -q --database new.db";
        let script = format!("python3 -c \"$LISTEN\" {address}:5001 sh -ec '{all}'");
        let Some(ran) = in_namespace(&world, &script) else { return };
        let [list, cleanup, allocate] = ran.ok().lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
        assert!(list.contains(r#""listeners":[{"port":5001,"pid":null"#), "{address}: {list}");
        assert!(cleanup.contains(r#""kept":[{"model":"m","app_num":1,"reason":"listening"}]"#), "{address}: {cleanup}");
        assert_eq!(allocate, "5003 8003", "{address}");
    }
}

#[test]
fn cleanup_notes_once_that_listeners_elsewhere_are_hidden_unless_containers_tell() {
    if machine_has_server("cleanup_notes_once_that_listeners_elsewhere_are_hidden_unless_containers_tell") {
        return;
    }
    let (world, published, _) = world_of_published();
    world.apps(["other/app1"]);
    let docker = StandIn::answering(&world, with_length(&containers(published)));
    let notes = |script: &str| {
        let ran = in_namespace(&world, script)?;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let note = |line: &&str| line.contains("no container API answered") && line.contains("cannot be seen");
        Some((ran.stdout.clone(), ran.stderr.lines().filter(note).count()))
    };
    let cleanup = "$MP cleanup --dry-run --min-age 0s";
    let Some((without, count)) = notes(cleanup) else { return };
    assert_eq!((count, without.contains("Would remove 1 orphaned allocation(s)")), (1, true), "{without}");
    let (with, count) = notes(&format!("DOCKER_HOST={} {cleanup}", docker.host())).unwrap();
    assert_eq!((count, with.contains("kept m/app1: port")), (0, true), "{with}");
    world.apps(["m/app1"]);
    assert_eq!(notes(cleanup).unwrap().1, 0, "nothing is to be removed");
}

#[test]
fn a_reserved_port_is_not_called_ephemeral() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
    let ephemeral = |reserved: &str| {
        let script = format!(
            "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range; \
             echo {reserved} > /proc/sys/net/ipv4/ip_local_reserved_ports; $MP check --json"
        );
        let report: Value = serde_json::from_str(&in_namespace(&world, &script)?.stdout).unwrap();
        let found = report["warnings"].as_array().unwrap().iter().filter(|found| found["kind"] == "ephemeral_port");
        let ports = found.flat_map(|found| found["ports"].as_array().unwrap().clone());
        Some(ports.map(|port| port.as_i64().unwrap()).collect::<Vec<_>>())
    };
    let Some(mut without) = ephemeral("''") else { return };
    without.sort();
    assert_eq!(without, [5001, 5003, 8001, 8003]);
    assert_eq!(ephemeral("5001-5003,8001").unwrap(), [8003]);
    assert_eq!(ephemeral("5000-9000").unwrap(), [0_i64; 0]);
}

/// Runs the binary under strace with what is to be injected; a line that says so without it.
fn injected(world: &World, injection: &str, line: &str) -> Option<(Ran, String)> {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run(&format!("{line}: no strace"));
        return None;
    }
    let log = world.path("strace.log");
    let mut traced = Command::new("strace");
    traced.current_dir(world.path("")).env_clear().args(["-f", "-qq", "-e", "trace=bind", "-o"]).arg(&log);
    traced.args(["-e", injection]).arg(env!("CARGO_BIN_EXE_manage-ports")).args(line.split_whitespace());
    let ran = Ran::of(&mut traced);
    Some((ran, fs::read_to_string(log).unwrap()))
}

#[test]
fn a_system_that_refuses_nearly_every_bind_is_told_as_such_and_soon() {
    let world = World::new();
    let refuse_all = "inject=bind:error=EADDRINUSE";
    for (limits, slots) in
        [("", "256 refused"), ("[ports]\nmax = 8009\n", "5 refused"), ("[ports]\nmax = 8001\n", "1 refused")]
    {
        world.write("manage-ports.toml", limits);
        for line in ["allocate m 1", "allocate m 1-40", "reserve m 1 --for 1h"] {
            let Some((ran, binds)) = injected(&world, refuse_all, line) else { return };
            ran.fails(4, &["the system refuses nearly every port although nothing listens on it", slots, "--no-probe"]);
            assert!(!ran.stderr.contains("`manage-ports cleanup`"), "{ran:?}");
            assert!(binds.lines().count() < 1000, "{} binds", binds.lines().count());
        }
        assert!(!world.path("data").exists());
    }
    world.write("manage-ports.toml", "");
    let (ran, _) = injected(&world, refuse_all, "allocate m 1 --backend-port 7001 --frontend-port 7003").unwrap();
    ran.fails(6, &["refuses to let anyone listen on port 7001, although nothing is seen to use it", "--no-probe"]);
    let (ran, binds) = injected(&world, refuse_all, "allocate m 1 --no-probe -q").unwrap();
    assert_eq!((ran.ok(), binds.as_str()), ("m/app1: backend 5001, frontend 8001\n", ""));

    // As a sandbox does that lets nobody bind.
    let (ran, _) = injected(&world, "inject=bind:error=EPERM", "allocate m 2").unwrap();
    ran.fails(4, &["this user may listen on hardly any of the ports", "--no-probe"]);
}

#[test]
fn the_names_of_a_container_are_cut_however_long_they_are() {
    let world = World::new();
    let ports: Vec<_> = (1..=60_000).map(|port| json!({"PublicPort": port, "Type": "tcp"})).collect();
    let long = "x".repeat(1 << 20);
    let labels = json!({"com.docker.compose.project": &long});
    let body = json!([{"Id": "1", "Names": [&long], "State": "running", "Labels": labels, "Ports": ports}]);
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    let server = StandIn::answering(&world, with_length(&body.to_string()));
    let found: Value = serde_json::from_str(server.line(&world, "list --probe --json").ok()).unwrap();
    for key in ["container", "project"] {
        assert_eq!(found[0]["listeners"][0][key].as_str().map(str::len), Some(200), "{key}");
    }
}
