//! What a call waits for on a PostgreSQL server, for how long, and how the wait ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::fixture::{Ran, World, interrupt, row};
use super::postgres::{wait_until, world};
use super::server::{SCHEMA, Server};
use super::storm::finish;

const COLUMNS: &str = "(model, app_num, backend_port, frontend_port)";

/// What becomes of bytes on their way to the server.
enum Meddle {
    Pass,
    /// Some arrive as others, as many.
    Replace(&'static str, String),
    /// They arrive so much later.
    Delay(Duration),
    /// Neither they nor any later ones of the same connection arrive.
    Swallow,
}

/// A port that passes connections on to the server, and what is sent to it as `meddle` says.
fn meddler(server: &'static Server, meddle: impl Fn(&str) -> Meddle + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut upstream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
            let (mut answers, mut to_client) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut to_client);
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
            let meddle = meddle.clone();
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    let mut bytes = buffer[..count].to_vec();
                    match meddle(&String::from_utf8_lossy(&bytes)) {
                        Meddle::Pass => {}
                        Meddle::Replace(some, others) => {
                            let at = bytes.windows(some.len()).position(|part| part == some.as_bytes()).unwrap();
                            bytes[at..at + some.len()].copy_from_slice(others.as_bytes());
                        }
                        Meddle::Delay(time) => thread::sleep(time),
                        Meddle::Swallow => {
                            while let Ok(1..) = client.read(&mut buffer) {}
                            return;
                        }
                    }
                    if upstream.write_all(&bytes).is_err() {
                        return;
                    }
                }
                let _ = upstream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

/// The binary on the world's database through another port.
fn through(world: &World, port: u16, line: &str) -> std::process::Command {
    let mut command = world.command();
    command.env("MANAGE_PORTS_DATABASE", world.server().url_through(port)).args(line.split(' '));
    command
}

#[test]
fn work_is_not_waiting() {
    let Some(world) = world("a big table") else { return };
    world.sql(SCHEMA);
    // Ports that are none, so that all slots stay free.
    world.sql(&format!(
        "INSERT INTO port_configurations {COLUMNS}
         SELECT 'big' || n % 100, n / 100 + 1, 100000 + n, 400000 + n FROM generate_series(1, 200000) AS n"
    ));
    for (app, timeout) in [(1, "0s"), (2, "1ms"), (3, "5ms")] {
        let answer = format!("{} {}\n", 4999 + 2 * app, 7999 + 2 * app);
        world.line(&format!("allocate --model m --app {app} --format plain --timeout {timeout}")).is(0, &answer, "");
    }
    assert_eq!(world.line("list --format plain --timeout 0s").ok().lines().count(), 200_003);
    world.line("release m 2 --timeout 0s").is(0, "✓ Released ports for m/app2\n", "");
    // Without an index, a look for many apps still takes linear time.
    world.sql("ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app");
    world.sql("DROP INDEX ix_port_configurations_model, ix_port_configurations_app_num");
    for _ in 0..2 {
        assert_eq!(
            world.line("allocate --model m --app 1-2000 --format plain --timeout 0s").ok().lines().count(),
            2000
        );
    }

    // Whatever the table, the database or the role would allow a statement, ours may take its time.
    let name = world.server().name();
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        world.sql(&format!("ALTER DATABASE {name} SET {setting} = 200"));
    }
    world.sql(
        "SET statement_timeout = 0;
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE INSERT ON port_configurations FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    assert_eq!(world.line("allocate --model slow --app 1 --format plain --timeout 0s").ok().lines().count(), 1);
}

#[test]
fn without_time_a_lock_is_tried_once() {
    let Some(world) = world("a lock and no time") else { return };
    world.sql(SCHEMA);
    world.line("allocate --model m --app 1").ok();
    let locks = [
        ("SHARE ROW EXCLUSIVE", &["allocate --model m --app 2", "release m 1"][..]),
        ("ACCESS EXCLUSIVE", &["list", "allocate --model m --app 1"]),
    ];
    for (mode, lines) in locks {
        let lock = world.server().session(&format!("BEGIN; LOCK TABLE port_configurations IN {mode} MODE"));
        let pid = world.server().sql(&format!(
            "SELECT pid FROM pg_locks WHERE mode = '{}Lock' AND relation = 'port_configurations'::regclass",
            mode.split(' ').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect::<String>()
        ));
        let holder = format!(
            "for other writers to finish: process {} of user postgres (psql, idle in transaction) holds the lock",
            pid.trim_end()
        );
        for line in lines {
            for timeout in ["0s", "300ms"] {
                let message = world.line(&format!("{line} --timeout {timeout} --json")).fails_as_json(3, "locked");
                assert!(message.contains(&format!("{holder}, tried 1 time")), "{message}");
            }
        }
        drop(lock);
    }
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
}

