//! `migrate`: old tables of every shape, what is in the way, and what an interruption leaves.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};

use super::env_file_rights::{ACL, attribute, rights, secret_acl, set_attribute};
use super::fixture::{Ran, Row, SCHEMA, WEAK_SCHEMA, World, not_run, platform_rows, row, rows_of};
use super::postgres::world as on_server;
use super::server::SCHEMA as SERVER_SCHEMA;
use super::storm::{CONFIG, finish};

const APP: &str = "unique_model_app";
const BACKEND: &str = "ix_port_configurations_backend_port";
const FRONTEND: &str = "ix_port_configurations_frontend_port";

/// Old tables: the schema, what is different about it, and the names that are added and replaced.
const SHAPES: [(&str, &str, &[&str], &[&str]); 10] = [
    (WEAK_SCHEMA, "", &[APP, BACKEND, FRONTEND], &[]),
    (SCHEMA, "DROP INDEX ix_port_configurations_backend_port", &[BACKEND], &[]),
    (SCHEMA, "DROP INDEX ix_port_configurations_frontend_port", &[FRONTEND], &[]),
    (WEAK_SCHEMA, "CREATE UNIQUE INDEX other ON port_configurations (app_num, model)", &[BACKEND, FRONTEND], &[]),
    (
        WEAK_SCHEMA,
        "CREATE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
         CREATE INDEX unique_model_app ON port_configurations (model, app_num)",
        &[FRONTEND],
        &[APP, BACKEND],
    ),
    (
        WEAK_SCHEMA,
        "CREATE UNIQUE INDEX IX_Port_Configurations_Backend_Port ON port_configurations (backend_port, app_num)",
        &[APP, FRONTEND],
        &[BACKEND],
    ),
    (
        WEAK_SCHEMA,
        "CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port) WHERE id > 9;
         CREATE UNIQUE INDEX partial ON port_configurations (frontend_port) WHERE is_available;
         CREATE UNIQUE INDEX expression ON port_configurations (frontend_port + 0)",
        &[APP, FRONTEND],
        &[BACKEND],
    ),
    (
        "CREATE TABLE port_configurations (model, app_num, frontend_port UNIQUE, backend_port, theirs BLOB DEFAULT x'00',
          is_available, metadata_json, created_at, updated_at);",
        "CREATE TABLE others (id INTEGER PRIMARY KEY, port INTEGER); INSERT INTO others VALUES (1, 2), (7, NULL);
         CREATE VIEW ports AS SELECT backend_port FROM port_configurations;
         CREATE INDEX theirs ON port_configurations (theirs);
         CREATE TRIGGER follow AFTER DELETE ON port_configurations BEGIN DELETE FROM others; END; ANALYZE",
        &[APP, BACKEND],
        &[],
    ),
    (SCHEMA, "PRAGMA user_version = 7; DROP INDEX ix_port_configurations_model", &[], &[]),
    (SCHEMA, "", &[], &[]),
];

/// Everything that a database holds but the indexes that a migration makes.
fn contents(database: &Path) -> Vec<Vec<Cell>> {
    let connection = Connection::open(database).unwrap();
    let query = |sql: &str| -> Vec<Vec<Cell>> {
        let mut query = connection.prepare(sql).unwrap();
        let columns = query.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
        query.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    let mut contents = query(&format!(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE lower(name) NOT IN ('{APP}', '{BACKEND}', '{FRONTEND}') ORDER BY rowid"
    ));
    for table in query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name") {
        let Cell::Text(name) = &table[0] else { panic!("{table:?}") };
        contents.extend(query(&format!("SELECT rowid, * FROM \"{name}\" ORDER BY rowid")));
    }
    contents.extend([query("PRAGMA user_version"), query("PRAGMA journal_mode")].concat());
    contents
}

/// The names beside the database, without the file on which writers queue.
fn beside(world: &World) -> BTreeSet<String> {
    let names = fs::read_dir(world.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| !name.ends_with("-queue")).collect()
}

/// The copies that migrations have left.
fn copies(world: &World) -> Vec<PathBuf> {
    let is_copy = |name: &String| name.starts_with("ports.db.before-migrate-");
    beside(world).into_iter().filter(is_copy).map(|name| world.path("data").join(name)).collect()
}

fn names_of(indexes: &Value) -> BTreeSet<&str> {
    indexes.as_array().unwrap().iter().map(|index| index["name"].as_str().unwrap()).collect()
}

