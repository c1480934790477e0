//! The database at rest: when the last command has ended, the file alone holds every row.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::database::unprivileged;
use super::fixture::{Ran, Row, SCHEMA, World, platform_rows, row, rows_of};
use super::storm::{CONFIG, assert_distinct, finish};

const MANAGE_PORTS: &str = env!("CARGO_BIN_EXE_manage-ports");
const DATABASE: &str = "data/ports.db";
const LOG: &str = "data/ports.db-wal";

/// Every command that writes, on the platform's database with one app's directory.
const WRITERS: [&str; 10] = [
    "allocate -q --model new --app 1",
    "allocate -q --model new --app 1-40",
    "allocate -q --model new --app 1 --backend-port 20001 --frontend-port 20003",
    "reserve -q --model new --app 1-3 --for 1h",
    "reserve -q --model maker_model-0.0 --app 1 --for 1h",
    "release -q maker_model-0.0 1-19",
    "cleanup -q --include-listening --min-age 0s",
    "import -q port_config.json",
    "exec -q --model new --app 1 -- true",
    "allocate -q --model maker_model-0.0 --app 1",
];

/// The ways to put a copy in the place of the database.
const RESTORES: [&str; 5] = [
    "cp bak.db data/ports.db",
    "mv bak.db data/ports.db",
    "cat bak.db > data/ports.db",
    "cp bak.db data/new && mv data/new data/ports.db",
    "rm data/ports.db && cp bak.db data/ports.db",
];

/// The ways to take away what stands beside the database.
const REMOVALS: [&str; 5] = [
    "rm -f data/ports.db-wal",
    "rm -f data/ports.db-shm",
    "rm -f data/ports.db-queue",
    "rm -f data/ports.db-wal data/ports.db-shm",
    "rm -f data/ports.db-*",
];

/// A world with the platform's database in WAL mode.
fn platform_in_wal_mode() -> World {
    let world = World::with_platform();
    world.sql("PRAGMA journal_mode = wal");
    prepared(world)
}

/// A world whose database this program has made.
fn ours() -> World {
    let world = prepared(World::new());
    world.line("allocate maker_model-0.0 1-20 -q").ok();
    world
}

fn prepared(world: World) -> World {
    world.write("manage-ports.toml", CONFIG);
    world.apps(["maker_model-0.0/app1"]);
    world.write(
        "port_config.json",
        r#"[{"model": "imported", "app_number": 1, "backend_port": 20101, "frontend_port": 20103}]"#,
    );
    world
}

#[track_caller]
fn shell(world: &World, script: &str) {
    let mut shell = Command::new("sh");
    assert!(shell.args(["-ec", script]).current_dir(world.path("")).status().unwrap().success(), "{script}");
}

/// The rows that a copy of the database file alone holds, read by SQLite and by this program.
#[track_caller]
fn alone(world: &World) -> Vec<Row> {
    let elsewhere = World::new();
    fs::create_dir(elsewhere.path("data")).unwrap();
    fs::copy(world.default_database(), elsewhere.default_database()).unwrap();
    let listed = elsewhere.line("list --format plain").ok().lines().count();
    let rows = rows_of(&elsewhere.default_database());
    assert_eq!(listed, rows.len());
    let connection = Connection::open(elsewhere.default_database()).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    rows
}

/// Checks that the log holds nothing, and returns the rows in the file.
#[track_caller]
fn at_rest(world: &World, after: &str) -> Vec<Row> {
    assert_eq!(log_len(world), 0, "bytes in the log after {after}");
    let rows = alone(world);
    assert_eq!(rows, world.rows(), "after {after}");
    rows
}

fn log_len(world: &World) -> u64 {
    fs::metadata(world.path(LOG)).map_or(0, |log| log.len())
}

/// Makes a copy while nothing runs.
fn back_up(world: &World) -> Vec<Row> {
    fs::copy(world.default_database(), world.path("bak.db")).unwrap();
    alone(world)
}

