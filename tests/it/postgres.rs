//! Many machines: storms, faults and secrets on a real PostgreSQL server.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Ran, Row, World, answered, interrupt, platform_rows, row, shared};
use super::platform::python_with_packages;
use super::server::{SCHEMA, Server};
use super::storm::{CONFIG, assert_distinct, finish, is_created, lowest_slots, two_ports_in_either_role};

/// A world with an empty database of the shared server, and a line that says so where there is none.
pub fn world(what: &str) -> Option<World> {
    let world = World::on(Server::shared(what)?);
    world.write("manage-ports.toml", CONFIG);
    Some(world)
}

/// What each process answered, all of which must have created their row.
fn created(children: Vec<std::process::Child>) -> BTreeSet<Row> {
    let answer = |child| {
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(is_created(&ran.stdout), "{ran:?}");
        answered(&ran.stdout)
    };
    children.into_iter().map(answer).collect()
}

/// Waits for what another process is about to do, and fails if it does not.
#[track_caller]
pub fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}

fn sorted(rows: Vec<Row>) -> BTreeSet<Row> {
    assert_distinct(&rows);
    rows.into_iter().collect()
}

#[test]
fn a_hundred_at_once_make_one_table_and_each_gets_a_pair_of_its_own() {
    // One more than the server has connections for, whatever else uses it now.
    let Some(world) = world("a storm on an empty database") else { return };
    let children: Vec<_> = (1..=101).map(|n| world.start(&format!("allocate --model m --app {n} --json"))).collect();
    let mut answers = BTreeSet::new();
    let mut talk = String::new();
    for child in children {
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        answers.insert(answered(&ran.stdout));
        talk.push_str(&ran.stderr);
    }
    let notice = format!("Created table port_configurations in {}", world.server().url());
    assert_eq!(talk, format!("{}\n", json!({"notice": {"message": notice}})));
    let rows = world.rows();
    let pairs: BTreeSet<_> = rows.iter().map(|(.., backend, frontend)| (*backend, *frontend)).collect();
    assert_eq!(pairs, lowest_slots(101), "the lowest slots, without a gap");
    assert_eq!(answers, sorted(rows));
}

#[test]
fn forty_for_one_app_get_one_row() {
    let Some(world) = world("forty processes for one app") else { return };
    world.sql(SCHEMA);
    let children: Vec<_> = (0..40).map(|_| world.start("allocate --model m --app 7 --json")).collect();
    let mut made = 0;
    for child in children {
        let ran = finish(child);
        assert_eq!(answered(ran.ok()), row("m", 7, 5001, 8001));
        made += usize::from(is_created(ran.ok()));
    }
    assert_eq!(made, 1, "one process made the row");
    assert_eq!(world.rows(), [row("m", 7, 5001, 8001)]);
}

#[test]
fn of_forty_who_ask_for_two_ports_in_either_role_one_gets_them() {
    let Some(world) = world("forty processes for two ports") else { return };
    world.sql(SCHEMA);
    two_ports_in_either_role(&world);
}