/// How many unique indexes a table lacks, and that the database is whole.
#[track_caller]
fn missing(world: &World) -> usize {
    let check = world.line("-q check --json");
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    check["warnings"].as_array().unwrap().iter().filter(|found| found["kind"] == "weak_schema").count()
}

#[track_caller]
fn is_whole(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok", "{}", database.display());
}

/// An old table with the platform's rows, in a journal mode.
fn old(schema: &str, difference: &str, journal_mode: &str) -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.database(schema, &[]);
    world.sql(difference);
    let rows = platform_rows();
    let mut connection = Connection::open(world.default_database()).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(())).unwrap();
    let transaction = connection.transaction().unwrap();
    for (model, app_num, backend, frontend) in &rows {
        let sql =
            "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES (?1, ?2, ?3, ?4)";
        transaction.execute(sql, (model, app_num, backend, frontend)).unwrap();
    }
    transaction.commit().unwrap();
    world
}

#[test]
fn a_table_of_every_shape_gets_what_it_lacks_and_keeps_everything_else() {
    for (schema, difference, added, replaced) in SHAPES {
        for journal_mode in ["delete", "wal"] {
            let world = old(schema, difference, journal_mode);
            let what = format!("{schema} {difference} {journal_mode}");
            let before = contents(&world.default_database());
            let bytes = fs::read(world.default_database()).unwrap();
            fs::set_permissions(world.default_database(), Permissions::from_mode(0o640)).unwrap();
            let has_work = !added.is_empty() || !replaced.is_empty();

            let dry_run = world.line("migrate --dry-run --json");
            assert_eq!((dry_run.code, dry_run.stderr.as_str()), (Some(i32::from(has_work)), ""), "{what}");
            let planned: Value = serde_json::from_str(&dry_run.stdout).unwrap();
            assert_eq!(names_of(&planned["added"]), added.iter().copied().collect(), "{what}");
            assert_eq!(names_of(&planned["replaced"]), replaced.iter().copied().collect(), "{what}");
            assert_eq!((&planned["dry_run"], &planned["copy"]), (&json!(true), &Value::Null));
            assert!(fs::read(world.default_database()).unwrap() == bytes, "{what}");
            assert_eq!(beside(&world), ["ports.db".to_owned()].into(), "{what}");

            let ran = world.line("migrate");
            assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
            assert_eq!(contents(&world.default_database()), before, "{what}");
            is_whole(&world.default_database());
            assert_eq!(missing(&world), 0, "{what}");
            let copies = copies(&world);
            assert_eq!(copies.len(), usize::from(has_work), "{what}");
            if let Some(copy) = copies.first() {
                assert!(ran.stdout.starts_with("✓ Migrated data/ports.db: "), "{ran:?}");
                let name = copy.file_name().unwrap().to_str().unwrap();
                assert!(ran.stderr.starts_with("Copied the database as it was to /"), "{ran:?}");
                assert!(ran.stderr.trim_end().ends_with(name), "{ran:?}");
                assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o640);
                let restored = World::new();
                fs::create_dir(restored.path("data")).unwrap();
                fs::copy(copy, restored.default_database()).unwrap();
                is_whole(&restored.default_database());
                assert_eq!(contents(&restored.default_database()), before, "{what}");
                assert_eq!(restored.line("migrate --dry-run --json").stdout, dry_run.stdout, "{what}");
            } else {
                assert!(fs::read(world.default_database()).unwrap() == bytes, "{what}");
            }

            let again = fs::read(world.default_database()).unwrap();
            for line in ["migrate", "migrate --dry-run"] {
                world.line(line).is(0, "✓ Nothing to migrate in data/ports.db\n", "");
            }
            assert!(fs::read(world.default_database()).unwrap() == again, "{what}");
            assert_eq!(beside(&world).len(), 1 + copies.len(), "{what}");
            world.line("allocate new 1 -q --format plain").ok();
            for taken in ["'new', 1, 1, 2", "'x', 1, 5001, 2", "'x', 1, 1, 8001"] {
                let sql = format!(
                    "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES ({taken})"
                );
                let refused = Connection::open(world.default_database()).unwrap().execute(&sql, []);
                assert!(refused.is_err_and(|err| err.to_string().contains("UNIQUE")), "{what}: {taken}");
            }
        }
    }
}

