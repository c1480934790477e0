//! A disk that fails, a lock that cannot be had, and tables whose owners forbid a row.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fixture::{Ran, SCHEMA, World, not_run, platform_rows, row};
use super::storm::{CONFIG, finish};

/// Lines that write, for a database with the platform's rows.
const WRITERS: [&str; 5] = [
    "allocate --model new --app 1",
    "reserve --model maker_model-0.0 --app 1 --for 1h",
    "release maker_model-0.0 2-5",
    "cleanup --include-listening --min-age 0s",
    "import port_config.json",
];

/// The states in which a database may be when a line writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Ours,
    Platform,
    PlatformInWalMode,
    LogLeft,
}

impl State {
    const ALL: [Self; 5] = [Self::New, Self::Ours, Self::Platform, Self::PlatformInWalMode, Self::LogLeft];

    fn world(self) -> World {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        world.apps(["maker_model-0.0/app1"]);
        let entry = r#"[{"model": "imported", "app_number": 1, "backend_port": 20101, "frontend_port": 20103}]"#;
        world.write("port_config.json", entry);
        match self {
            Self::New => {}
            Self::Ours => drop(world.line("allocate --model maker_model-0.0 --app 1-9 -q")),
            Self::Platform => world.database(SCHEMA, &platform_rows()),
            Self::PlatformInWalMode | Self::LogLeft => {
                world.database(SCHEMA, &platform_rows());
                world.sql("PRAGMA journal_mode = wal");
            }
        }
        if self == Self::LogLeft {
            let killed = Connection::open(world.default_database()).unwrap();
            killed.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            killed.execute_batch("UPDATE port_configurations SET is_available = 1").unwrap();
        }
        world
    }
}

/// Runs a line whose call of this kind with this number fails so; and what that call was about, if it came to it.
fn failing(world: &World, calls: &str, error: &str, number: usize, line: &str) -> (Ran, Option<String>) {
    let trace = world.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-e", &format!("trace={calls}"), "-o"]).arg(&trace);
    strace.args(["-e", &format!("inject={calls}:error={error}:when={number}")]);
    strace.arg(env!("CARGO_BIN_EXE_manage-ports")).args(line.split_whitespace());
    let ran = Ran::from(strace.current_dir(world.path("")).env_clear().env("PATH", "/usr/bin:/bin").output().unwrap());
    let calls = fs::read_to_string(trace).unwrap();
    let failed = calls.lines().find(|call| call.contains("INJECTED"));
    (ran, failed.map(|call| call.split(['<', '>']).nth(1).unwrap_or_default().to_owned()))
}

fn has_strace() -> bool {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    if !has_it {
        not_run("faults: no strace");
    }
    has_it
}

/// Lets each call of this kind fail in turn, in every state and line, and looks at what the next call finds.
fn each_fails(calls: &str, error: &str, states: &[State], lines: &[&str]) {
    if !has_strace() {
        return;
    }
    let mut failed = 0;
    for &state in states {
        for &line in lines {
            if state == State::New && !(line.starts_with("allocate") || line.starts_with("import")) {
                continue;
            }
            for number in 1.. {
                let world = state.world();
                let before = if state == State::New { Vec::new() } else { world.rows() };
                let (ran, about) = failing(&world, calls, error, number, &format!("-q {line}"));
                let Some(about) = about else { break };
                let what = format!("{calls} {number} ({about}) fails with {error} in {line} on {state:?}");
                // SQLite passes over a folder that it cannot sync, as we have synced it ourselves.
                if ran.code == Some(0) {
                    assert!(Path::new(&about).is_dir(), "{what}: {ran:?}");
                } else {
                    ran.fails(3, &["data/ports.db"]);
                    failed += 1;
                }
                let again = world.line(&format!("-q {line}"));
                assert!(matches!(again.code, Some(0 | 1)), "{what}: {again:?}");
                let after = world.rows();
                let is_done = match line.split(' ').next().unwrap() {
                    "allocate" => after.iter().any(|row| row.0 == "new"),
                    "import" => after.iter().any(|row| row.0 == "imported"),
                    "release" => !after.iter().any(|row| row.0 == "maker_model-0.0" && (2..=5).contains(&row.1)),
                    "cleanup" => after.iter().all(|row| (row.0.as_str(), row.1) == ("maker_model-0.0", 1)),
                    _ => after == before,
                };
                assert!(is_done, "{what}: {after:?}");
                let log = fs::metadata(world.path("data/ports.db-wal")).map_or(0, |log| log.len());
                assert_eq!(log, 0, "{what}");
                let connection = Connection::open(world.default_database()).unwrap();
                let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(integrity, "ok", "{what}");
            }
        }
    }
    assert!(failed >= 5, "only {failed} calls of {calls} failed");
}

#[test]
fn a_sync_that_fails_is_an_error_and_the_next_call_is_right() {
    each_fails("fsync,fdatasync", "EIO", &State::ALL, &WRITERS);
}

#[test]
fn a_sync_on_a_full_disk_is_an_error_and_the_next_call_is_right() {
    each_fails("fsync,fdatasync", "ENOSPC", &[State::New, State::Ours, State::Platform], &WRITERS[..1]);
}