#[test]
fn the_table_is_the_platforms_to_the_letter() {
    let Some(world) = world("the schema") else { return };
    world.line("allocate --model m --app 1").is(
        0,
        "m/app1: backend 5001, frontend 8001\n",
        &format!("Created table port_configurations in {}\n", world.server().url()),
    );
    let theirs = World::on(world.server().server());
    theirs.sql(SCHEMA);
    let definition = |world: &World| {
        // A dump begins and ends with a key that is drawn anew.
        let dump = world.server().dump();
        dump.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(definition(&world), definition(&theirs));
    if let Some(folder) = shared("the comparison of the schemas for PostgreSQL") {
        assert_eq!(fs::read_to_string(folder.join("data/schema-postgres.sql")).unwrap(), SCHEMA);
    }
}

/// What the platform does, with its own libraries: read all, choose, insert, and choose anew where a
/// pair was taken meanwhile. Before that, it reads back all rows.
const PLATFORM: &str = r#"
import sys
from datetime import datetime, timezone
from sqlalchemy import Boolean, Column, DateTime, Integer, String, Text, UniqueConstraint, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, declarative_base
class Port(declarative_base()):
    __tablename__ = "port_configurations"
    id = Column(Integer, primary_key=True)
    model = Column(String(200), nullable=False, index=True)
    app_num = Column(Integer, nullable=False, index=True)
    frontend_port = Column(Integer, nullable=False, unique=True, index=True)
    backend_port = Column(Integer, nullable=False, unique=True, index=True)
    is_available = Column(Boolean, default=True, index=True)
    metadata_json = Column(Text)
    created_at = Column(DateTime(timezone=True))
    updated_at = Column(DateTime(timezone=True))
url, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Session(create_engine(url)) as session:
    for row in session.query(Port).filter(Port.model == "ours").order_by(Port.id):
        print(row.model, row.app_num, row.backend_port, row.frontend_port, row.is_available, row.metadata_json,
              row.created_at.astimezone(timezone.utc).isoformat(timespec="microseconds"), row.updated_at == row.created_at)
    for app_num in range(1, count + 1):
        while True:
            used = {port for row in session.query(Port).all() for port in (row.backend_port, row.frontend_port)}
            backend, frontend = 5001, 8001
            while backend in used or frontend in used:
                backend, frontend = backend + 2, frontend + 2
            now = datetime.now(timezone.utc)
            session.add(Port(model=model, app_num=app_num, backend_port=backend, frontend_port=frontend,
                             is_available=True, created_at=now, updated_at=now))
            try:
                session.commit()
                break
            except IntegrityError:
                session.rollback()
        print(model, app_num, backend, frontend)
"#;

#[test]
fn forty_beside_the_platform_and_neither_fails() {
    let Some(world) = world("a storm beside the platform") else { return };
    let Some(python) = python_with_packages() else { return };
    world.sql(SCHEMA);
    let url = world.server().url().replace("postgresql://", "postgresql+psycopg2://");
    let run = |model: &str, count: u32| {
        let mut command = Command::new(&python);
        command.args(["-c", PLATFORM, &url, model, &count.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let platform: Vec<_> = (0..4).map(|n| run(&format!("platform{n}"), 10)).collect();
    let ours: Vec<_> = (1..=40).map(|n| world.start(&format!("allocate --model m --app {n} --json"))).collect();
    let mut answers = created(ours);
    for child in platform {
        for line in finish(child).ok().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse().unwrap();
            answers.insert(row(words[0], number(1), number(2), number(3)));
        }
    }
    assert_eq!(answers.len(), 80);
    assert_eq!(answers, sorted(world.rows()));

    // And the platform reads what we wrote.
    let ran = world.line("reserve --model ours --app 1 --for 1h --json");
    let made: Value = serde_json::from_str(ran.ok()).unwrap();
    let moment = |key: &str| made[key].as_str().unwrap().strip_suffix('Z').unwrap().to_owned();
    let expected = format!(
        "ours 1 {} {} True {{\"reserved_until\":\"{}Z\"}} {}+00:00 True\n",
        made["backend_port"],
        made["frontend_port"],
        moment("reserved_until"),
        moment("created_at")
    );
    assert_eq!(finish(run("nobody", 0)).ok(), expected);
}

#[test]
fn sixty_callers_outlive_a_crash_of_the_server() {
    let Some(server) = Server::start() else { return super::fixture::not_run("a crash: no PostgreSQL server") };
    let server: &'static Server = Box::leak(Box::new(server));
    let world = World::on(server);
    world.write("manage-ports.toml", CONFIG);
    world.sql(SCHEMA);

    // Callers that wait for the lock when their server dies try again on the next one.
    let lock = world.server().session("BEGIN; LOCK TABLE port_configurations IN SHARE ROW EXCLUSIVE MODE");
    let children: Vec<_> =
        (1..=30).map(|n| world.start(&format!("allocate --model waiting --app {n} --json"))).collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'";
    wait_until(|| world.server().sql(waiting) == "30\n");
    server.crash();
    let answers = created(children);
    drop(lock);
    assert_eq!(answers, sorted(world.rows()));

    // Callers in the midst of everything: what was answered is there, what was not has failed.
    let mut children = Vec::new();
    for n in 1..=60 {
        children.push(world.start(&format!("allocate --model at_once --app {n} --json")));
    }
    let mut answers = answers;
    let mut first = children.remove(0);
    first.wait().unwrap();
    children.push(first);
    server.crash();
    let mut failed = 0;
    for child in children {
        let ran = finish(child);
        match ran.code {
            Some(0) => assert!(answers.insert(answered(&ran.stdout)), "{ran:?}"),
            Some(3) => failed += 1,
            _ => panic!("{ran:?}"),
        }
    }
    let rows = sorted(world.rows());
    assert!(answers.is_subset(&rows), "answered and lost: {:?}", answers.difference(&rows));
    assert!(rows.len() <= answers.len() + failed);
}

/// What becomes of a commit in [`proxy`].
#[derive(Clone, Copy, PartialEq)]
enum Commit {
    /// It reaches the server, and its confirmation nobody.
    Unconfirmed,
    /// It does not reach the server.
    Lost,
    /// It reaches the server when the caller's connection has ended for a while.
    Late,
}

/// Passes everything on to the server but the first commit after the table was locked, with which the connection
/// ends; from then on everything. Returns the port on which to connect, and whether it came to that.
fn proxy(server: &'static Server, commit: Commit) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let happened = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&happened);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut upstream) =
                (client.unwrap(), TcpStream::connect(("127.0.0.1", server.port())).unwrap());
            let (mut answers, mut to_client) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let confirmed = Arc::new(AtomicBool::new(false));
            let (seen, withheld) = (Arc::clone(&seen), Arc::clone(&confirmed));
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = answers.read(&mut buffer) {
                    if withheld.load(Ordering::SeqCst) {
                        // The server has confirmed: now the connection ends.
                        let _ = to_client.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                    if to_client.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                let mut has_locked = false;
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    let text = &buffer[..count];
                    let commits = has_locked && text.windows(7).any(|word| word == b"COMMIT\0");
                    has_locked |= text.windows(10).any(|word| word == b"LOCK TABLE");
                    if commits && !seen.swap(true, Ordering::SeqCst) {
                        if commit == Commit::Lost {
                            let _ = client.shutdown(std::net::Shutdown::Both);
                            break;
                        }
                        if commit == Commit::Late {
                            let _ = client.shutdown(std::net::Shutdown::Both);
                            thread::sleep(Duration::from_millis(500));
                            let _ = upstream.write_all(text);
                            break;
                        }
                        confirmed.store(true, Ordering::SeqCst);
                    }
                    if upstream.write_all(text).is_err() {
                        return;
                    }
                }
                let _ = upstream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (port, happened)
}

#[test]
fn a_commit_whose_confirmation_is_lost_is_looked_up() {
    let Some(world) = world("a lost confirmation") else { return };
    world.sql(SCHEMA);
    for (n, commit) in [(1, Commit::Unconfirmed), (2, Commit::Lost), (3, Commit::Late)] {
        let through = |line: &str| {
            let (port, happened) = proxy(world.server().server(), commit);
            let mut command = world.command();
            command.env("MANAGE_PORTS_DATABASE", world.server().url_through(port)).args(line.split(' '));
            let ran = Ran::of(&mut command);
            assert!(happened.load(Ordering::SeqCst), "{line} did not commit");
            ran
        };
        let ran = through(&format!("allocate --model m --app {n} --json"));
        assert!(is_created(ran.ok()), "it was this call that made the row: {ran:?}");
        assert_eq!(answered(ran.ok()), *world.rows().last().unwrap());
        assert_eq!(world.rows().len(), 1);
        let reserved = through(&format!("reserve --model m --app {n} --for 1h --json"));
        assert!(!is_created(reserved.ok()), "{reserved:?}");
        assert_eq!(world.line("list --state reserved --format plain").ok().lines().count(), 1);
        through(&format!("release m {n}")).is(0, &format!("✓ Released ports for m/app{n}\n"), "");
        assert_eq!(world.rows(), []);
    }
}

#[test]
fn a_commit_that_makes_the_table_is_looked_up_once_it_is_over() {
    let Some(world) = world("a late commit of a new table") else { return };
    for commit in [Commit::Unconfirmed, Commit::Lost, Commit::Late] {
        let (port, happened) = proxy(world.server().server(), commit);
        let mut command = world.command();
        command.env("MANAGE_PORTS_DATABASE", world.server().url_through(port));
        let ran = Ran::of(command.args("allocate --model m --app 1 --json -q".split(' ')));
        assert!(happened.load(Ordering::SeqCst));
        assert!(is_created(ran.ok()), "it was this call that made the row: {ran:?}");
        assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
        world.sql("DROP TABLE port_configurations");
    }
}

#[test]
fn a_migration_whose_confirmation_is_lost_is_looked_up() {
    let Some(world) = world("a migration without a confirmation") else { return };
    world.sql(SCHEMA);
    for commit in [Commit::Unconfirmed, Commit::Lost] {
        world.sql("DROP INDEX ix_port_configurations_backend_port");
        let (port, happened) = proxy(world.server().server(), commit);
        let mut command = world.command();
        command.env("MANAGE_PORTS_DATABASE", world.server().url_through(port)).args(["migrate", "--json"]);
        let ran = Ran::of(&mut command);
        assert!(happened.load(Ordering::SeqCst), "it did not commit");
        let done: Value = serde_json::from_str(ran.ok()).unwrap();
        assert_eq!(done["added"][0]["name"], "ix_port_configurations_backend_port", "{ran:?}");
        assert!(world.line("migrate").ok().starts_with("✓ Nothing to migrate"));
    }
}

#[test]
fn a_wait_for_the_lock_ends_with_the_timeout() {
    let Some(world) = world("a wait for a lock") else { return };
    world.sql(SCHEMA);
    world.sql(
        "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES ('m', 1, 5001, 8001)",
    );
    let _lock = world.server().session("BEGIN; INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES ('m', 2, 5003, 8003)");
    let start = Instant::now();
    let message = world.line("allocate --model m --app 3 --timeout 300ms --json").fails_as_json(3, "locked");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(message.contains(" s for other writers to finish: process "), "{message}");
    world.line("release m 1 --timeout 0s").fails(3, &["is still busy", "hint:"]);
    // What only reads does not wait, and neither does an answer about a row that is there.
    assert_eq!(world.line("list --timeout 0s --format plain").ok().lines().count(), 1);
    world.line("allocate --model m --app 1 --timeout 0s --format plain").is(0, "5001 8001\n", "");
}

/// Passes a connection on to the server.
pub fn pass_on(mut client: TcpStream, server: &Server) {
    let mut upstream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let (mut answers, mut to_client) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || io::copy(&mut answers, &mut to_client));
    thread::spawn(move || io::copy(&mut client, &mut upstream));
}

/// A port that passes connections on, and tells of each request to stop whether its sender waits until
/// it was seen to.
fn watcher(server: &'static Server) -> (u16, Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut first = [0; 16];
            while (1..8).contains(&client.peek(&mut first).unwrap()) {}
            // The code of such a request, after its length.
            if first[4..8] != 80_877_102_u32.to_be_bytes() {
                pass_on(client, server);
                continue;
            }
            client.read_exact(&mut first).unwrap();
            client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            tell.send(client.read(&mut [0]).is_err()).unwrap();
            TcpStream::connect(("127.0.0.1", server.port())).unwrap().write_all(&first).unwrap();
        }
    });
    (port, told)
}