#[test]
fn what_would_be_done_is_told_in_lines() {
    let (schema, difference, ..) = SHAPES[4];
    let world = old(schema, difference, "delete");
    world.line("migrate --dry-run").is(
        1,
        "Would add: unique index ix_port_configurations_frontend_port on (frontend_port)\n\
         Would replace: unique_model_app by a unique index on (model, app_num)\n\
         Would replace: ix_port_configurations_backend_port by a unique index on (backend_port)\n",
        "",
    );
    let ran = world.line("migrate -q");
    ran.is(
        0,
        "✓ Migrated data/ports.db: added ix_port_configurations_frontend_port on (frontend_port); replaced \
         unique_model_app on (model, app_num), ix_port_configurations_backend_port on (backend_port)\n",
        "",
    );
}

#[test]
fn status_and_check_name_the_way_out() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.apps(["m/app1"]);
    assert!(world.line("status").ok().contains("`manage-ports migrate --dry-run`"));
    assert!(world.line("check").ok().contains("`manage-ports migrate` adds it"));
}

/// Rows that the indexes do not accept: two with one backend port, two with one frontend port, an app with two
/// rows, and numbers that are no ports.
const IN_THE_WAY: &str = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES
    ('a', 1, 5001, 8001), ('b', 1, 5001, 8003), ('c', 1, 5003, 8003), ('d', 1, 8001, 9001),
    ('e', 1, 5005, 8005), ('e', 1, 5007, 8007), ('f', 1, 0, 8009), ('f', 2, 0, 8011)";

const CONFLICTS: [(&str, &str); 4] = [
    ("duplicate_backend_port", "Backend port 0 used by multiple apps: f/app1, f/app2"),
    ("duplicate_backend_port", "Backend port 5001 used by multiple apps: a/app1, b/app1"),
    ("duplicate_frontend_port", "Frontend port 8003 used by multiple apps: b/app1, c/app1"),
    ("duplicate_app", "App e/app1 has 2 allocations: 5005/8005, 5007/8007"),
];

/// Goes from rows that are in the way to a table that has its indexes.
fn conflicts(world: &World) {
    world.sql(IN_THE_WAY);
    let before = world.rows();
    for line in ["migrate", "migrate --dry-run"] {
        let ran = world.line(&format!("{line} --json"));
        let found: Value = serde_json::from_str(&ran.stdout).unwrap();
        let told = found["conflicts"].as_array().unwrap().iter();
        let told: Vec<_> =
            told.map(|found| (found["kind"].as_str().unwrap(), found["message"].as_str().unwrap())).collect();
        assert_eq!((ran.code, told.as_slice()), (Some(1), &CONFLICTS[..]), "{ran:?}");
        assert_eq!((&found["added"], &found["copy"]), (&json!([]), &Value::Null));
        assert_eq!(world.rows(), before);
    }
    let ran = world.line("migrate");
    assert!(ran.stdout.starts_with("✗ 4 conflict(s) are in the way of unique indexes in "), "{ran:?}");
    for (_, message) in CONFLICTS {
        assert!(ran.stdout.contains(&format!("\n  - {message}; release ")), "{ran:?}");
    }
    assert!(ran.code == Some(1) && ran.stderr.contains("`manage-ports release MODEL APPS`"), "{ran:?}");

    // An index that is there already judges no more, and the port of d that is a's frontend is no obstacle.
    for app in ["b", "e", "f"] {
        assert_eq!(world.line("migrate -q").code, Some(1));
        world.line(&format!("release {app} --all")).ok();
    }
    let ran = world.line("migrate -q");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(missing(world), 0);
    assert_eq!(world.rows(), [row("a", 1, 5001, 8001), row("c", 1, 5003, 8003), row("d", 1, 8001, 9001)]);
}

#[test]
fn rows_in_the_way_are_listed_and_nothing_is_changed() {
    for journal_mode in ["delete", "wal"] {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        world.database(WEAK_SCHEMA, &[]);
        world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
        conflicts(&world);
        assert_eq!(copies(&world).len(), 1);
    }
}

#[test]
fn null_is_in_no_index_the_same_as_null() {
    let world = World::new();
    let (schema, ..) = SHAPES[7];
    world.database(schema, &[]);
    let insert = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES";
    world.sql(&format!("{insert} (NULL, 1, NULL, 8001), (NULL, 1, NULL, 8003)"));
    world.line("migrate -q").ok();
    assert_eq!(missing(&world), 0);
}