#[test]
fn a_write_to_a_full_disk_is_an_error_and_the_next_call_is_right() {
    each_fails("pwrite64", "ENOSPC", &[State::New, State::Ours, State::Platform], &WRITERS[..1]);
}

#[test]
fn a_truncation_that_fails_is_an_error_and_the_next_call_is_right() {
    each_fails("ftruncate", "EIO", &State::ALL, &WRITERS[..1]);
}

#[test]
fn a_lock_call_that_fails_oddly_ends_in_time() {
    if !has_strace() {
        return;
    }
    for number in ["10", "10+", "18"] {
        let world = State::Ours.world();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl"]);
        strace.args(["-e", &format!("inject=fcntl:error=EIO:when={number}")]);
        strace.arg(env!("CARGO_BIN_EXE_manage-ports"));
        strace.args(["allocate", "--model", "new", "--app", "1", "--timeout", "2s", "-q"]);
        let start = Instant::now();
        let ran = Ran::from(strace.current_dir(world.path("")).output().unwrap());
        // SQLite itself waits for ten seconds in one attempt.
        assert!(start.elapsed() < Duration::from_secs(25), "{number}: {:?}", start.elapsed());
        if ran.code != Some(0) {
            ran.fails(3, &["waited", "tried"]);
        }
        world.line("allocate --model new --app 1 -q").ok();
        assert_eq!(world.rows().len(), 10, "{number}");
    }
}

#[test]
fn a_row_that_its_owner_forbids_is_told_at_once() {
    for (forbid, why) in [
        (
            "CREATE TABLE new (id INTEGER PRIMARY KEY, model VARCHAR(200) NOT NULL, app_num INTEGER NOT NULL,
             frontend_port INTEGER NOT NULL, backend_port INTEGER NOT NULL CHECK (backend_port > 60000),
             is_available BOOLEAN, metadata_json TEXT, created_at DATETIME, updated_at DATETIME);
             DROP TABLE port_configurations; ALTER TABLE new RENAME TO port_configurations",
            "CHECK",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON port_configurations BEGIN SELECT RAISE(ABORT, 'not on fridays'); END",
            "not on fridays",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON port_configurations BEGIN SELECT RAISE(IGNORE); END",
            "did not keep a new row",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON port_configurations
             BEGIN UPDATE port_configurations SET backend_port = 20001 WHERE id = NEW.id; END",
            "did not keep a new row as it was written",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON port_configurations
             BEGIN DELETE FROM port_configurations WHERE id = NEW.id; END",
            "did not keep a new row as it was written",
        ),
    ] {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        world.database(SCHEMA, &[]);
        world.sql(forbid);
        world.line("allocate --model m --app 1-3 -q").fails(3, &["data/ports.db", why]);
        assert_eq!(world.rows(), [], "{forbid}");
        let talk = world.line("allocate --model m --app 1 -v").stderr;
        assert!(!talk.contains("waiting for"), "tried again: {talk}");
    }
}

#[test]
fn many_apps_are_looked_up_and_released_in_linear_time() {
    for schema in [SCHEMA, super::fixture::WEAK_SCHEMA] {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        let rows: Vec<_> = (1..=10_000).map(|n| row("m", n, 5000 + 2 * n, 5001 + 2 * n)).collect();
        world.database(schema, &rows);
        // Twenty million comparisons a step would take far longer in this build.
        let start = Instant::now();
        assert_eq!(world.line("allocate --model m --app 1-10000 -q").ok().lines().count(), 10_000);
        assert_eq!(world.line("release m 1-10000 -q").ok().lines().count(), 10_000);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(world.rows(), []);
    }
}

#[test]
fn waiting_in_a_stuck_queue_leaves_time_for_the_database() {
    let world = State::Platform.world();
    world.line("allocate --model first --app 1 -q").ok();
    let queue = fs::File::open(world.path("data/ports.db-queue")).unwrap();
    queue.lock().unwrap();
    // Under load as in these tests, forty processes alone take their time to start.
    let children: Vec<_> =
        (1..=40).map(|n| world.start(&format!("allocate --model m --app {n} -q --timeout 10s"))).collect();
    for child in children {
        finish(child).ok();
    }
    drop(queue);
    assert_eq!(world.rows().len(), 791);
}

#[test]
fn a_storm_without_a_queue_leaves_the_file_alone_with_every_row() {
    for state in [State::New, State::Ours, State::Platform, State::PlatformInWalMode] {
        let world = state.world();
        let _ = fs::remove_file(world.path("data/ports.db-queue"));
        fs::create_dir_all(world.path("data/ports.db-queue")).unwrap();
        let before = if state == State::New { 0 } else { world.rows().len() };
        let children: Vec<_> =
            (1..=60).map(|n| world.start(&format!("allocate --model m --app {n} -q --timeout 3m"))).collect();
        for child in children {
            finish(child).ok();
        }
        let log = fs::metadata(world.path("data/ports.db-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0, "{state:?}");
        let copy = world.path("copy.db");
        fs::copy(world.default_database(), &copy).unwrap();
        assert_eq!(super::fixture::rows_of(&copy).len(), before + 60, "{state:?}");
    }
}