#[test]
fn ctrl_c_ends_the_wait_on_both_sides() {
    let Some(world) = world("Ctrl-C") else { return };
    world.sql(SCHEMA);
    let lock = world.server().session("BEGIN; LOCK TABLE port_configurations IN SHARE ROW EXCLUSIVE MODE");
    let (port, waits) = watcher(world.server().server());
    let url = world.server().url_through(port);
    let child = world.start(&format!("allocate --model m --app 1 --json --database {url}"));
    let waiting = |mode| {
        world.server().sql(&format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = '{mode}' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"))
    };
    wait_until(|| waiting("ShareRowExclusiveLock") == "1\n");
    interrupt(&child);
    assert_eq!(finish(child).fails_as_json(130, "interrupted"), "interrupted");
    wait_until(|| waiting("ShareRowExclusiveLock") == "0\n");
    assert!(waits.recv().unwrap(), "it did not wait until the request was seen to");
    drop(lock);
    assert_eq!(world.rows(), []);
}

#[test]
fn an_answer_outlives_a_crash_even_where_the_server_need_not_wait() {
    let Some(server) = Server::start() else { return super::fixture::not_run("a crash: no PostgreSQL server") };
    let world = World::on(Box::leak(Box::new(server)));
    world.write("manage-ports.toml", CONFIG);
    world.sql(SCHEMA);
    world.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", world.server().name()));
    world.line("allocate --model ours --app 1 --format plain").is(0, "5001 8001\n", "");
    world.server().server().crash();
    assert_eq!(world.rows(), [row("ours", 1, 5001, 8001)]);

    world.sql(&format!("ALTER DATABASE {} RESET synchronous_commit", world.server().name()));
    let columns = "(model, app_num, backend_port, frontend_port)";
    world.sql(&format!(
        "SET synchronous_commit = off; INSERT INTO port_configurations {columns} VALUES ('theirs', 1, 5003, 8003)"
    ));
    world.line("allocate --model theirs --app 1 --format plain").is(0, "5003 8003\n", "");
    world.server().server().crash();
    assert_eq!(world.rows(), [row("ours", 1, 5001, 8001), row("theirs", 1, 5003, 8003)]);
}

#[test]
fn a_table_that_does_not_take_what_is_written_is_an_error() {
    let Some(world) = world("triggers") else { return };
    world.sql(SCHEMA);
    world.line("allocate --model m --app 1-2").ok();
    let before = world.rows();
    world.sql(
        "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER stays BEFORE INSERT OR UPDATE OR DELETE ON port_configurations
          FOR EACH ROW EXECUTE FUNCTION stays()",
    );
    world.apps([""]);
    for line in [
        "allocate --model new --app 1",
        "allocate --model new --app 1-2",
        "reserve --model m --app 1 --for 1h",
        "release m 1",
        "cleanup -q --allow-empty --min-age 0s",
    ] {
        world.line(line).fails(3, &["did not take what was written"]);
        assert_eq!(world.rows(), before, "{line}");
    }
    world.sql(
        "DROP TRIGGER stays ON port_configurations;
         CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN NEW.backend_port := NEW.backend_port + 100; RETURN NEW; END';
         CREATE TRIGGER moves BEFORE INSERT ON port_configurations FOR EACH ROW EXECUTE FUNCTION moves()",
    );
    for app in ["1", "1-2"] {
        world.line(&format!("allocate --model new --app {app}")).fails(3, &["did not take what was written"]);
        assert_eq!(world.rows(), before, "{app}");
    }
}

#[test]
fn a_model_that_is_padded_is_found_again() {
    let Some(world) = world("a padded model") else { return };
    world.sql(&SCHEMA.replace("VARCHAR(200)", "CHAR(20)"));
    for created in ["", " (existing)"] {
        world.line("allocate --model m --app 1").is(0, &format!("m/app1: backend 5001, frontend 8001{created}\n"), "");
    }
    world.line("allocate --model m --app 1-2 --format plain").is(0, "5001 8001\n5003 8003\n", "");
    world.line("release m 1").ok();
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn what_is_not_text_to_a_server_without_encodings_is_listed_and_released() {
    let Some(world) = world("bytes that are no text") else { return };
    let name = format!("{}_bytes", world.server().name());
    world.sql(&format!("CREATE DATABASE {name} ENCODING SQL_ASCII TEMPLATE template0"));
    let url = format!("postgresql://postgres@127.0.0.1:{}/{name}", world.server().server().port());
    world.line(&format!("allocate --model ok --app 1 -q --database {url}")).ok();
    let columns = "(model, app_num, backend_port, frontend_port)";
    let sql = format!(r"INSERT INTO port_configurations {columns} VALUES (E'caf\xe9', 1, 5003, 8003)");
    world.server().sql_in(&name, &sql);
    let list = world.line(&format!("list --format plain --database {url}"));
    assert!(list.ok().starts_with("caf\u{fffd}\t1\t5003\t"), "{list:?}");
    for model in ["caf\u{fffd}", "ok"] {
        world.line(&format!("release {model} 1 --database {url}")).ok();
    }
}

#[test]
fn an_answer_about_a_row_that_is_there_waits_for_the_standby_too() {
    let Some(server) = Server::start() else { return super::fixture::not_run("a standby: no PostgreSQL server") };
    let world = World::on(Box::leak(Box::new(server)));
    world.write("manage-ports.toml", CONFIG);
    world.sql(SCHEMA);
    let set_standby = |how: &str, name: &str| {
        world.sql(&format!("ALTER SYSTEM {how}"));
        world.sql("SELECT pg_reload_conf()");
        wait_until(|| world.server().sql("SHOW synchronous_standby_names") == format!("{name}\n"));
    };
    set_standby("SET synchronous_standby_names = nobody", "nobody");
    // The first is told that nothing is known; the row can be seen, and the standby does not have it.
    for what in ["the server to confirm what was written", "the disk of the server and of its standby"] {
        world.line("allocate --model m --app 1 --timeout 500ms").fails(3, &["still busy", what, "tried 1 time\n"]);
        assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
    }
    let alter = |how: &str| {
        world.sql(&format!("SET synchronous_commit = local; ALTER DATABASE {} {how}", world.server().name()));
    };
    alter("SET synchronous_commit = local");
    world.line("allocate --model m --app 1 --format plain").is(0, "5001 8001\n", "");
    alter("RESET synchronous_commit");
    set_standby("RESET synchronous_standby_names", "");
    world.line("allocate --model m --app 1 --format plain").is(0, "5001 8001\n", "");
}

#[test]
fn rows_of_others_may_lack_what_they_need() {
    let Some(world) = world("rows of others") else { return };
    world.sql(SCHEMA);
    world.sql(
        "ALTER TABLE port_configurations ALTER model DROP NOT NULL, ALTER frontend_port DROP NOT NULL,
          ALTER app_num TYPE bigint, ALTER created_at TYPE timestamp;
         INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, created_at)
          VALUES (NULL, 1, -5, NULL, 'infinity'), ('m', 8589934592, 5001, 8001, '2026-01-02 03:04:05.678901')",
    );
    let list = world.line("list --format csv");
    let lines: Vec<_> = list.ok().lines().collect();
    assert!(lines[1].starts_with(",1,-5,0,") && lines[2].starts_with("m,8589934592,5001,8001,"), "{list:?}");
    assert!(lines[2].contains("2026-01-02T03:04:05.678901Z"), "{list:?}");
    world.sql(&format!("ALTER DATABASE {} SET timezone = 'America/New_York'", world.server().name()));
    let allocated: Value = serde_json::from_str(world.line("allocate --model m --app 1 --json").ok()).unwrap();
    let rows: Value = serde_json::from_str(world.line("list --model m --json").ok()).unwrap();
    assert_eq!(rows[0]["created_at"], allocated["created_at"], "{rows}");
    world.apps([""]);
    world.line("cleanup -q --json --allow-empty --min-age 0s").ok();
    // Whose age cannot be told is kept.
    assert_eq!(world.server().sql("SELECT created_at FROM port_configurations"), "infinity\n");
}

/// A port on which a pooler turns two connections away, with these words, and passes on all later ones.
fn pooler(server: &'static Server, words: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fields = format!("SFATAL\0VFATAL\0C08P01\0M{words}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap();
    let refusal = [b"E", length.to_be_bytes().as_slice(), fields.as_bytes()].concat();
    thread::spawn(move || {
        for (nth, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            if nth < 2 {
                assert!(client.read(&mut [0; 4096]).unwrap() > 0);
                client.write_all(&refusal).unwrap();
                continue;
            }
            pass_on(client, server);
        }
    });
    port
}

#[test]
fn a_pooler_that_has_no_room_is_waited_for() {
    let Some(world) = world("a pooler") else { return };
    let server = world.server();
    let allocate = |words: &str| {
        let url = server.url_through(pooler(server.server(), words));
        world.run(["allocate", "--model", "m", "--app", "1", "--format", "plain", "-q", "--database", &url])
    };
    for words in ["no more connections allowed (max_client_conn)", "try again later (server_login_retry)"] {
        allocate(words).is(0, "5001 8001\n", "");
    }
    let refused = allocate("unsupported startup parameter: options");
    refused.fails(3, &["unsupported startup parameter"]);
    assert!(!refused.stderr.contains("hint:"), "{refused:?}");
}

#[test]
fn of_several_hosts_the_one_that_answers_is_taken() {
    let Some(world) = world("several hosts") else { return };
    world.sql(SCHEMA);
    let (silent, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), world.server().server().port());
    let [nobody] = super::fixture::free_ports();
    let silent = silent.local_addr().map(|address| (address.port(), silent)).unwrap();
    // The second is no name that there could be.
    let hosts = format!("127.0.0.1:{nobody},a..b:1,127.0.0.1:{},localhost:{port}", silent.0);
    let url = format!("postgresql://postgres@{hosts}/{}", world.server().name());
    let allocate = ["allocate", "--model", "m", "--app", "1", "--format", "plain", "--database"];
    let run = |query: &str| world.run(allocate.into_iter().map(str::to_owned).chain([format!("{url}?{query}")]));
    run("connect_timeout=1").is(0, "5001 8001\n", "");
    run("connect_timeout=1&target_session_attrs=read-write").is(0, "5001 8001\n", "");
    let address = format!("postgresql://postgres@/{}?hostaddr=127.0.0.1&port={port}", world.server().name());
    assert_eq!(world.run(["list", "--format", "plain", "--database", &address]).ok().lines().count(), 1);
}