#[test]
fn a_table_or_a_name_that_cannot_be_used_is_an_error_and_nothing_is_changed() {
    for (difference, why) in [
        ("ALTER TABLE port_configurations DROP COLUMN metadata_json", "without a column metadata_json"),
        (
            "CREATE TABLE others (id); CREATE INDEX unique_model_app ON others (id)",
            "unique_model_app is the name of another index, of others",
        ),
        (
            "CREATE TABLE ix_port_configurations_backend_port (id)",
            "ix_port_configurations_backend_port is the name of another table",
        ),
    ] {
        let world = World::new();
        world.database(WEAK_SCHEMA, &[]);
        world.sql(difference);
        let before = fs::read(world.default_database()).unwrap();
        for line in ["migrate", "migrate --dry-run"] {
            world.line(line).fails(3, &["data/ports.db", why]);
        }
        assert!(fs::read(world.default_database()).unwrap() == before, "{difference}");
        assert_eq!(beside(&world).len(), 1, "{difference}");
    }
}

#[test]
fn a_database_that_is_not_there_needs_no_migration_unless_it_is_named() {
    let world = World::new();
    world.line("migrate").is(0, "✓ Nothing to migrate in data/ports.db\n", "");
    world.line("migrate --database other.db").fails(3, &["other.db", "does not exist"]);
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
}

#[test]
fn a_copy_that_cannot_be_made_is_an_error_and_nothing_is_changed() {
    // Another user, as nothing stops root.
    let world = World::new();
    world.database(WEAK_SCHEMA, &platform_rows());
    let before = fs::read(world.default_database()).unwrap();
    let shut = |world: &World| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manage-ports"));
        command.args(["migrate", "-q"]).current_dir(world.path("")).env_clear().uid(65534).gid(65534);
        fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(world.default_database(), Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(world.path("data"), Permissions::from_mode(0o555)).unwrap();
        command.output()
    };
    match shut(&world) {
        Ok(output) => {
            Ran::from(output).fails(3, &["data/ports.db", "was not migrated", "no copy of it", "ermission denied"]);
            assert!(fs::read(world.default_database()).unwrap() == before);
            assert_eq!(beside(&world).len(), 1);
        }
        Err(err) => not_run(&format!("migrate as another user: {err}")),
    }
}

#[test]
fn a_copy_has_the_owner_group_mode_and_acl_of_the_database() {
    let migrated = |world: &World| {
        world.line("migrate -q").ok();
        let [copy] = &*copies(world) else { panic!("one copy") };
        copy.clone()
    };
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001)]);
    fs::set_permissions(world.default_database(), Permissions::from_mode(0o604)).unwrap();
    match chown(world.default_database(), Some(12345), Some(12346)) {
        Ok(()) => assert_eq!(rights(&migrated(&world)), (12345, 12346, 0o604)),
        Err(err) => not_run(&format!("the owner of a copy: {err}")),
    }
    for (folder, acl) in [(None, Some(secret_acl())), (Some(secret_acl()), None)] {
        let world = World::new();
        world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001)]);
        fs::set_permissions(world.default_database(), Permissions::from_mode(0o600)).unwrap();
        let is_set = folder.is_none_or(|acl| set_attribute(&world.path("data"), "system.posix_acl_default", &acl))
            && acl.as_ref().is_none_or(|acl| set_attribute(&world.default_database(), ACL, acl));
        if !is_set {
            return;
        }
        let copy = migrated(&world);
        assert_eq!(rights(&copy), rights(&world.default_database()));
        assert_eq!(attribute(&copy, ACL).ok(), acl);
    }
}

#[test]
fn two_copies_of_one_second_have_two_names() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001)]);
    let names = (0..5).map(|_| {
        world.sql("DROP INDEX IF EXISTS unique_model_app");
        let ran = world.line("migrate --json -q");
        serde_json::from_str::<Value>(ran.ok()).unwrap()["copy"].as_str().unwrap().to_owned()
    });
    let names: BTreeSet<_> = names.collect();
    assert_eq!((names.len(), copies(&world).len()), (5, 5), "{names:?}");
}

#[test]
fn a_link_to_the_database_is_followed_and_a_second_name_refused() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001)]);
    std::os::unix::fs::symlink("data/ports.db", world.path("link.db")).unwrap();
    fs::hard_link(world.default_database(), world.path("second.db")).unwrap();
    world.line("migrate --database link.db").fails(3, &["link.db", "hard link"]);
    assert_eq!(beside(&world).len(), 1);
    fs::remove_file(world.path("second.db")).unwrap();
    world.line("migrate --database link.db -q").ok();
    assert_eq!(copies(&world).len(), 1, "beside the file, not beside the link");
}

