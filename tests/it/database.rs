//! Databases in every state: missing, broken, locked, read-only, written by others, half written.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};

use crate::fixture::{MADE, Ran, SCHEMA, WEAK_SCHEMA, World, commands, interrupt, platform_rows, row, rows_of};

/// A line for every command that opens the database, on a world of the platform's.
const LINES: [&str; 13] = [
    "allocate --model maker_model-0.0 --app 1",
    "allocate --model new --app 1",
    "reserve --model maker_model-0.0 --app 1 --for 1h",
    "exec --model maker_model-0.0 --app 1 -- printenv BACKEND_PORT",
    "list",
    "check",
    "cleanup --include-listening --min-age 0s",
    "import --from-apps",
    "show maker_model-0.0 1",
    "status",
    "map",
    "migrate",
    "release maker_model-0.0 1",
];

/// The commands that open no database that is there already.
const OTHERS: [&str; 5] = ["completions", "help", "init", "man", "selftest"];

/// The command that opens the database and has a format of its own in place of JSON.
const WITHOUT_JSON: &str = "metrics";

/// The lines that only read: what they look for is there.
const READERS: [&str; 6] = [
    "list",
    "check",
    "cleanup --dry-run",
    "migrate",
    "allocate --model maker_model-0.0 --app 1",
    "exec --model maker_model-0.0 --app 1 -- printenv BACKEND_PORT",
];

/// The lines that write.
const WRITERS: [&str; 4] = [
    "allocate --model new --app 1",
    "reserve --model maker_model-0.0 --app 1 --for 1h",
    "cleanup",
    "release maker_model-0.0 1",
];

/// The platform's world, in which all apps but one are orphans.
fn platform() -> World {
    let world = World::with_platform();
    world.apps(["maker_model-0.0/app1"]);
    world
}