/// The least that a role needs, as docs/postgresql.md has it.
const LEAST: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON port_configurations TO secret;
                     GRANT USAGE ON SEQUENCE port_configurations_id_seq TO secret";

#[test]
fn a_password_comes_from_wherever_libpq_takes_it_and_goes_nowhere() {
    let Some(world) = world("passwords") else { return };
    world.sql(SCHEMA);
    world.sql(LEAST);
    let allocate = |url: String, environment: &[(&str, &str)]| {
        let mut command = world.command();
        command.args(["allocate", "--model", "m", "--app", "1", "-vv"]).env("MANAGE_PORTS_DATABASE", url);
        let ran = Ran::of(command.envs(environment.iter().copied()));
        assert!(!format!("{ran:?}").contains("hunter"), "{ran:?}");
        ran
    };
    let url = |role: &str| world.server().url_of(role);
    assert_eq!(allocate(url("secret:hunter2"), &[]).code, Some(0));
    assert_eq!(allocate(url("secret"), &[("PGPASSWORD", "hunter2")]).code, Some(0));
    assert_eq!(allocate(format!("{}?password=hunter2", url("secret")), &[]).code, Some(0));
    let home = world.write("home/.pgpass", "127.0.0.1:*:*:secret:hunter2\n");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o600)).unwrap();
    let folder = home.parent().unwrap().to_str().unwrap();
    assert_eq!(allocate(url("secret"), &[("HOME", folder)]).code, Some(0));
    assert_eq!(allocate(url("secret"), &[("PGPASSFILE", home.to_str().unwrap())]).code, Some(0));

    allocate(url("secret:hunter3"), &[]).fails(3, &["refuses the connection", "PGPASSWORD"]);
    allocate(url("secret"), &[("HOME", "/nowhere")]).fails(3, &["password", "PGPASSWORD"]);
    allocate(url("secret:hunter/2"), &[]).fails(2, &["MANAGE_PORTS_DATABASE", "%2F"]);
    let leaking = world.run(["list", "--database", "postgresql://secret:hun?ter@127.0.0.1/d"]);
    leaking.fails(2, &["--database", "%3F"]);
    assert!(!leaking.stderr.contains("ter@"), "{leaking:?}");
    world.write("manage-ports.toml", "database = \"postgresql://secret:hunter/4@h/d\"\n");
    let mut command = world.command();
    let ran = Ran::of(command.arg("list").env_remove("MANAGE_PORTS_DATABASE"));
    ran.fails(2, &["manage-ports.toml: database"]);
    assert!(!ran.stderr.contains("hunter"), "{ran:?}");
}