#[test]
fn a_log_that_was_left_is_in_the_copy() {
    let world = old(WEAK_SCHEMA, "", "wal");
    let killed = Connection::open(world.default_database()).unwrap();
    killed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    killed.execute_batch("DELETE FROM port_configurations WHERE id > 10").unwrap();
    drop(killed);
    assert!(beside(&world).contains("ports.db-wal"));
    world.line("migrate -q").ok();
    let [copy] = &*copies(&world) else { panic!("one copy") };
    assert_eq!(rows_of(copy), platform_rows()[..10]);
    assert_eq!(fs::metadata(world.path("data/ports.db-wal")).map_or(0, |log| log.len()), 0);
}

/// The numbers of indexes that migrations added which print JSON, in ascending order.
fn added_by(migrations: Vec<Child>) -> Vec<usize> {
    let added = migrations.into_iter().map(|child| {
        let ran = finish(child);
        serde_json::from_str::<Value>(ran.ok()).unwrap()["added"].as_array().unwrap().len()
    });
    let mut added: Vec<_> = added.collect();
    added.sort_unstable();
    added
}

/// Runs a program again and again until it is told to stop: like the platform, it gives itself 30 seconds for a
/// lock, and inserts a row at a time.
const PLATFORM: &str = r#"
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30)
first = int(sys.argv[2])
for number in range(first, first + 40):
    with connection:
        connection.execute("INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, is_available)"
                           " VALUES ('platform', ?, ?, ?, 1)", (number, 20000 + number, 30000 + number))
"#;

#[test]
fn other_writers_at_work_wait_and_do_not_fail() {
    for journal_mode in ["delete", "wal"] {
        let world = old(WEAK_SCHEMA, "", journal_mode);
        let platform = |first: i64| -> Child {
            let mut python = Command::new("python3");
            python.args(["-c", PLATFORM]).arg(world.default_database()).arg(first.to_string());
            python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let writers: Vec<_> = (0..3).map(|n| platform(1 + 40 * n)).collect();
        let ours: Vec<_> = (1..=8).map(|n| world.start(&format!("allocate ours {n} -q --format plain"))).collect();
        let migrations: Vec<_> = (0..3).map(|_| world.start("migrate --json -q")).collect();
        let later: Vec<_> = (9..=16).map(|n| world.start(&format!("allocate ours {n} -q --format plain"))).collect();
        for child in writers.into_iter().chain(ours).chain(later) {
            finish(child).ok();
        }
        assert_eq!(added_by(migrations), [0, 0, 3], "one of them migrated {journal_mode}");
        let rows = world.rows();
        assert_eq!(rows.len(), 750 + 120 + 16, "{journal_mode}");
        super::storm::assert_distinct(&rows);
        is_whole(&world.default_database());
        let [copy] = &*copies(&world) else { panic!("one copy: {:?}", beside(&world)) };
        is_whole(copy);
        assert!(rows_of(copy).iter().all(|row| rows.contains(row)));
        assert_eq!(missing(&world), 0);
    }
}

/// Stops the migration after each sync of a copy, and writes a row then, if the lock can be had.
#[test]
fn the_copy_holds_what_others_wrote_until_the_table_was_locked() {
    if !has_strace() {
        return;
    }
    for journal_mode in ["delete", "wal"] {
        let world = few(journal_mode);
        let trace = world.path("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-e", "trace=fsync", "-e", "inject=fsync:signal=STOP", "-o"]).arg(&trace);
        strace.arg(env!("CARGO_BIN_EXE_manage-ports")).args(["migrate", "-q"]);
        strace.current_dir(world.path("")).env_clear().env("PATH", "/usr/bin:/bin").stdout(Stdio::null());
        let mut child = strace.spawn().unwrap();
        let (mut stops, mut written, mut refused) = (0, 0, 0);
        while child.try_wait().unwrap().is_none() {
            let trace = fs::read_to_string(&trace).unwrap_or_default();
            let lines: Vec<_> = trace.lines().collect();
            let stopped = lines.iter().filter(|line| line.contains("stopped by SIGSTOP")).count();
            if stopped == stops {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            stops = stopped;
            let synced = lines.iter().rfind(|line| line.contains("fsync(")).unwrap();
            if synced.contains(".tmp>") {
                let writer = Connection::open(world.default_database()).unwrap();
                writer.busy_timeout(Duration::ZERO).unwrap();
                let sql = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port)
                           VALUES ('late', ?1, 20000 + ?1, 30000 + ?1)";
                match writer.execute(sql, [written + 1]) {
                    Ok(_) => written += 1,
                    Err(_) => refused += 1,
                }
            }
            let pid = synced.split(' ').next().unwrap();
            assert!(Command::new("sh").args(["-c", &format!("kill -CONT {pid}")]).status().unwrap().success());
        }
        assert!(child.wait().unwrap().success());
        // Three copies were made beside writers, and the last one under the lock.
        assert_eq!((written, refused), (3, 1), "{journal_mode}");
        let rows = world.rows();
        assert_eq!(rows.len(), 103);
        let [copy] = &*copies(&world) else { panic!("one copy: {:?}", beside(&world)) };
        assert_eq!(rows_of(copy), rows, "{journal_mode}");
        assert_eq!(missing(&world), 0);
    }
}