/// The bytes of the platform's database.
fn platform_bytes() -> Vec<u8> {
    fs::read(World::with_platform().default_database()).unwrap()
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // The file on which writers wait in turn holds nothing, and stays.
    names.retain(|name| !name.ends_with("-queue"));
    names.sort();
    names
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Every object of a schema, as SQLite keeps it.
fn schema_of(connection: &Connection) -> Vec<(String, String, String, Option<String>)> {
    let mut objects =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").unwrap();
    let objects = objects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    objects.map(Result::unwrap).collect()
}

/// Checks that every command refuses the default database and leaves all as it was.
#[track_caller]
fn is_refused_by_all(world: &World, why: &str) {
    world.apps(["maker_model-0.0/app1"]);
    let before = fs::read(world.default_database()).unwrap();
    let beside = names(&world.path("data"));
    for line in LINES {
        world.line(line).fails(3, &["data/ports.db", why]);
        let message = world.line(&format!("--json {line}")).fails_as_json(3, "database");
        assert!(message.contains("data/ports.db") && message.contains(why), "{line}: {message}");
        assert!(fs::read(world.default_database()).unwrap() == before, "{line} changed the file: {why}");
        assert_eq!(names(&world.path("data")), beside, "{line}");
    }
}

/// Starts a line with `-v` and returns once it waits.
fn start_waiting(world: &World, line: &str) -> (Child, BufReader<ChildStderr>) {
    let mut child = world.start(&format!("-v --timeout 60s {line}"));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut talk = String::new();
    while !talk.contains("waiting") {
        assert!(stderr.read_line(&mut talk).unwrap() > 0, "{line} ended: {talk}");
    }
    (child, stderr)
}

/// What came of a line that was waiting, its talk from there on.
fn finish((child, mut stderr): (Child, BufReader<ChildStderr>)) -> Ran {
    // Both at once: a pipe that is full stops the writer.
    let rest = thread::spawn(move || io::read_to_string(&mut stderr).unwrap());
    let ran = Ran::from(child.wait_with_output().unwrap());
    Ran { stderr: rest.join().unwrap(), ..ran }
}

/// The number after a word of a message.
#[track_caller]
fn number_after(word: &str, message: &str) -> f64 {
    let rest = message.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {message:?}")).1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Checks that a line gives up on the lock after its timeout, and says all there is to say.
#[track_caller]
fn gives_up(world: &World, line: &str, what: &str) {
    let start = Instant::now();
    let message = world.line(&format!("-q --json --timeout 300ms {line}")).fails_as_json(3, "locked");
    let took = start.elapsed().as_secs_f64();
    // Far less than without --timeout, also on a machine that is busy.
    assert!((0.3..15.0).contains(&took), "{line} took {took} s");
    assert!((0.3..15.0).contains(&number_after("waited ", &message)), "{message}");
    assert!(number_after("tried ", &message) > 1.0, "{message}");
    assert!(message.contains(what) && message.contains("data/ports.db"), "{message}");
}

#[test]
fn every_command_that_opens_the_database_has_its_line() {
    for command in commands() {
        let has_line = LINES.iter().any(|line| line.split(' ').next() == Some(&command));
        assert!(has_line != (command == WITHOUT_JSON || OTHERS.contains(&command.as_str())), "{command}");
    }
}

#[test]
fn there_are_no_metrics_of_a_database_that_cannot_be_used() {
    let world = World::new();
    for bytes in [b"no".to_vec(), vec![0; 4096], platform_bytes()[..9000].to_vec()] {
        world.write("data/ports.db", &bytes);
        world.line(WITHOUT_JSON).fails(3, &["data/ports.db"]);
        assert!(fs::read(world.default_database()).unwrap() == bytes);
    }
    world.line("metrics --database none.db").fails(3, &["none.db"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    for text in ["no", "model,app_num\nm,1\n", &"a line of a text\n".repeat(5000), "SQLite format 3", "{}\n"] {
        let world = World::new();
        world.write("data/ports.db", text);
        is_refused_by_all(&world, "is not a SQLite database");
    }
}

#[test]
fn a_file_of_one_byte_is_no_database_and_not_an_empty_file() {
    for byte in [b'x', b'\n', 0] {
        let world = World::new();
        world.write("data/ports.db", [byte]);
        is_refused_by_all(&world, "is not a SQLite database");
    }
}

#[test]
fn a_zeroed_file_is_refused_and_left_alone() {
    let whole = platform_bytes();
    for len in [2, 100, 4096, whole.len()] {
        let world = World::new();
        world.write("data/ports.db", vec![0; len]);
        is_refused_by_all(&world, "is not a SQLite database");
    }
    let world = World::new();
    world.write("data/ports.db", [&[0; 4096], &whole[4096..]].concat());
    is_refused_by_all(&world, "is not a SQLite database");
}

#[test]
fn a_truncated_database_is_refused_and_left_alone() {
    let whole = platform_bytes();
    for len in [16, 100, 512, 4096, 5000, whole.len() / 2, whole.len() - 4096] {
        let world = World::new();
        world.write("data/ports.db", &whole[..len]);
        // The smallest page has 512 bytes; less holds no header that SQLite reads.
        is_refused_by_all(&world, if len < 512 { "is not a SQLite database" } else { "is damaged" });
    }
}

#[test]
fn a_damaged_page_is_refused_and_left_alone() {
    let world = World::with_platform();
    let (root, page_size): (u32, u32) = Connection::open(world.default_database())
        .unwrap()
        .query_row(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'port_configurations'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let page = ((root - 1) * page_size) as usize..(root * page_size) as usize;
    for byte in [0, 0xff] {
        let mut bytes = platform_bytes();
        bytes[page.clone()].fill(byte);
        fs::write(world.default_database(), bytes).unwrap();
        is_refused_by_all(&world, "damaged");
    }
}

#[test]
fn a_database_without_the_table_is_refused_and_left_alone() {
    for schema in [
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)",
        "CREATE TABLE gone (id INTEGER); DROP TABLE gone",
        "CREATE VIEW port_configurations AS SELECT 1 AS model",
    ] {
        let world = World::new();
        world.database(schema, &[]);
        is_refused_by_all(&world, "port_configurations");
    }
}

#[test]
fn a_database_that_lacks_a_column_is_refused_and_left_alone() {
    for column in [
        "model",
        "app_num",
        "frontend_port",
        "backend_port",
        "is_available",
        "metadata_json",
        "created_at",
        "updated_at",
    ] {
        let world = World::new();
        world.database(WEAK_SCHEMA, &platform_rows());
        world.sql(&format!("ALTER TABLE port_configurations DROP COLUMN {column}"));
        is_refused_by_all(&world, column);
    }
}

#[test]
fn a_database_of_a_newer_format_is_refused_and_left_alone() {
    for versions in [[3, 3], [2, 3], [1, 3], [4, 4]] {
        let world = World::new();
        let mut bytes = platform_bytes();
        bytes[18..20].copy_from_slice(&versions);
        world.write("data/ports.db", bytes);
        is_refused_by_all(&world, "newer");
    }
}

#[test]
fn a_database_that_a_newer_program_only_allows_to_read_is_not_written() {
    let world = platform();
    let mut bytes = platform_bytes();
    bytes[18] = 3;
    fs::write(world.default_database(), &bytes).unwrap();
    for line in WRITERS {
        world.line(line).fails(3, &["data/ports.db"]);
        assert!(fs::read(world.default_database()).unwrap() == bytes, "{line}");
        assert_eq!(names(&world.path("data")), ["ports.db"], "{line}");
    }
}

#[test]
fn a_folder_is_no_database() {
    let world = World::new();
    world.apps(["m/app1"]);
    world.write("data/ports.db/file", "");
    for line in LINES {
        world.line(line).fails(3, &["data/ports.db", "folder"]);
        assert_eq!(names(&world.path("data")), ["ports.db"]);
        assert_eq!(names(&world.path("data/ports.db")), ["file"]);
    }
}

#[test]
fn a_file_where_a_folder_should_be_is_named() {
    let world = World::new();
    world.apps(["m/app1"]);
    world.write("data", "text");
    for line in LINES {
        world.line(line).fails(3, &["data/ports.db"]);
    }
    assert_eq!(fs::read_to_string(world.path("data")).unwrap(), "text");
}

#[test]
fn a_fifo_is_no_database_and_nobody_waits_for_its_other_end() {
    let world = World::new();
    world.apps(["m/app1"]);
    fs::create_dir(world.path("data")).unwrap();
    assert!(Command::new("mkfifo").arg(world.default_database()).status().unwrap().success());
    for line in LINES {
        world.line(line).fails(3, &["data/ports.db"]);
    }
    assert!(fs::metadata(world.default_database()).unwrap().file_type().is_fifo());
    assert_eq!(names(&world.path("data")), ["ports.db"]);
}

#[test]
fn a_default_database_that_does_not_exist_reads_as_empty_and_is_not_made() {
    let world = World::new();
    world.apps(["m/app1"]);
    world.line("list").is(0, "No port allocations found in data/ports.db.\n", "");
    world.line("list --json").is(0, "[]\n", "");
    world.line("cleanup").is(0, "✓ No orphaned allocations found\n", "Cleaning up all orphaned allocations...\n");
    world.line("release m 1").is(1, "✗ No allocation found for m/app1\n", "no row of data/ports.db has the model m\n");
    let ran = world.line("check");
    assert!(ran.ok().starts_with("✓ No port conflicts found.\n"), "{ran:?}");
    assert!(ran.stdout.contains("m/app1") && !ran.stdout.contains("unique"), "{ran:?}");
    assert_eq!(names(&world.path("")), ["generated"]);
}

#[test]
fn an_empty_default_database_reads_as_empty_and_stays_so() {
    let world = World::new();
    world.apps(["m/app1"]);
    world.write("data/ports.db", "");
    world.line("list").is(0, "No port allocations found in data/ports.db.\n", "");
    world.line("cleanup -q").is(0, "✓ No orphaned allocations found\n", "");
    world.line("release m 1").is(1, "✗ No allocation found for m/app1\n", "no row of data/ports.db has the model m\n");
    assert!(world.line("check").ok().starts_with("✓ No port conflicts found.\n"));
    assert_eq!(names(&world.path("data")), ["ports.db"]);
    assert_eq!(fs::metadata(world.default_database()).unwrap().len(), 0);

    let ran = world.line("allocate --model m --app 1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("data/ports.db"), "{ran:?}");
    assert_eq!(schema_of(&Connection::open(world.default_database()).unwrap()), schema_of(&platforms_own()));
}

#[test]
fn a_database_that_was_named_must_exist_for_all_but_allocate() {
    for is_empty in [false, true] {
        let world = World::new();
        world.apps(["m/app1"]);
        if is_empty {
            world.write("named/ours.db", "");
        }
        let before = names(&world.path(""));
        for line in ["list", "check", "cleanup", "cleanup --dry-run", "release m 1"] {
            let by_flag = world.line(&format!("{line} --database named/ours.db"));
            let mut command = world.command();
            command.env("MANAGE_PORTS_DATABASE", "named/ours.db").args(line.split_whitespace());
            let by_variable = Ran::of(&mut command);
            world.write("ours.toml", "database = 'named/ours.db'\napps_dir = 'generated/apps'");
            let by_file = world.line(&format!("{line} --config ours.toml"));
            fs::remove_file(world.path("ours.toml")).unwrap();
            for ran in [by_flag, by_variable, by_file] {
                ran.fails(3, &["named/ours.db"]);
            }
            world.line(&format!("--json {line} --database named/ours.db")).fails_as_json(3, "database");
        }
        assert_eq!(names(&world.path("")), before);
        if is_empty {
            assert_eq!(fs::metadata(world.path("named/ours.db")).unwrap().len(), 0);
            assert_eq!(names(&world.path("named")), ["ours.db"]);
        }
    }
}

#[test]
fn allocate_makes_a_database_that_was_named_and_says_so() {
    for (config, variable, flag, is_empty) in [
        ("", "", "--database a/b/c/ours.db", false),
        ("", "a/b/c/ours.db", "", false),
        ("database = 'a/b/c/ours.db'", "", "", false),
        ("", "", "--database a/b/c/ours.db", true),
    ] {
        let world = World::new();
        world.write("manage-ports.toml", config);
        if is_empty {
            world.write("a/b/c/ours.db", "");
        }
        let allocate = || {
            let line = format!("allocate --model m --app 1 {flag}");
            Ran::of(world.command().env("MANAGE_PORTS_DATABASE", variable).args(line.split_whitespace()))
        };
        let ran = allocate();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.starts_with("m/app1: backend ") && ran.stdout.lines().count() == 1, "{ran:?}");
        assert!(ran.stderr.contains("a/b/c/ours.db") && ran.stderr.lines().count() == 1, "{ran:?}");
        assert_eq!(names(&world.path("a/b/c")), ["ours.db", "ours.db-shm", "ours.db-wal"]);
        assert_eq!(rows_of(&world.path("a/b/c/ours.db")).len(), 1);
        assert!(!world.path("data").exists());

        // The second time there is nothing to say.
        assert_eq!(allocate().ok(), format!("{} (existing)\n", ran.stdout.trim_end()));
    }
}

#[test]
fn allocate_makes_the_default_database_and_says_so() {
    let world = World::new();
    let ran = world.line("allocate --model m --app 1 --json");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("data/ports.db") && ran.stderr.lines().count() == 1, "{ran:?}");
    assert_eq!(names(&world.path("data")), ["ports.db", "ports.db-shm", "ports.db-wal"]);
}

#[test]
fn a_refused_allocation_leaves_no_database_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.local_addr().unwrap().port();
    for is_empty in [false, true] {
        let world = World::new();
        world
            .write("manage-ports.toml", "database = 'a/b/ours.db'\n[ports]\nmax = 8003\nexclude = [5003, '7000-7010']");
        if is_empty {
            world.write("a/b/ours.db", "");
        }
        for (args, code) in [
            ("--app 1-3", 4),
            ("--app 1 --backend-port 7005 --frontend-port 8001", 6),
            ("--app 1 --backend-port 5001 --frontend-port 6000", 6),
            (&format!("--app 1 --backend-port {listening} --frontend-port 8001"), 6),
            ("--app 1 --backend-port 5001 --frontend-port 5001", 2),
            ("--app 0", 2),
            ("--app 1-2 --format env", 2),
            ("--app 1 --format github", 2),
        ] {
            world.line(&format!("allocate --model m {args}")).fails(code, &[]);
            if is_empty {
                assert_eq!(fs::metadata(world.path("a/b/ours.db")).unwrap().len(), 0, "{args}");
                assert_eq!(names(&world.path("a/b")), ["ours.db"], "{args}");
            } else {
                assert_eq!(names(&world.path("")), ["manage-ports.toml"], "{args}");
            }
        }
    }
}

/// A connection to a new database with the platform's schema.
fn platforms_own() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection
}

#[test]
fn a_new_database_is_the_platforms_object_by_object() {
    let world = World::new();
    assert_eq!(world.line("allocate --model m --app 1").code, Some(0));
    let made = Connection::open(world.default_database()).unwrap();
    let objects = schema_of(&made);
    assert_eq!(objects, schema_of(&platforms_own()));
    assert_eq!(objects.len(), 7, "a table, its constraint's index and five more: {objects:?}");
}

#[test]
fn a_locked_database_is_given_up_after_the_timeout() {
    let world = platform();
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for line in LINES {
        gives_up(&world, line, "writer");
    }
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    assert_eq!(world.rows(), platform_rows());
    assert_eq!(names(&world.path("data")), ["ports.db"]);
}

#[test]
fn a_writer_holds_up_only_writers() {
    for journal_mode in ["delete", "wal"] {
        let world = platform();
        world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
        let lock = Connection::open(world.default_database()).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        for line in WRITERS {
            gives_up(&world, line, "writer");
        }
        for line in READERS {
            let ran = world.line(&format!("--timeout 0s -q {line}"));
            assert!(!ran.ok().is_empty(), "{journal_mode}: {line}");
        }
        lock.execute_batch("ROLLBACK").unwrap();
        assert_eq!(world.rows(), platform_rows());
    }
}

#[test]
fn a_write_ahead_log_that_one_process_keeps_to_itself_is_given_up_after_the_timeout() {
    let world = platform();
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; BEGIN IMMEDIATE").unwrap();
    for line in LINES {
        gives_up(&world, line, "writer");
    }
    drop(lock);
    assert_eq!(world.rows(), platform_rows());
}

#[test]
fn a_reader_who_does_not_finish_holds_up_a_commit_and_nothing_is_written() {
    for line in WRITERS {
        let world = platform();
        let reader = Connection::open(world.default_database()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM port_configurations").unwrap();
        gives_up(&world, line, "reader");
        assert_eq!(names(&world.path("data")), ["ports.db"], "{line}");
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(world.rows(), platform_rows(), "{line}");
    }
}

#[test]
fn a_lock_that_is_released_in_time_was_only_a_wait() {
    for (line, expected) in [
        ("allocate --model maker_model-0.0 --app 1", "maker_model-0.0/app1: backend 5001, frontend 8001 (existing)\n"),
        ("allocate --model new --app 1 --no-probe", "new/app1: backend "),
        ("list", "Model"),
        ("check", "✓ No port conflicts found.\n"),
        ("cleanup --include-listening", "  maker_model-0.0/app2: backend 5003, frontend 8003\n"),
        ("release maker_model-0.0 1", "✓ Released ports for maker_model-0.0/app1\n"),
    ] {
        let world = platform();
        let lock = Connection::open(world.default_database()).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let waiting = start_waiting(&world, line);
        lock.execute_batch("COMMIT").unwrap();
        let ran = finish(waiting);
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        assert!(ran.stdout.trim_start().starts_with(expected.trim_start()), "{line}: {ran:?}");
    }
}

#[test]
fn a_commit_goes_through_when_the_readers_have_finished() {
    let world = platform();
    let reader = Connection::open(world.default_database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM port_configurations").unwrap();
    let waiting = start_waiting(&world, "release maker_model-0.0 1");
    reader.execute_batch("COMMIT").unwrap();
    let ran = finish(waiting);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "✓ Released ports for maker_model-0.0/app1\n"), "{ran:?}");
    assert_eq!(world.rows(), platform_rows()[1..]);
}

/// Sends it Ctrl-C and checks that it ends with 130 at once, having said nothing on stdout.
#[track_caller]
fn ends_on_interrupt(waiting: (Child, BufReader<ChildStderr>)) -> Ran {
    let start = Instant::now();
    interrupt(&waiting.0);
    let ran = finish(waiting);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(130), ""), "{ran:?}");
    ran
}