#[test]
fn what_a_role_may_not_do_is_told_and_leaves_the_table_as_it_was() {
    let Some(world) = world("privileges") else { return };
    world.sql(SCHEMA);
    let as_secret = |line: &str| {
        let mut command = world.command();
        command.args(line.split(' ')).env("MANAGE_PORTS_DATABASE", world.server().url_of("secret:hunter2"));
        Ran::of(&mut command)
    };
    as_secret("list").fails(3, &["does not allow this", "port_configurations", "hint:"]);
    world.sql("GRANT SELECT ON port_configurations TO secret");
    assert_eq!(as_secret("list").code, Some(0));
    as_secret("allocate --model m --app 1").fails(3, &["does not allow this"]);
    world.sql(LEAST);
    as_secret("allocate --model m --app 1").is(0, "m/app1: backend 5001, frontend 8001\n", "");
    let reserved = as_secret("reserve --model m --app 1 --for 1h");
    let told = "m/app1: backend 5001, frontend 8001 (existing), reserved until ";
    assert!(reserved.ok().starts_with(told), "{reserved:?}");
    as_secret("release m 1").is(0, "✓ Released ports for m/app1\n", "");
    world.sql("ALTER ROLE secret SET default_transaction_read_only = on");
    as_secret("allocate --model m --app 1 --format plain").is(0, "5001 8001\n", "");
    world.sql("ALTER ROLE secret RESET default_transaction_read_only");
}