fn has_strace() -> bool {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    if !has_it {
        not_run("interrupted migrations: no strace");
    }
    has_it
}

/// Runs a migration whose n-th call of a kind is tampered with, and whether it came to that call.
fn tampered(world: &World, calls: &str, fault: &str, number: usize) -> (Option<i32>, bool) {
    let trace = world.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-o"]).arg(&trace);
    strace.args(["-e", &format!("inject={calls}:{fault}:when={number}")]);
    strace.arg(env!("CARGO_BIN_EXE_manage-ports")).args(["migrate", "-q"]);
    let output = strace.current_dir(world.path("")).env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
    let calls = fs::read_to_string(trace).unwrap();
    // strace ends as the process did that it traced.
    (output.status.code(), calls.contains("INJECTED") || output.status.code().is_none())
}

/// Checks what an interrupted migration left, and that the next one ends it.
#[track_caller]
fn the_next_completes(world: &World, before: &[Row], what: &str) {
    // SQLite itself recovers what was left.
    let rows = rows_of(&world.default_database());
    assert_eq!(rows, before, "{what}");
    is_whole(&world.default_database());
    let left = missing(world);
    assert!(left == 0 || left == 3, "{what}: {left} indexes are missing");
    for copy in copies(world) {
        is_whole(&copy);
        assert_eq!(rows_of(&copy), before, "{what}");
        let copied: i64 = Connection::open(&copy)
            .unwrap()
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'index'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(copied, 0, "{what}: a copy of the old table");
    }
    assert_eq!(world.line("migrate -q").code, Some(0), "{what}");
    assert_eq!(missing(world), 0, "{what}");
    let names = beside(world);
    // Where the migration was complete, the next one had nothing to copy.
    assert!(left == 0 || !names.iter().any(|name| name.ends_with(".tmp")), "{what}: {names:?}");
    assert_eq!(rows_of(&world.default_database()), before, "{what}");
}

/// An old table with a few pages.
fn few(journal_mode: &str) -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.database(WEAK_SCHEMA, &platform_rows()[..100]);
    world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
    world
}

#[test]
fn a_migration_killed_at_any_moment_leaves_the_old_table_or_the_new_one() {
    if !has_strace() {
        return;
    }
    for journal_mode in ["delete", "wal"] {
        let mut killed = 0;
        for calls in ["pwrite64,write", "fsync,fdatasync", "rename,renameat,renameat2", "unlink,unlinkat", "ftruncate"]
        {
            for number in 1.. {
                let world = few(journal_mode);
                let before = world.rows();
                let (code, came_to_it) = tampered(&world, calls, "signal=KILL", number);
                if !came_to_it {
                    assert_eq!(code, Some(0));
                    break;
                }
                killed += 1;
                the_next_completes(&world, &before, &format!("{journal_mode}: killed at {calls} {number}"));
            }
        }
        assert!(killed > 15, "killed only {killed} times with {journal_mode}");
    }
}

#[test]
fn a_disk_that_fails_or_is_full_leaves_the_old_table() {
    if !has_strace() {
        return;
    }
    for journal_mode in ["delete", "wal"] {
        for (calls, error) in [("pwrite64", "ENOSPC"), ("fsync,fdatasync", "EIO"), ("renameat2", "EACCES")] {
            let mut failed = 0;
            for number in 1.. {
                let world = few(journal_mode);
                let before = world.rows();
                let (code, came_to_it) = tampered(&world, calls, &format!("error={error}"), number);
                if !came_to_it {
                    break;
                }
                let what = format!("{journal_mode}: {calls} {number} fails with {error}");
                if code != Some(0) {
                    failed += 1;
                    assert_eq!(code, Some(3), "{what}");
                    // A copy is kept only where the change may have taken place.
                    assert!(copies(&world).is_empty() || missing(&world) == 0, "{what}: {:?}", beside(&world));
                    assert!(beside(&world).iter().all(|name| !name.ends_with(".tmp")), "{what}: {:?}", beside(&world));
                }
                the_next_completes(&world, &before, &what);
            }
            assert!(failed > 0, "{journal_mode}: {calls} never failed");
        }
    }
}