#[track_caller]
fn holds(world: &World, expected: &[Row], after: &str) {
    let listed = world.line("list --format plain -q");
    assert_eq!(listed.ok().lines().count(), expected.len(), "{after}");
    assert_eq!(world.rows(), expected, "{after}");
    assert_eq!(world.line("allocate --model next --app 1 -q").code, Some(0), "{after}");
    let rows = at_rest(world, after);
    assert_eq!(rows.len(), expected.len() + 1, "{after}");
    assert_distinct(&rows);
}

#[test]
fn after_every_command_that_writes_the_file_alone_holds_every_row() {
    for make in [ours, platform_in_wal_mode] {
        for line in WRITERS {
            let world = make();
            world.line(line).ok();
            assert!(!at_rest(&world, line).is_empty(), "{line}");
        }
    }
}

#[test]
fn a_restored_copy_is_what_the_next_command_sees() {
    for line in WRITERS {
        for restore in RESTORES {
            let world = ours();
            let before = back_up(&world);
            world.line(line).ok();
            shell(&world, restore);
            holds(&world, &before, &format!("{line}; {restore}"));
        }
    }
}

#[test]
fn a_copy_made_by_sqlite_undoes_what_came_after_it() {
    // Rows released and others allocated between: an old log would blend the two.
    for restore in RESTORES {
        let world = prepared(World::new());
        world.line("allocate --model m --app 1-150 -q").ok();
        world.sql("VACUUM INTO 'bak.db'".replace("bak.db", &world.path("bak.db").display().to_string()).as_str());
        let before = rows_of(&world.path("bak.db"));
        world.line("release m 1-150 -q").ok();
        world.line("allocate --model x --app 1-150 -q").ok();
        world.line("allocate --model x --app 151 -q").ok();
        shell(&world, restore);
        holds(&world, &before, restore);
    }
}

#[test]
fn whatever_stands_beside_the_file_may_be_removed() {
    for removal in REMOVALS {
        let world = ours();
        for n in 1..=3 {
            world.run(["allocate", "--model", "more", "--app", &n.to_string(), "-q"]).ok();
            shell(&world, removal);
        }
        assert_eq!(world.line("list --format plain").ok().lines().count(), 23, "{removal}");
        at_rest(&world, removal);
    }
}

/// Allocates for a hundred apps at once.
fn storm(world: &World) {
    let children: Vec<_> =
        (1..=100).map(|n| world.start(&format!("allocate --model storm --app {n} -q --timeout 3m"))).collect();
    for child in children {
        finish(child).ok();
    }
}

#[test]
fn after_a_storm_the_file_alone_holds_every_row() {
    for make in [ours, platform_in_wal_mode] {
        for restore in RESTORES {
            let world = make();
            let before = back_up(&world);
            storm(&world);
            assert_eq!(at_rest(&world, "a storm").len(), before.len() + 100);
            shell(&world, restore);
            holds(&world, &before, restore);
        }
    }
}

#[test]
fn after_a_storm_of_all_commands_the_file_alone_holds_every_row() {
    let world = ours();
    let mut children = Vec::new();
    for n in 1..=30 {
        children.push(world.start(&format!("allocate --model storm --app {n}")));
        children.push(world.start("list --json"));
        // Some wait for nothing, some find nothing and some are refused.
        children.push(world.start(&format!("allocate --model hurried --app {n} --timeout 1ms")));
        children.push(world.start(&format!("release storm {n}")));
        children
            .push(world.start(&format!("allocate --model one --app {n} --backend-port 20001 --frontend-port 20003")));
    }
    for child in children {
        let ran = finish(child);
        assert!(matches!(ran.code, Some(0 | 1 | 3 | 6)), "{ran:?}");
    }
    at_rest(&world, "a storm of all commands");
}