#[test]
fn connections_are_encrypted_and_verified_as_sslmode_says() {
    let Some(world) = world("TLS") else { return };
    world.sql(SCHEMA);
    world.sql("GRANT SELECT ON port_configurations TO tls");
    let authority = world.server().server().path("authority.crt");
    let trusting = format!("sslrootcert={}", authority.display());
    let list = |host: &str, query: &str, environment: &[(&str, &str)]| {
        let url = world.server().url_of("tls").replace("127.0.0.1", host);
        let mut command = world.command();
        command.arg("list").env("MANAGE_PORTS_DATABASE", format!("{url}?{query}"));
        Ran::of(command.envs(environment.iter().copied()))
    };
    for (host, query) in [
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", &format!("sslmode=verify-ca&{trusting}")),
        ("localhost", &format!("sslmode=verify-full&{trusting}")),
    ] {
        let listed = list(host, query, &[]);
        assert!(listed.ok().starts_with("No port allocations found in postgresql://"), "{query}: {listed:?}");
    }
    let system = ("SSL_CERT_FILE", authority.to_str().unwrap());
    assert_eq!(list("localhost", "sslmode=verify-full", &[system]).code, Some(0));
    assert_eq!(list("localhost", "", &[("PGSSLMODE", "verify-full"), system]).code, Some(0));

    list("127.0.0.1", "sslmode=disable", &[]).fails(3, &["password missing", "hint: a password is taken from"]);
    list("127.0.0.1", &format!("sslmode=verify-full&{trusting}"), &[]).fails(3, &["cannot be trusted", "sslmode"]);
    list("localhost", "sslmode=verify-full", &[]).fails(3, &["cannot be trusted"]);
    list("localhost", "sslmode=verify-ca", &[]).fails(3, &["cannot be trusted"]);
    list("localhost", "sslmode=verify-full&sslrootcert=/nowhere", &[]).fails(3, &["sslrootcert /nowhere"]);
    list("localhost", "sslmode=sometimes", &[]).fails(2, &["sslmode 'sometimes'", "verify-full"]);

    // The system's authorities certify anybody, so the name is always verified with them.
    for query in ["sslrootcert=system", "sslrootcert=system&sslmode=verify-full"] {
        list("localhost", query, &[]).fails(3, &["cannot be trusted"]);
        list("127.0.0.1", query, &[system]).fails(3, &["cannot be trusted"]);
        assert_eq!(list("localhost", query, &[system]).code, Some(0), "{query}");
    }
    list("localhost", "", &[("PGSSLROOTCERT", "system")]).fails(3, &["cannot be trusted"]);
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let weak = [&format!("sslmode '{mode}'"), "sslrootcert=system", "verify-full"];
        list("localhost", &format!("sslrootcert=system&sslmode={mode}"), &[system]).fails(2, &weak);
        list("localhost", &format!("sslmode={mode}"), &[("PGSSLROOTCERT", "system")]).fails(2, &weak);
    }
}