#[test]
fn an_interrupt_ends_a_wait_at_once_with_nothing_written() {
    for line in LINES {
        let world = platform();
        let lock = Connection::open(world.default_database()).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let ran = ends_on_interrupt(start_waiting(&world, line));
        assert!(ran.stderr.ends_with("error: interrupted\n"), "{line}: {ran:?}");
        let ran = ends_on_interrupt(start_waiting(&world, &format!("--json {line}")));
        let last = ran.stderr.lines().last().unwrap();
        assert_eq!(serde_json::from_str::<Value>(last).unwrap()["error"]["kind"], "interrupted", "{line}: {ran:?}");
        lock.execute_batch("ROLLBACK").unwrap();
        assert_eq!(world.rows(), platform_rows(), "{line}");
        drop(lock);
        assert_eq!(names(&world.path("data")), ["ports.db"], "{line}");
    }
}

#[test]
fn an_interrupt_while_readers_hold_up_the_commit_takes_it_back() {
    for line in WRITERS {
        let world = platform();
        let reader = Connection::open(world.default_database()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM port_configurations").unwrap();
        let ran = ends_on_interrupt(start_waiting(&world, line));
        assert!(ran.stderr.ends_with("error: interrupted\n"), "{line}: {ran:?}");
        assert_eq!(names(&world.path("data")), ["ports.db"], "{line}");
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(world.rows(), platform_rows(), "{line}");
    }
}

/// The binary as a user whom permissions hold back, which they do not root.
pub fn unprivileged(world: &World) -> Command {
    if fs::metadata(world.path("")).unwrap().uid() != 0 {
        return world.command();
    }
    mode(&world.path(""), 0o755);
    let copy = world.path("copy-of-the-binary");
    if !copy.exists() {
        // By a process of its own: a child of another test's would inherit the copy open for
        // writing, and what is open for writing cannot be run.
        let binary = env!("CARGO_BIN_EXE_manage-ports");
        assert!(Command::new("cp").arg(binary).arg(&copy).status().unwrap().success());
    }
    let mut command = Command::new(copy);
    command.current_dir(world.path("")).env_clear().uid(65534).gid(65534);
    command
}

/// Checks that readers are answered, and writers refused with nothing changed.
#[track_caller]
fn is_only_read(world: &World) {
    let before = fs::read(world.default_database()).unwrap();
    let run = |line: &str| Ran::of(unprivileged(world).args(line.split_whitespace()));
    for line in READERS {
        let ran = run(&format!("-q {line}"));
        assert!(!ran.ok().is_empty(), "{line}: {ran:?}");
    }
    for line in WRITERS {
        run(line).fails(3, &["data/ports.db"]);
        let ran = run(&format!("--json -q {line}"));
        let message = ran.fails_as_json(3, "database");
        assert!(message.contains("data/ports.db"), "{line}: {message}");
    }
    assert!(fs::read(world.default_database()).unwrap() == before);
    assert_eq!(names(&world.path("data")), ["ports.db"]);
}

#[test]
fn a_read_only_database_is_read_and_not_written() {
    let world = platform();
    mode(&world.default_database(), 0o444);
    mode(&world.path("data"), 0o777);
    is_only_read(&world);
}

#[test]
fn a_database_in_a_read_only_folder_is_read_and_not_written() {
    let world = platform();
    mode(&world.default_database(), 0o666);
    mode(&world.path("data"), 0o555);
    is_only_read(&world);
    mode(&world.path("data"), 0o755);
}

#[test]
fn a_write_ahead_log_in_a_read_only_folder_is_read_and_left_alone() {
    let world = platform();
    world.sql("PRAGMA journal_mode = wal");
    mode(&world.default_database(), 0o444);
    mode(&world.path("data"), 0o555);
    is_only_read(&world);
    mode(&world.path("data"), 0o755);
}

#[test]
fn a_database_that_may_not_be_read_is_not_taken_for_an_empty_one() {
    let world = platform();
    let run = |line: &str| Ran::of(unprivileged(&world).args(line.split_whitespace()));
    mode(&world.default_database(), 0);
    for line in LINES {
        run(line).fails(3, &["data/ports.db"]);
    }
    mode(&world.default_database(), 0o644);
    mode(&world.path("data"), 0);
    for line in LINES {
        run(line).fails(3, &["data/ports.db"]);
    }
    mode(&world.path("data"), 0o755);
    assert_eq!(world.rows(), platform_rows());
}

#[test]
fn a_database_that_may_not_be_made_is_an_error() {
    let world = World::new();
    fs::create_dir(world.path("data")).unwrap();
    mode(&world.path("data"), 0o555);
    let allocate = |database: &str| {
        let mut command = unprivileged(&world);
        Ran::of(command.args(["allocate", "--model", "m", "--app", "1", "--database", database]))
    };
    allocate("data/ports.db").fails(3, &["data/ports.db"]);
    allocate("data/deep/ports.db").fails(3, &["data/deep/ports.db"]);
    mode(&world.path("data"), 0o755);
    assert_eq!(names(&world.path("data")), [""; 0]);
}

/// A model that does to a terminal what nobody wants.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\nb\tc\r\u{7f}\u{9b}31md";

/// A world with rows that others wrote and that break the rules, and how many there are.
fn broken_rules() -> (World, usize) {
    let world = World::new();
    world.database(SCHEMA, &[row("good", 1, 5001, 8001), row(HOSTILE, 1, 5003, 8003)]);
    world.sql(&format!(
        "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, created_at, metadata_json) VALUES
         ('{}', 1, 5005, 8005, '{MADE}', NULL),
         ('m', 0, 5007, 8007, '{MADE}', 'no json'),
         ('m', -1, 5009, 8009, '{MADE}', '[1, 2]'),
         ('text', 1, 'http', 'x' || char(27) || '[2J', '{MADE}', '{{\"reserved_until\": null}}'),
         ('no times', 1, 5011, 8011, NULL, NULL),
         ('no time', 1, 5013, 8013, 'yester' || char(27) || 'day', NULL),
         ('large', 1, 70000, -5, '{MADE}', NULL),
         ('..', 1, 5015, 8015, '{MADE}', NULL),
         ('', 1, 5017, 8017, '{MADE}', NULL),
         ('nul' || char(0) || 'nul', 1, 5019, 8019, '{MADE}', NULL),
         (CAST(x'61ff62' AS TEXT), 1, 5021, 8021, '{MADE}', NULL)",
        "x".repeat(300)
    ));
    world.apps(["elsewhere/app1"]);
    (world, 13)
}

/// The apps of these rows that a command line can name.
const NAMED: [(&str, &str); 10] = [
    (HOSTILE, "1"),
    ("m", "0"),
    ("m", "-1"),
    ("text", "1"),
    ("no times", "1"),
    ("no time", "1"),
    ("large", "1"),
    ("..", "1"),
    ("", "1"),
    ("a\u{fffd}b", "1"),
];

/// Checks that a terminal would obey nothing in it but line ends, and tabs where they separate.
#[track_caller]
fn is_harmless(text: &str, separator: char) {
    let bad = text.chars().find(|&c| c.is_control() && c != '\n' && c != separator);
    assert_eq!(bad, None, "in {text:?}");
}

#[test]
fn a_name_that_ends_like_a_folders_is_no_database() {
    let world = World::new();
    world.line("--database new/ allocate --model m --app 1").fails(3, &["new/ is a folder"]);
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
}

#[test]
fn a_reader_who_may_not_write_reads_without_a_log() {
    let world = World::new();
    world.line("allocate --model m --app 1 --no-probe --quiet").ok();
    for (folder, folder_mode, file_mode) in [("may write beside", 0o777, 0o644), ("may write it", 0o555, 0o666)] {
        let database = world.write(&format!("{folder}/p?.db"), fs::read(world.default_database()).unwrap());
        fs::set_permissions(&database, Permissions::from_mode(file_mode)).unwrap();
        fs::set_permissions(world.path(folder), Permissions::from_mode(folder_mode)).unwrap();
        world.write("manage-ports.toml", format!("database = \"{folder}/p?.db\"\n"));
        let Some(list) = world.line_as_nobody("list --format plain") else { return };
        assert_eq!(list.ok().lines().count(), 1, "{list:?}");
        assert_eq!(world.line_as_nobody("check").unwrap().code, Some(0));
        world.line_as_nobody("allocate --model m --app 1 --format plain").unwrap().is(0, "5001 8001\n", "");
        world.line_as_nobody("allocate --model m --app 2").unwrap().fails(3, &["is read-only"]);
        let left: Vec<_> = fs::read_dir(world.path(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name == "p?.db-wal" || name == "p?.db-shm"), "{left:?}");

        world.line("allocate --model m --app 2 --no-probe").ok();
        assert_eq!(world.line("list --format plain").ok().lines().count(), 2);

        assert_eq!(world.line_as_nobody("list --format plain").unwrap().ok().lines().count(), 2);

        // A log with a row and without its index, as a copy of a killed process's files leaves it.
        let killed = Connection::open(&database).unwrap();
        killed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        killed.execute_batch("UPDATE port_configurations SET is_available = 0").unwrap();
        drop(killed);
        fs::remove_file(world.path(format!("{folder}/p?.db-shm"))).unwrap();
        let list = world.line_as_nobody("list --format plain").unwrap();
        assert!(folder == "may write it" || list.code == Some(3), "{list:?}");
        assert!(!world.path(format!("{folder}/p?.db-shm")).exists());
        assert_eq!(world.line("list --format plain").ok().lines().count(), 2);
    }
}

#[test]
fn rows_that_break_the_rules_are_listed() {
    let (world, rows) = broken_rules();
    for (line, lines, separator) in [
        ("list", rows + 3, '\n'),
        ("list --json", 1, '\n'),
        ("list --format csv", rows + 1, '\n'),
        ("list --format plain", rows, '\t'),
        ("list --sort created", rows + 3, '\n'),
        ("list --state orphaned", rows + 3, '\n'),
    ] {
        let ran = world.line(line);
        assert_eq!(ran.ok().lines().count(), lines, "{line}: {}", ran.stdout);
        is_harmless(&ran.stdout, separator);
    }
    let plain = world.line("list --format plain");
    assert!(plain.stdout.lines().all(|line| line.split('\t').count() == 8), "{}", plain.stdout);

    let listed: Vec<Value> = serde_json::from_str(world.line("list --json").ok()).unwrap();
    let find = |model: &str, app_num: i64| {
        listed
            .iter()
            .find(|row| row["model"] == model && row["app_num"] == app_num)
            .unwrap_or_else(|| panic!("{model}"))
    };
    for (model, app_num) in NAMED {
        find(model, app_num.parse().unwrap());
    }
    find("nul\0nul", 1);
    find(&"x".repeat(300), 1);
    assert_eq!(find("large", 1)["backend_port"], 70000);
    assert_eq!(find("large", 1)["frontend_port"], -5);
    assert_eq!(
        *find("no times", 1),
        json!({
            "model": "no times", "app_num": 1, "backend_port": 5011, "frontend_port": 8011, "is_available": false,
            "created_at": null, "updated_at": null, "reserved_until": null
        })
    );
    assert_eq!(find("no time", 1)["created_at"], Value::Null);
    assert_eq!(find("m", 0)["created_at"], "2026-01-02T03:04:05.678901Z");
}

#[test]
fn rows_that_break_the_rules_are_checked() {
    let (world, _) = broken_rules();
    for format in ["human", "json", "github"] {
        let ran = world.line(&format!("check --format {format}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
        is_harmless(&ran.stdout, '\n');
    }
    let report: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let conflicts = report["conflicts"].as_array().unwrap();
    for (model, count) in [("text", 2), ("large", 2)] {
        let is_about = |found: &&Value| found["kind"] == "invalid_port" && found["apps"][0]["model"] == model;
        assert_eq!(conflicts.iter().filter(is_about).count(), count, "{model} in {conflicts:?}");
    }
}

#[test]
fn rows_that_break_the_rules_are_released() {
    let (world, _) = broken_rules();
    for (model, app_num) in NAMED.into_iter().chain([("x".repeat(300).as_str(), "1")]) {
        let ran = world.run(["release", model, app_num]);
        let said = ran.ok();
        assert!(said.starts_with("✓ Released ports for ") && said.lines().count() == 1, "{said}");
        is_harmless(said, '\n');

        let again = world.run(["release", model, app_num]);
        assert_ne!(again.code, Some(0), "{again:?}");
    }
    let left: Vec<Value> = serde_json::from_str(world.line("list --json").ok()).unwrap();
    assert_eq!(left.iter().map(|row| row["model"].as_str().unwrap()).collect::<Vec<_>>(), ["good", "nul\0nul"]);
}

#[test]
fn rows_that_break_the_rules_are_cleaned_up() {
    let (world, rows) = broken_rules();
    for line in ["cleanup --dry-run", "cleanup --dry-run --json"] {
        let ran = world.line(line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        is_harmless(&ran.stdout, '\n');
        is_harmless(&ran.stderr, '\n');
    }
    let ran = world.run(["cleanup", HOSTILE, "--include-listening"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("✓ Removed 1 orphaned allocation(s)\n"), "{ran:?}");
    assert_eq!((ran.stdout.lines().count(), ran.stderr.lines().count()), (2, 1), "{ran:?}");
    is_harmless(&ran.stdout, '\n');
    is_harmless(&ran.stderr, '\n');

    let ran = world.line("cleanup -q --json --include-listening");
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(report["removed"].as_array().unwrap().len(), rows - 2);
    // How old it is cannot be read.
    assert_eq!(report["kept"], json!([{"model": "no time", "app_num": 1, "reason": "too_recent"}]));
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn rows_that_break_the_rules_keep_their_ports_from_others() {
    let (world, rows) = broken_rules();
    let ran = world.line("allocate --model new --app 1 --backend-port 5003 --frontend-port 8101 --no-probe");
    ran.fails(6, &["5003", "a\\u{1b}[2J"]);
    is_harmless(&ran.stderr, '\n');
    world.write("manage-ports.toml", "[ports]\nprobe = false");
    world.line("allocate --model new --app 1").is(0, "new/app1: backend 5023, frontend 8023\n", "");
    assert_eq!(world.line("list --format plain").ok().lines().count(), rows + 1);
}

#[test]
fn a_database_keeps_its_journal_mode_and_its_schema() {
    for (journal_mode, version) in [("wal", 2), ("delete", 1)] {
        for schema in [SCHEMA, WEAK_SCHEMA] {
            let world = World::new();
            world.database(schema, &platform_rows());
            world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
            world.apps(["maker_model-0.0/app1"]);
            let before = schema_of(&Connection::open(world.default_database()).unwrap());
            for line in LINES.into_iter().filter(|line| *line != "migrate") {
                let ran = world.line(line);
                assert_eq!(ran.code, Some(0), "{journal_mode}: {line}: {ran:?}");
            }
            assert_eq!(fs::read(world.default_database()).unwrap()[18..20], [version; 2], "{journal_mode}");
            let connection = Connection::open(world.default_database()).unwrap();
            let now: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            assert_eq!(now, journal_mode);
            assert_eq!(schema_of(&connection), before, "{journal_mode}");
            assert_eq!(rows_of(&world.default_database()), []);
        }
    }
}

/// A world whose database is a copy of another at this moment, with the file SQLite keeps beside it.
fn copied(from: &World, beside: &str) -> World {
    let world = World::new();
    world.apps(["maker_model-0.0/app1"]);
    fs::create_dir(world.path("data")).unwrap();
    for name in ["data/ports.db", beside] {
        fs::copy(from.path(name), world.path(name)).unwrap();
    }
    world
}

#[test]
fn reading_changes_no_row_and_moves_what_is_in_the_log_into_the_file() {
    let source = World::with_platform();
    let writer = Connection::open(source.default_database()).unwrap();
    writer
        .execute_batch(&format!(
            "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
             INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, created_at, updated_at)
             VALUES ('in_the_log', 1, 10001, 10003, '{MADE}', '{MADE}')"
        ))
        .unwrap();
    let all = READERS.into_iter().chain(["allocate --model in_the_log --app 1", "list --state orphaned"]);
    for line in all.chain(["list --format plain"]) {
        let world = copied(&source, "data/ports.db-wal");
        let log = world.path("data/ports.db-wal");
        let has_row = || fs::read(world.default_database()).unwrap().windows(10).any(|part| part == b"in_the_log");
        assert!(!has_row() && fs::metadata(&log).unwrap().len() > 0, "nothing to checkpoint");
        assert!(!world.line(&format!("-q {line}")).ok().is_empty(), "{line}");
        assert!(has_row(), "{line} left the row in the log");
        assert_eq!(fs::metadata(&log).unwrap().len(), 0, "{line}");
        assert_eq!(world.line("list --format plain").ok().lines().count(), 751);
        world.line("release in_the_log 1").is(0, "✓ Released ports for in_the_log/app1\n", "");
        assert_eq!(world.rows(), platform_rows());
    }
}

/// A database whose writer is in the middle of changing it, with part of the change in the file.
fn half_written(schema: &str, change: &str) -> (World, Connection) {
    let world = World::new();
    world.database(schema, &if schema.is_empty() { Vec::new() } else { platform_rows() });
    let writer = Connection::open(world.default_database()).unwrap();
    writer.execute_batch(&format!("PRAGMA cache_size = 2; BEGIN; {change}")).unwrap();
    (world, writer)
}

#[test]
fn a_hot_journal_is_rolled_back_and_the_rows_are_the_old_ones() {
    let whole = platform_bytes();
    let change = "UPDATE port_configurations SET model = 'torn by a power cut', app_num = id, backend_port = id";
    let (source, _writer) = half_written(SCHEMA, change);
    for (line, code) in READERS.into_iter().map(|line| (line, 0)).chain([("release gone 1", 1)]) {
        let world = copied(&source, "data/ports.db-journal");
        let torn = fs::read(world.default_database()).unwrap();
        assert!(torn != whole && fs::metadata(world.path("data/ports.db-journal")).unwrap().len() > 512, "not torn");

        let ran = world.line(&format!("-q {line}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{line}: {ran:?}");
        assert!(!ran.stdout.contains("torn"), "{line}: {ran:?}");
        assert_eq!(names(&world.path("data")), ["ports.db"], "{line}");
        assert!(fs::read(world.default_database()).unwrap() == whole, "{line}");
        assert_eq!(world.rows(), platform_rows(), "{line}");
    }

    let world = copied(&source, "data/ports.db-journal");
    world.line("release maker_model-0.0 1").is(0, "✓ Released ports for maker_model-0.0/app1\n", "");
    assert_eq!(world.rows(), platform_rows()[1..]);
}

#[test]
fn a_database_whose_maker_died_was_not_made_yet() {
    let fill = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 3000)
                INSERT INTO port_configurations (model, app_num, frontend_port, backend_port)
                SELECT 'torn', k, 30000 + k, 10000 + k FROM n";
    let (source, _writer) = half_written("", &format!("{SCHEMA}; {fill}"));
    let torn = || {
        let world = copied(&source, "data/ports.db-journal");
        assert!(fs::metadata(world.default_database()).unwrap().len() > 0, "not torn");
        world
    };
    torn().line("list").is(0, "No port allocations found in data/ports.db.\n", "");
    torn().line("cleanup -q").is(0, "✓ No orphaned allocations found\n", "");
    torn().line("list --database data/ports.db").fails(3, &["data/ports.db"]);
    for line in ["allocate --model m --app 1", "allocate --model m --app 1 --database data/ports.db"] {
        let world = torn();
        let ran = world.line(line);
        assert!(ran.code == Some(0) && ran.stdout.starts_with("m/app1: backend "), "{ran:?}");
        assert_eq!(world.rows().len(), 1);
        assert_eq!(schema_of(&Connection::open(world.default_database()).unwrap()), schema_of(&platforms_own()));
    }
}

#[test]
fn everything_written_is_in_the_form_that_the_platform_reads() {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false");
    for k in 1..=20 {
        let mut command = world.command();
        command.env("TZ", "America/New_York").args(["-q", "allocate", "--model", "m", "--app", &k.to_string()]);
        let ran = Ran::of(&mut command);
        assert!(ran.ok().starts_with("m/app"), "{ran:?}");
    }
    let digit = "[0-9]";
    let form = "dddd-dd-dd dd:dd:dd.dddddd".replace('d', digit);
    let (rows, good): (i64, i64) = Connection::open(world.default_database())
        .unwrap()
        .query_row(
            "SELECT count(*), sum(
                typeof(created_at) = 'text' AND length(created_at) = 26 AND created_at GLOB ?1
                AND created_at BETWEEN strftime('%Y-%m-%d %H:%M:%f', 'now', '-10 minutes')
                    AND strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 second')
                AND updated_at = created_at
                AND typeof(is_available) = 'integer' AND is_available = 1 AND metadata_json IS NULL
                AND typeof(backend_port) = 'integer' AND typeof(frontend_port) = 'integer'
             ) FROM port_configurations",
            [form],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!((rows, good), (20, 20));
}

#[test]
fn the_metadata_of_others_is_kept_as_it_is() {
    let world = platform();
    let texts = [
        "{ \"b\": 1,\n  \"a\" : [2.0, 1e3] }",
        "null",
        "[]",
        " not json\n",
        "",
        "{\"reserved_until\": \"2099-01-01T00:00:00Z\", \"x\": \"é\"}",
    ];
    let connection = Connection::open(world.default_database()).unwrap();
    for (k, text) in (1..).zip(texts) {
        world.apps([format!("maker_model-0.1/app{k}")]);
        let sql = "UPDATE port_configurations SET metadata_json = ?1 WHERE model = 'maker_model-0.1' AND app_num = ?2";
        assert_eq!(connection.execute(sql, (text, k)).unwrap(), 1);
    }
    drop(connection);
    for line in LINES.into_iter().chain(["allocate --model maker_model-0.1 --app 1-6", "release maker_model-0.1 30"]) {
        assert!(world.line(line).code.is_some_and(|code| code <= 1), "{line}");
    }
    let connection = Connection::open(world.default_database()).unwrap();
    let mut rows = connection
        .prepare(
            "SELECT metadata_json, created_at, updated_at FROM port_configurations
             WHERE model = 'maker_model-0.1' ORDER BY app_num",
        )
        .unwrap();
    let rows: Vec<(String, String, String)> =
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, texts.map(|text| (text.to_owned(), MADE.to_owned(), MADE.to_owned())));
}

#[test]
fn a_queue_that_is_no_file_is_done_without() {
    let world = World::with_platform();
    let queue = world.path("data/ports.db-queue");
    assert!(Command::new("mkfifo").arg(&queue).status().unwrap().success());
    world.line("allocate --model m --app 1 --no-probe --timeout 5s").ok();
    fs::remove_file(&queue).unwrap();
    fs::create_dir(&queue).unwrap();
    world.line("allocate --model m --app 2 --no-probe --timeout 5s").ok();
}

#[test]
fn whoever_keeps_the_queue_only_makes_others_wait_the_timeout() {
    let world = World::with_platform();
    world.line("allocate --model m --app 1 --no-probe").ok();
    let queue = fs::File::open(world.path("data/ports.db-queue")).unwrap();
    queue.lock().unwrap();
    world.line("allocate --model m --app 2 --no-probe --timeout 200ms").ok();
    drop(queue);
    assert_eq!(world.rows().len(), 752);
}