#[test]
fn a_server_that_ends_each_session_under_the_lock_is_not_asked_for_ever() {
    let Some(world) = world("sessions that are ended") else { return };
    world.sql(SCHEMA);
    world.sql(
        "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';
         CREATE TRIGGER ends BEFORE INSERT ON port_configurations FOR EACH ROW EXECUTE FUNCTION ends()",
    );
    for apps in ["1", "1-2"] {
        let ran = world.line(&format!("allocate --model m --app {apps} --timeout 10m"));
        ran.fails(3, &["ended the connection 3 times in the middle of a write: ", "administrator command", "hint:"]);
    }
    // Each attempt drew one number, the first in both calls.
    assert_eq!(world.server().sql("SELECT last_value FROM port_configurations_id_seq"), "6\n");
    assert_eq!(world.rows(), []);
}

#[test]
fn the_time_of_a_session_that_says_nothing_under_the_lock_is_bounded_and_counts() {
    let Some(world) = world("a session that says nothing") else { return };
    world.sql(SCHEMA);
    // It reaches the server when that has ended the session.
    let late = |sent: &str| if sent.contains("INSERT") { Meddle::Delay(Duration::from_secs(7)) } else { Meddle::Pass };
    let port = meddler(world.server().server(), late);
    let start = Instant::now();
    let ran = Ran::of(&mut through(&world, port, "allocate --model m --app 1 --timeout 2s --json"));
    let message = ran.fails_as_json(3, "locked");
    assert!(message.contains("for the server to answer again, tried"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // Meanwhile another had the lock as soon as the server had ended the session.
    assert_eq!(world.rows(), []);
    world.line("allocate --model m --app 2 --format plain").is(0, "5001 8001\n", "");
}

#[test]
fn ctrl_c_ends_a_write_on_which_the_server_hangs() {
    let Some(world) = world("a server that hangs") else { return };
    world.sql(SCHEMA);
    let active = || {
        world.server().sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'manage-ports' AND datname = current_database() AND state = 'active'")
    };

    // The server never hears of the row.
    let swallow = |sent: &str| if sent.contains("INSERT") { Meddle::Swallow } else { Meddle::Pass };
    let port = meddler(world.server().server(), swallow);
    let mut command = through(&world, port, "allocate --model m --app 1 --json");
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'ShareRowExclusiveLock' AND relation = 'port_configurations'::regclass";
    wait_until(|| world.server().sql(locked) == "1\n");
    thread::sleep(Duration::from_millis(200));
    interrupt(&child);
    assert_eq!(finish(child).fails_as_json(130, "interrupted"), "interrupted");

    // The server takes for ever.
    world.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE INSERT ON port_configurations FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let child = world.start("allocate --model m --app 1-2 --json --timeout 1s");
    wait_until(|| {
        world
            .server()
            .sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
            == "1\n"
    });
    interrupt(&child);
    assert_eq!(finish(child).fails_as_json(130, "interrupted"), "interrupted");
    wait_until(|| active() == "0\n");
    assert_eq!(world.rows(), []);
}

#[test]
fn a_server_without_the_lock_is_told_from_one_that_is_read_only() {
    let Some(world) = world("a server that lacks LOCK TABLE") else { return };
    world.sql(SCHEMA);
    world.line("allocate --model m --app 1").ok();
    // A statement that PostgreSQL does not support stands in for another.
    let without = |statement: &'static str| {
        let unsupported = format!("{:<1$}", "SELECT DISTINCT 1 FOR UPDATE", statement.len());
        meddler(world.server().server(), move |sent| match sent.contains(statement) {
            true => Meddle::Replace(statement, unsupported.clone()),
            false => Meddle::Pass,
        })
    };
    let no_lock = without("LOCK TABLE port_configurations IN SHARE ROW EXCLUSIVE MODE");
    // So a standby answers.
    let standby = without("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
    for line in ["allocate --model m --app 2", "reserve --model m --app 1 --for 1h", "release m 1"] {
        let ran = Ran::of(&mut through(&world, no_lock, line));
        ran.fails(3, &["does not support the lock", "LOCK TABLE", "hint:"]);
        assert!(!ran.stderr.contains("read-only"), "{ran:?}");
        let ran = Ran::of(&mut through(&world, standby, line));
        ran.fails(3, &["is read-only", "target_session_attrs=read-write"]);
    }
    for port in [no_lock, standby] {
        let run = |line: &str| Ran::of(&mut through(&world, port, line));
        assert_eq!(run("list --format plain").ok().lines().count(), 1);
        run("allocate --model m --app 1 --format plain").is(0, "5001 8001\n", "");
    }
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
}

#[test]
fn a_constraint_of_the_tables_owner_is_told_at_once() {
    let Some(world) = world("a constraint of the owner's") else { return };
    world.sql(SCHEMA);
    world.sql("ALTER TABLE port_configurations ADD CONSTRAINT ours CHECK (model <> 'm')");
    world.line("allocate --model m --app 1").fails(3, &["does not accept the row: ", "ours", "hint:"]);
    assert_eq!(world.server().sql("SELECT last_value FROM port_configurations_id_seq"), "1\n", "it was tried once");
    world.line("allocate --model n --app 1").ok();
}