#[test]
fn a_url_is_completed_by_libpqs_variables() {
    let Some(world) = world("libpq's variables") else { return };
    let server = world.server().server();
    world.sql("CREATE SCHEMA elsewhere");
    let port = server.port().to_string();
    let socket = server.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let run = |url: &str, line: &str, environment: &[(&str, &str)]| {
        let mut command = world.command();
        command.args(line.split(' ')).env("MANAGE_PORTS_DATABASE", url);
        Ran::of(command.envs(environment.iter().copied()))
    };
    let all =
        [("PGHOST", socket.as_str()), ("PGPORT", &port), ("PGUSER", "postgres"), ("PGDATABASE", world.server().name())];
    let made = run("postgresql://", "allocate --model m --app 1 --format plain", &all);
    assert_eq!((made.code, made.stdout.as_str()), (Some(0), "5001 8001\n"), "{made:?}");

    // The table is found, or made, where the search path leads.
    let name = world.server().name();
    for query in ["search_path=elsewhere", "options=-csearch_path%3Delsewhere"] {
        let url = format!("postgresql://postgres@/{name}?host={socket}&port={port}&{query}");
        run(&url, "allocate --model other --app 1 --format plain -q", &[]).is(0, "5001 8001\n", "");
    }
    assert_eq!(world.server().sql("SELECT model FROM elsewhere.port_configurations"), "other\n");
    let here = run(&format!("postgresql:///{name}?host={socket}"), "list --format plain", &all);
    assert!(here.ok().starts_with("m\t1\t5001\t8001\t"), "{here:?}");
}

