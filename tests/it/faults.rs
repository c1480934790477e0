//! A disk that fails, a lock that cannot be had, and tables whose owners forbid a row.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::fixture::{Ran, SCHEMA, World, not_run, platform_rows, row};
use super::storm::{CONFIG, finish};

/// The states in which a database may be when a line writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Ours,
    Platform,
    PlatformInWalMode,
}

impl State {
    fn world(self) -> World {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        match self {
            Self::New => {}
            Self::Ours => drop(world.line("allocate --model maker_model-0.0 --app 1-9 -q")),
            Self::Platform => world.database(SCHEMA, &platform_rows()),
            Self::PlatformInWalMode => {
                world.database(SCHEMA, &platform_rows());
                world.sql("PRAGMA journal_mode = wal");
            }
        }
        world
    }
}

fn has_strace() -> bool {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    if !has_it {
        not_run("faults: no strace");
    }
    has_it
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