#[test]
fn a_disk_with_too_little_room_is_an_error_and_nothing_is_changed() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &platform_rows());
    fs::create_dir(world.path("small")).unwrap();
    let pages = fs::metadata(world.default_database()).unwrap().len().div_ceil(4096);
    // From no room for the copy to room for all.
    for (failed, room) in (1..).step_by(6).enumerate() {
        let size = (pages + room) * 4;
        let script = format!(
            "mount -t tmpfs -o size={size}k none small && cp data/ports.db small/ports.db || exit
             \"$0\" migrate -q --database small/ports.db; code=$?
             cmp data/ports.db small/ports.db && echo same; ls -A small; exit $code"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "--propagation", "private", "sh", "-c", &script, env!("CARGO_BIN_EXE_manage-ports")]);
        unshare.current_dir(world.path("")).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let Ok(output) = unshare.output() else { return not_run("a small disk: no unshare(1)") };
        let ran = Ran::from(output);
        if ran.stderr.contains("not permitted") || ran.stderr.contains("ermission denied") {
            return not_run(&format!("a small disk: {}", ran.stderr));
        }
        if ran.code == Some(0) {
            assert!(failed > 1, "{failed} sizes were too small");
            return;
        }
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.contains("full") || ran.stderr.contains("No space"), "{ran:?}");
        let names: Vec<_> = ran.stdout.lines().filter(|name| !name.ends_with("-queue")).collect();
        assert_eq!(names, ["same", "ports.db"], "{room} pages: {ran:?}");
    }
}

/// Tables of PostgreSQL: what is different from the platform's, and the names that are added and replaced.
const SERVER_SHAPES: [(&str, &[&str], &[&str]); 7] = [
    ("", &[], &[]),
    ("DROP INDEX ix_port_configurations_backend_port", &[BACKEND], &[]),
    (
        "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
         DROP INDEX ix_port_configurations_backend_port, ix_port_configurations_frontend_port",
        &[APP, BACKEND, FRONTEND],
        &[],
    ),
    (
        "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
         CREATE INDEX unique_model_app ON port_configurations (model, app_num)",
        &[],
        &[APP],
    ),
    (
        "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
         ALTER TABLE port_configurations ADD CONSTRAINT unique_model_app UNIQUE (model, app_num, id)",
        &[],
        &[APP],
    ),
    (
        "DROP INDEX ix_port_configurations_backend_port, ix_port_configurations_frontend_port;
         CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port) WHERE id > 9;
         CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (abs(frontend_port))",
        &[],
        &[BACKEND, FRONTEND],
    ),
    (
        "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
         CREATE SCHEMA apart; ALTER TABLE port_configurations SET SCHEMA apart;
         CREATE TABLE others (id int); CREATE INDEX unique_model_app ON others (id);
         ALTER ROLE CURRENT_USER IN DATABASE DB SET search_path = apart, public",
        &[APP],
        &[],
    ),
];