#[test]
fn a_server_that_cannot_be_reached_is_an_error_at_once() {
    let world = World::new();
    let [port] = super::fixture::free_ports();
    let url = format!("postgresql://u@127.0.0.1:{port}/d");
    let message = world.run(["list", "--json", "--database", &url]).fails_as_json(3, "database");
    assert!(message.starts_with(&format!("database {url} cannot be reached")), "{message}");

    // Somebody who takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://u@127.0.0.1:{}/d", silent.local_addr().unwrap().port());
    let message = world.run(["list", "--json", "--timeout", "200ms", "--database", &url]).fails_as_json(3, "locked");
    assert!(message.contains("waited 0.2 s for the server to answer"), "{message}");
}

#[test]
fn a_database_or_a_table_that_is_not_there_is_told() {
    let Some(world) = world("a missing table") else { return };
    for line in ["list", "check", "release m 1", "cleanup"] {
        world.apps([""]);
        world.line(line).fails(3, &["has no table port_configurations", "hint:"]);
    }
    let url = format!("postgresql://postgres@127.0.0.1:{}/nowhere", world.server().server().port());
    world.run(["allocate", "--model", "m", "--app", "1", "--database", &url]).fails(3, &["nowhere", "createdb"]);
    world.sql("CREATE TABLE port_configurations (id int, model text)");
    world.line("list").fails(3, &["not the platform's", "app_num"]);
}

#[test]
fn a_team_moves_over_with_one_line() {
    let Some(world) = world("a move from SQLite") else { return };
    let old = World::with_platform();
    old.line("reserve --model held --app 1 --for 2h -q").ok();
    let list = old.line("list --json");
    old.write("list.json", list.ok());
    let mut import = world.command();
    import.args(["import", "-"]).stdin(fs::File::open(old.path("list.json")).unwrap());
    let ran = Ran::of(&mut import);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "✓ Imported 751 allocation(s), 0 existing, 0 skipped\n"),
        "{ran:?}"
    );
    assert_eq!(sorted(world.rows()), sorted(old.rows()));
    assert_eq!(world.rows().len(), platform_rows().len() + 1);
    let held = |world: &World| world.line("list --state reserved --format csv").stdout;
    let until = |csv: String| csv.lines().nth(1).map(|line| line.rsplit(',').next().unwrap().to_owned());
    assert!(until(held(&old)).is_some());
    assert_eq!(until(held(&world)), until(held(&old)), "a reservation moves, too");
}

#[test]
fn the_selftest_leaves_nothing_behind() {
    let Some(world) = world("the self-test") else { return };
    world.sql(SCHEMA);
    let before = world.server().sql("SELECT nspname FROM pg_namespace ORDER BY 1");
    let ran = world.line("selftest --processes 4");
    let lines: Vec<_> = ran.ok().lines().collect();
    assert!(lines[..5].iter().all(|line| line.starts_with('✓')), "{ran:?}");
    assert_eq!(lines[lines.len() - 2..], ["  waiting in the server's queue, on a table lock", "  kept on a server"]);
    assert_eq!(world.server().sql("SELECT nspname FROM pg_namespace ORDER BY 1"), before);
    assert_eq!(world.rows(), []);
}