#[test]
fn after_kills_the_next_writer_empties_the_log() {
    let mut random = fastrand::Rng::new();
    for round in 0..8 {
        let world = ours();
        let before = back_up(&world);
        let mut children: Vec<_> =
            (1..=20).map(|n| world.start(&format!("allocate --model killed --app {n} -q"))).collect();
        thread::sleep(Duration::from_micros(random.u64(0..60_000)));
        children.iter_mut().for_each(|child| child.kill().unwrap());
        children.into_iter().for_each(|child| drop(finish(child)));
        world.line("allocate --model last --app 1 -q").ok();
        let rows = at_rest(&world, "kills");
        assert!(rows.iter().any(|row| row.0 == "last"));
        let restore = RESTORES[round % RESTORES.len()];
        shell(&world, restore);
        holds(&world, &before, restore);
    }
}

#[test]
fn after_kills_a_reading_command_empties_the_log_too() {
    let world = ours();
    let dead = Connection::open(world.default_database()).unwrap();
    dead.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE port_configurations SET is_available = 0").unwrap();
    // As a killed process leaves it: nothing of it is copied at the end.
    dead.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(dead);
    assert!(log_len(&world) > 0);
    assert_eq!(world.line("list --format plain").ok().matches("\tfalse\t").count(), 20);
    assert_eq!(log_len(&world), 0);
}

#[test]
fn a_reader_in_the_way_leaves_the_log_to_the_last_command() {
    for make in [ours, platform_in_wal_mode] {
        let world = make();
        let reader = Connection::open(world.default_database()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM port_configurations").unwrap();
        world.line("allocate --model new --app 1 -q").ok();
        world.line("release maker_model-0.0 2 -q").ok();
        assert!(log_len(&world) > 0, "nothing was in the way");
        reader.execute_batch("COMMIT").unwrap();
        // It stays open, as the platform's connections do.
        world.line("list").ok();
        let rows = at_rest(&world, "the reader");
        assert!(rows.iter().any(|row| row.0 == "new"));
        drop(reader);
        at_rest(&world, "the reader's end");
    }
}

#[test]
fn a_short_reader_is_waited_out() {
    let world = ours();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while [ ! -e stop ]; do \"$0\" list --json -q || exit 1; done", MANAGE_PORTS]);
            shell.current_dir(world.path("")).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
            shell.spawn().unwrap()
        })
        .collect();
    for n in 1..=40 {
        world.run(["allocate", "--model", "new", "--app", &n.to_string(), "-q"]).ok();
    }
    world.write("stop", "");
    readers.into_iter().for_each(|mut reader| assert!(reader.wait().unwrap().success()));
    assert_eq!(at_rest(&world, "readers").len(), 60);
}

#[test]
fn what_the_platform_leaves_in_its_log_goes_into_the_file_with_our_next_write() {
    let world = platform_in_wal_mode();
    let platform = Connection::open(world.default_database()).unwrap();
    platform
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0;
             INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES ('log', 1, 20001, 20003)",
        )
        .unwrap();
    assert!(log_len(&world) > 0 && alone(&world).len() == 750);
    world.line("allocate --model new --app 1 -q").ok();
    assert_eq!(at_rest(&world, "our write").len(), 752);
    // The platform goes on with the log that was emptied below it.
    platform.execute_batch("UPDATE port_configurations SET is_available = 0 WHERE model = 'log'").unwrap();
    drop(platform);
    at_rest(&world, "the platform's end");
}

#[test]
fn a_reader_that_may_not_write_changes_nothing() {
    let world = platform_in_wal_mode();
    let writer = Connection::open(world.default_database()).unwrap();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE port_configurations SET is_available = 0").unwrap();
    let files = || [DATABASE, LOG].map(|name| fs::read(world.path(name)).unwrap());
    let before = files();
    assert!(!before[1].is_empty());
    let ran = Ran::of(unprivileged(&world).args(["list", "--format", "plain"]));
    assert_eq!(ran.ok().matches("\tfalse\t").count(), 750);
    assert!(files() == before);
}

/// A copy of a database whose writer was killed, with the frames that it left in the log.
fn killed(schema: &str, change: &str) -> World {
    let source = World::new();
    source.database(schema, &[]);
    let writer = Connection::open(source.default_database()).unwrap();
    writer.execute_batch(&format!("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; {change}")).unwrap();
    let world = prepared(World::new());
    fs::create_dir(world.path("data")).unwrap();
    for name in [DATABASE, LOG] {
        fs::copy(source.path(name), world.path(name)).unwrap();
    }
    world
}