/// The definition of the table, without the key that each dump has of its own.
fn dump(world: &World) -> String {
    let dump = world.server().dump();
    dump.lines().filter(|line| !line.contains("restrict")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_table_of_every_shape_on_a_server_becomes_the_platforms() {
    for (difference, added, replaced) in SERVER_SHAPES {
        let Some(world) = on_server("migrations") else { return };
        world.sql(SERVER_SCHEMA);
        let platforms = dump(&world);
        world.sql(&difference.replace("DB", world.server().name()));
        let insert = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES";
        world.sql(&format!("{insert} ('a', 1, 5001, 8001), ('b', 1, 5003, 8003)"));
        let rows = world.rows();
        let before = dump(&world);
        let has_work = !added.is_empty() || !replaced.is_empty();

        let dry_run = world.line("migrate --dry-run --json");
        assert_eq!((dry_run.code, dry_run.stderr.as_str()), (Some(i32::from(has_work)), ""), "{difference}");
        assert_eq!(dump(&world), before);
        let ran = world.line("migrate --json");
        let done: Value = serde_json::from_str(ran.ok()).unwrap();
        for done in [&serde_json::from_str(&dry_run.stdout).unwrap(), &done] {
            assert_eq!(names_of(&done["added"]), added.iter().copied().collect(), "{difference}");
            assert_eq!(names_of(&done["replaced"]), replaced.iter().copied().collect(), "{difference}");
            assert_eq!(done["copy"], Value::Null);
        }
        assert_eq!(missing(&world), 0, "{difference}");
        if !difference.contains("SCHEMA") {
            assert_eq!(dump(&world), platforms, "{difference}");
        }
        for line in ["migrate", "migrate --dry-run"] {
            let ran = world.line(line);
            assert!(ran.ok().starts_with("✓ Nothing to migrate in "), "{ran:?}");
        }
        assert_eq!(world.rows(), rows);
        world.line("allocate new 1 -q").ok();
    }
}

const WITHOUT_UNIQUE: &str = "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
    DROP INDEX ix_port_configurations_backend_port, ix_port_configurations_frontend_port";

#[test]
fn rows_in_the_way_are_listed_on_a_server_too() {
    let Some(world) = on_server("conflicts in the way of a migration") else { return };
    world.sql(SERVER_SCHEMA);
    world.sql(WITHOUT_UNIQUE);
    conflicts(&world);
}

#[test]
fn a_role_or_a_name_that_does_not_do_is_an_error_and_nothing_is_changed() {
    let Some(world) = on_server("migrations that are refused") else { return };
    world.sql(SERVER_SCHEMA);
    world.sql(WITHOUT_UNIQUE);
    let role = format!("mere_{}", world.server().name());
    world.sql(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON port_configurations TO {role}"));
    let url = world.server().url_of(&role);
    let before = dump(&world);
    let ran = world.run(["migrate", "--database", &url]);
    ran.fails(3, &["its table belongs to postgres", "hint: run `manage-ports migrate` as the owner"]);
    let dry_run = world.run(["migrate", "--dry-run", "--database", &url]);
    assert_eq!((dry_run.code, dry_run.stdout.lines().count()), (Some(1), 3), "{dry_run:?}");

    world.sql("ALTER TABLE port_configurations ADD CONSTRAINT unique_model_app CHECK (app_num > 0)");
    world.line("migrate").fails(3, &["unique_model_app is the name of something else"]);
    world.sql("ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app");
    assert_eq!(dump(&world), before);
    world.sql("DROP TABLE port_configurations");
    world.line("migrate").fails(3, &["has no table port_configurations"]);
    world.sql(&format!("DROP ROLE {role}"));
}

#[test]
fn other_writers_on_a_server_wait_and_do_not_fail() {
    let Some(world) = on_server("writers during a migration") else { return };
    world.sql(SERVER_SCHEMA);
    world.sql(WITHOUT_UNIQUE);
    world.sql(
        "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port)
               SELECT 'old', n, 20000 + n, 40000 + n FROM generate_series(1, 5000) AS n",
    );
    let ours = |apps: std::ops::RangeInclusive<i32>| {
        apps.map(|n| world.start(&format!("allocate ours {n} -q --format plain"))).collect::<Vec<_>>()
    };
    let writers = ours(1..=12);
    let migrations: Vec<_> = (0..2).map(|_| world.start("migrate --json -q")).collect();
    let writers: Vec<_> = writers.into_iter().chain(ours(13..=24)).collect();
    for child in writers {
        finish(child).ok();
    }
    assert_eq!(added_by(migrations), [0, 3]);
    assert_eq!(world.rows().len(), 5024);
    assert_eq!(missing(&world), 0);
}

#[test]
fn a_session_in_the_way_on_a_server_is_waited_for_and_named() {
    let Some(world) = on_server("a migration that waits") else { return };
    world.sql(SERVER_SCHEMA);
    world.sql(WITHOUT_UNIQUE);
    let writer = world.server().session("BEGIN; LOCK TABLE port_configurations IN ROW EXCLUSIVE MODE");
    let message = world.line("migrate --timeout 300ms --json").fails_as_json(3, "locked");
    assert!(message.contains("for other writers to finish: process "), "{message}");
    assert!(message.contains("of user postgres (psql, idle in transaction) holds the lock"), "{message}");
    drop(writer);
    assert_eq!(missing(&world), 3);
    let reader = world.server().session("BEGIN; LOCK TABLE port_configurations IN ACCESS SHARE MODE");
    let message = world.line("migrate --timeout 300ms --json").fails_as_json(3, "locked");
    assert!(message.contains("(psql, idle in transaction) holds the lock"), "{message}");
    drop(reader);
    world.line("migrate -q").ok();
}