#[test]
fn the_log_of_a_database_that_cannot_be_used_stays_as_it_is() {
    let others = || killed("CREATE TABLE users (id INTEGER PRIMARY KEY)", "INSERT INTO users VALUES (1)");
    let damaged = || {
        let world = killed(SCHEMA, "PRAGMA user_version = 5");
        let mut bytes = fs::read(world.default_database()).unwrap();
        bytes[4096..].fill(0xff);
        fs::write(world.default_database(), bytes).unwrap();
        world
    };
    for make in [&others as &dyn Fn() -> World, &damaged] {
        for line in ["check", "allocate --model new --app 1 -q", "release m 1"] {
            let world = make();
            let files = || [DATABASE, LOG].map(|name| fs::read(world.path(name)).unwrap());
            let before = files();
            assert!(!before[1].is_empty());
            world.line(line).fails(3, &["data/ports.db"]);
            assert!(files() == before, "{line}");
        }
    }
}

#[test]
fn a_writer_that_is_refused_empties_the_log_too() {
    let trigger = "CREATE TRIGGER t BEFORE INSERT ON port_configurations BEGIN SELECT RAISE(ABORT, 'no'); END;";
    for (code, line) in [
        (3, "allocate --model new --app 1 -q"),
        (6, "allocate --model new --app 1 --backend-port 5001 --frontend-port 20001 -q"),
        (1, "release new 1"),
    ] {
        let made = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port)
                   VALUES ('m', 1, 5001, 8001)";
        let world = killed(SCHEMA, &format!("{made}; {trigger}"));
        assert!(log_len(&world) > 0);
        assert_eq!(world.line(line).code, Some(code), "{line}");
        assert_eq!(at_rest(&world, line), [row("m", 1, 5001, 8001)], "{line}");
    }
}

#[test]
fn a_copy_in_a_folder_that_may_not_be_written_is_read() {
    let world = ours();
    let copy = world.write("copy/ports.db", fs::read(world.default_database()).unwrap());
    fs::set_permissions(world.path("copy"), Permissions::from_mode(0o555)).unwrap();
    world.write("manage-ports.toml", "database = \"copy/ports.db\"\n");
    let Some(list) = world.line_as_nobody("list --format plain") else { return };
    assert_eq!(list.ok().lines().count(), 20, "{list:?}");
    assert_eq!(fs::read_dir(copy.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_database_whose_owner_changes_its_journal_mode_in_a_storm_is_kept_whole() {
    for (from, to) in [("delete", "wal"), ("wal", "delete")] {
        let world = prepared(World::new());
        world.database(SCHEMA, &platform_rows());
        world.sql(&format!("PRAGMA journal_mode = {from}"));
        let children: Vec<_> =
            (1..=40).map(|n| world.start(&format!("allocate --model storm --app {n} -q --timeout 3m"))).collect();
        let owner = Connection::open(world.default_database()).unwrap();
        owner.busy_timeout(Duration::ZERO).unwrap();
        let change = format!("PRAGMA journal_mode = {to}");
        // It needs the database for itself for a moment.
        while !owner.query_row(&change, [], |row| row.get::<_, String>(0)).is_ok_and(|mode| mode == to) {
            thread::yield_now();
        }
        drop(owner);
        for child in children {
            finish(child).ok();
        }
        let rows = at_rest(&world, &change);
        assert_eq!(rows.len(), 790, "{change}");
        assert_distinct(&rows);
    }
}

#[test]
fn a_link_to_the_database_may_be_copied_and_restored_like_it() {
    let world = ours();
    fs::create_dir(world.path("elsewhere")).unwrap();
    symlink(world.default_database(), world.path("elsewhere/link.db")).unwrap();
    world.line("allocate --model new --app 1 -q --database elsewhere/link.db").ok();
    assert_eq!(at_rest(&world, "a write through a link").len(), 21);
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 1);
    assert!(world.rows().contains(&row("new", 1, 5041, 8041)), "{:?}", world.rows().last());
}
