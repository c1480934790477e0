//! Machines that lack something: room on the disk, descriptors, `/proc`, a current folder, open standard
//! streams, a clock that only goes forward; and databases with odd names.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rusqlite::Connection;

use super::database::unprivileged;
use super::fixture::{Ran, Row, SCHEMA, World, not_run, row, rows_of};
use super::storage::in_namespace;
use super::storm::CONFIG;

/// Lines that write to a database with the apps 1 to 9 of `m`, of which 1 has a directory.
const WRITERS: [&str; 6] = [
    "allocate new 1 -q",
    "allocate new 1 --env-file .env -q",
    "reserve m 1 --for 1h -q",
    "release m 2-3 -q",
    "cleanup --include-listening --min-age 0s -q",
    "import import.json -q",
];

/// Lines that only read.
const READERS: [&str; 6] = ["list", "list --long --probe", "check --probe", "show m 1", "status", "map"];

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.write(
        "import.json",
        r#"[{"model": "imported", "app_number": 1, "backend_port": 20101, "frontend_port": 20103}]"#,
    );
    world.line("allocate m 1-9 -q").ok();
    world.apps(["m/app1"]);
    world
}

/// The rows after a line on a world like that.
fn rows_after(line: &str) -> Vec<Row> {
    let world = world();
    world.line(line).ok();
    world.rows()
}

/// Checks that a line did all or nothing and said so, that the database is whole, and that the same line,
/// undisturbed, then does the rest.
#[track_caller]
fn all_or_nothing(world: &World, ran: &Ran, line: &str, before: &[Row], after: &[Row], what: &str) {
    let what = format!("{line} with {what}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{what}");
    let rows = world.rows();
    match ran.code {
        Some(0) => assert_eq!(rows, after, "{what}"),
        Some(1..=6) => {
            assert!(rows == before || rows == after, "{what}: {rows:?}");
            assert!(ran.stderr.contains("error: "), "{what}");
        }
        _ => panic!("{what}"),
    }
    let again = world.line(line);
    let nothing_is_left = line.starts_with("release") && rows == after;
    assert_eq!(again.code, Some(i32::from(nothing_is_left)), "{what}, then {again:?}");
    assert_eq!(world.rows(), after, "{what}, then {again:?}");
    assert_eq!(integrity(world), "ok", "{what}");
}

fn integrity(world: &World) -> String {
    let connection = Connection::open(world.default_database()).unwrap();
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Runs a script with the binary as `$0` in the world's folder.
fn script(world: &World, script: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_manage-ports")]).current_dir(world.path("")).env_clear();
    Ran::of(shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()))
}

#[test]
fn a_full_disk_is_told_and_the_next_call_is_right() {
    // The database and the env file are on a disk that is filled until this much is left, in KiB. Then there
    // is room again.
    for room in [0, 4, 8, 16, 24, 32, 36, 40, 48, 64, 96] {
        for line in ["allocate new 1-3 --format plain -q", "allocate new 1-3 --format plain -q --env-file {app}.env"] {
            for is_new in [true, false] {
                let world = World::new();
                world.write("manage-ports.toml", CONFIG);
                let prepare = if is_new { ":" } else { "\"$0\" allocate m 1-9 -q > /dev/null" };
                let Some(ran) = in_namespace(
                    &world,
                    &format!(
                        "mkdir disk && mount -t tmpfs -o size=400k none disk && cp manage-ports.toml disk && cd disk &&
                         {prepare} &&
                         head -c 400k /dev/zero > filler 2> /dev/null
                         truncate -s -{room}K filler && \"$0\" {line} > ../first 2> ../error; echo $? > ../code
                         rm filler && \"$0\" {line} > ../second && cat ?.env 2> /dev/null > ../env
                         cp data/ports.db .."
                    ),
                ) else {
                    return;
                };
                let what = format!("{line}, {room} KiB, {is_new}");
                let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
                assert!(ran.stderr.is_empty(), "{what}: {ran:?}");
                let (code, first, error, second) = (read("code"), read("first"), read("error"), read("second"));
                assert!(!error.contains("panicked"), "{what}: {error}");
                match code.trim_end() {
                    "0" => assert_eq!(first, second, "{what}"),
                    "1" | "3" => assert!(error.contains("disk") || error.contains("space"), "{what}: {error}"),
                    _ => panic!("{what}: {code}, {error}"),
                }
                let rows = rows_of(&world.path("ports.db"));
                assert_eq!(rows.len(), if is_new { 3 } else { 12 }, "{what}");
                assert_eq!(second.lines().count(), 3, "{what}");
                assert_eq!(read("env").lines().count(), if line.contains("env") { 6 } else { 0 }, "{what}");
            }
        }
    }
}

#[test]
fn with_few_descriptors_a_line_does_all_or_nothing() {
    for line in WRITERS {
        let after = rows_after(line);
        let mut done = 0;
        for limit in 3..=20 {
            let world = world();
            let before = world.rows();
            let ran = script(&world, &format!("ulimit -n {limit}; exec \"$0\" {line}"));
            if ran.code == Some(127) {
                assert!(ran.stderr.contains("loading shared libraries"), "{ran:?}");
                continue;
            }
            done += i32::from(ran.code == Some(0));
            all_or_nothing(&world, &ran, line, &before, &after, &format!("{limit} descriptors"));
        }
        assert!(done > 5, "{line} needs more than twenty descriptors");
    }
}

#[test]
fn with_few_descriptors_reading_is_right_or_an_error() {
    let world = world();
    for line in READERS {
        let whole = world.line(line);
        for limit in 4..=20 {
            let ran = script(&world, &format!("ulimit -n {limit}; exec \"$0\" {line}"));
            assert!(!ran.stderr.contains("panicked"), "{line} with {limit}: {ran:?}");
            match ran.code {
                Some(127) => assert!(ran.stderr.contains("loading shared libraries"), "{ran:?}"),
                Some(0) if line == "list" => assert_eq!(ran.stdout, whole.stdout, "{limit}"),
                Some(0 | 1) => assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "{line} with {limit}"),
                Some(2..=5) => assert!(ran.stderr.contains("error: "), "{line} with {limit}: {ran:?}"),
                _ => panic!("{line} with {limit}: {ran:?}"),
            }
        }
    }
}

#[test]
fn without_proc_everything_works() {
    let without_proc =
        |world: &World, line: &str| in_namespace(world, &format!("mount -t tmpfs none /proc && exec \"$0\" {line}"));
    for line in WRITERS {
        let world = world();
        let Some(ran) = without_proc(&world, line) else { return };
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        assert_eq!(world.rows(), rows_after(line), "{line}");
        if line.contains("env") {
            assert_eq!(fs::read_to_string(world.path(".env")).unwrap(), "BACKEND_PORT=5019\nFRONTEND_PORT=8019\n");
            let ran = without_proc(&world, "allocate m 2 --env-file .env -q").unwrap();
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_eq!(fs::read_to_string(world.path(".env")).unwrap(), "BACKEND_PORT=5003\nFRONTEND_PORT=8003\n");
            assert!(!world.path(".env.manage-ports-new").exists());
        }
    }
    let world = world();
    for line in READERS {
        let ran = without_proc(&world, line).unwrap();
        assert!(matches!(ran.code, Some(0 | 1)) && !ran.stdout.is_empty(), "{line}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{line}: {ran:?}");
    }
    let ran = without_proc(&world, "exec m 1 -- env").unwrap();
    assert!(ran.stdout.contains("BACKEND_PORT=5001\n"), "{ran:?}");
    // It starts itself, and only /proc tells which file that is.
    without_proc(&world, "selftest --processes 2").unwrap().fails(1, &["Is /proc mounted?"]);
}

/// A library in whose processes the time of day goes back by an hour each time that it is asked for.
fn backward_clock(world: &World) -> Option<PathBuf> {
    const SOURCE: &str = "#define _GNU_SOURCE
        #include <time.h>
        #include <sys/time.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        static long asked;
        int clock_gettime(clockid_t clock, struct timespec *now) {
            int result = syscall(SYS_clock_gettime, clock, now);
            if (clock == CLOCK_REALTIME) now->tv_sec -= 3600 * ++asked;
            return result;
        }
        int gettimeofday(struct timeval *now, void *zone) {
            struct timespec precise;
            clock_gettime(CLOCK_REALTIME, &precise);
            now->tv_sec = precise.tv_sec, now->tv_usec = precise.tv_nsec / 1000;
            return 0;
        }
        time_t time(time_t *now) {
            struct timespec precise;
            clock_gettime(CLOCK_REALTIME, &precise);
            if (now) *now = precise.tv_sec;
            return precise.tv_sec;
        }";
    let library = world.path("clock.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-x", "c", "-", "-o"]).arg(&library);
    let Ok(mut compiler) = compiler.stdin(Stdio::piped()).spawn() else {
        not_run("a clock that goes back: no C compiler");
        return None;
    };
    compiler.stdin.take().unwrap().write_all(SOURCE.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success());
    Some(library)
}

#[test]
fn a_clock_that_goes_back_changes_no_answer() {
    for line in WRITERS {
        let world = world();
        let Some(clock) = backward_clock(&world) else { return };
        let before = world.rows();
        let ran = Ran::of(world.command().env("LD_PRELOAD", &clock).args(line.split(' ')));
        // To a clock that has gone back, the rows are of the future, and not older than any age.
        let after = if line.starts_with("cleanup") { before.clone() } else { rows_after(line) };
        assert_eq!((ran.code, world.rows()), (Some(0), after), "{line}: {ran:?}");
        for reader in READERS {
            let ran = Ran::of(world.command().env("LD_PRELOAD", &clock).args(reader.split(' ')));
            assert!(matches!(ran.code, Some(0 | 1)) && !ran.stdout.is_empty(), "{reader}: {ran:?}");
        }
    }
    // A wait ends in time, whatever the time of day.
    let world = world();
    let clock = backward_clock(&world).unwrap();
    let writer = Connection::open(world.default_database()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut command = world.command();
    command.env("LD_PRELOAD", &clock).args("allocate new 1 -q --timeout 500ms".split(' '));
    Ran::of(&mut command).fails(3, &["waited 0.5 s"]);
    drop(writer);
    // A reservation is never shortened, also by one who believes that it is yesterday.
    world.line("reserve m 1 --for 2h -q").ok();
    let held = || {
        let connection = Connection::open(world.default_database()).unwrap();
        let sql = "SELECT metadata_json FROM port_configurations WHERE model = 'm' AND app_num = 1";
        connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let before = held();
    let ran = Ran::of(world.command().env("LD_PRELOAD", &clock).args("reserve m 1 --for 2h -q".split(' ')));
    assert_eq!((ran.code, held()), (Some(0), before), "{ran:?}");
}

#[test]
fn a_stderr_that_cannot_be_written_changes_no_answer() {
    let full = || File::create("/dev/full").unwrap();
    for (line, code, stdout) in [
        ("allocate m 1 --format plain", 0, "5001 8001\n"),
        ("allocate m 1 --format plain -vv", 0, "5001 8001\n"),
        ("allocate new 1 --format plain", 0, "5019 8019\n"),
        ("cleanup --min-age 0s --include-listening --json -vv", 0, "{\"dry_run\":false,"),
        ("release m 1 --json", 1, "{\"released\":[],"),
        ("allocate m 0", 2, ""),
        ("allocate", 2, ""),
        ("list --database missing.db", 3, ""),
        ("list --database missing.db --json", 3, ""),
    ] {
        let world = world();
        if line.starts_with("release") {
            world.line("release m 1 -q").ok();
        }
        let output = world.command().args(line.split(' ')).stderr(full()).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {answer}");
        assert!(answer.starts_with(stdout) && answer.is_empty() == stdout.is_empty(), "{line}: {answer}");
    }
    // A new database is announced on stderr.
    let world = World::new();
    let output = world.command().args(["allocate", "m", "1", "--format", "plain"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), world.rows().len()), (Some(0), 1));
}

#[test]
fn closed_streams_put_nothing_into_the_database() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        for line in WRITERS {
            let world = world();
            let before = world.rows();
            let ran = script(&world, &format!("exec \"$0\" {line} -vv {closed}").replace(" -q", ""));
            assert_eq!((ran.code, world.rows()), (Some(0), rows_after(line)), "{line} {closed}, {before:?}: {ran:?}");
            assert_eq!(integrity(&world), "ok", "{line} {closed}");
        }
        // An error message goes nowhere, and above all not into a file.
        let world = world();
        let ran = script(&world, &format!("exec \"$0\" allocate m 0 {closed}"));
        assert_eq!(ran.code, Some(2), "{closed}: {ran:?}");
        assert_eq!(integrity(&world), "ok", "{closed}");
    }
}

#[test]
fn a_current_folder_that_was_deleted_is_told_or_does_without() {
    let world = world();
    let database = world.default_database();
    let here = |line: &str| script(&world, &format!("mkdir gone && cd gone && rmdir ../gone && exec \"$0\" {line}"));
    for line in WRITERS.iter().chain(&READERS).chain(&["init", "exec new 2 -- true", "man", "completions bash"]) {
        let ran = here(line);
        assert!(!ran.stderr.contains("panicked"), "{line}: {ran:?}");
        assert!(ran.code.is_some_and(|code| code <= 6), "{line}: {ran:?}");
    }
    assert_eq!(world.rows().len(), 9);
    // With absolute paths nobody needs a current folder.
    let ran = here(&format!("allocate new 1 --format plain --no-probe --database {}", database.display()));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "5019 8019\n"), "{ran:?}");
    assert_eq!(here(&format!("list --database {} --format plain", database.display())).stdout.lines().count(), 10);
}

/// Names that something on the way to the file might take for something else.
fn odd_names() -> Vec<OsString> {
    let names = [
        "with space.db",
        "it's.db",
        "say \"hi\".db",
        "100%.db",
        "%41%2F.db",
        "what?.db",
        "a?mode=ro.db",
        "#1.db",
        "a#b.db",
        "-dash.db",
        "--json",
        "file:x.db",
        "a&b=c.db",
        "back\\slash.db",
        "$HOME.db",
        "*.db",
        "é.db",
        "\u{1b}[31m.db",
        "line\nbreak.db",
        ".db",
        "a:memory:",
        "~",
        "tab\t.db",
        "-wal",
        "x.db-journal",
    ];
    let bytes: [&[u8]; 2] = [b"\xff\xfe.db", b"caf\xe9 %.db"];
    names.iter().map(OsString::from).chain(bytes.map(|name| OsString::from_vec(name.to_vec()))).collect()
}

#[test]
fn a_database_may_have_any_name() {
    for name in odd_names() {
        for folder in ["", "data/", "odd ?#% folder/"] {
            let world = World::new();
            world.write("manage-ports.toml", CONFIG);
            let place = OsString::from_vec([folder.as_bytes(), name.as_bytes()].concat());
            let run = |line: &str| {
                let mut command = world.command();
                command
                    .args(line.split(' '))
                    .arg([OsStr::new("--database="), &place].into_iter().collect::<OsString>());
                Ran::of(&mut command)
            };
            let made = run("allocate m 1-2 --format plain");
            assert_eq!((made.code, made.stdout.as_str()), (Some(0), "5001 8001\n5003 8003\n"), "{place:?}: {made:?}");
            assert!(made.stderr.starts_with("Created database /"), "{place:?}: {made:?}");
            // No name reaches a terminal that would obey it.
            assert_eq!(made.stderr.lines().count(), 1, "{place:?}: {made:?}");
            assert!(!made.stderr.contains('\u{1b}'), "{place:?}: {made:?}");
            assert_eq!(rows_of(&world.path(&place)), [row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)], "{place:?}");
            let named: Vec<_> = world
                .path(&place)
                .parent()
                .unwrap()
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            let is_ours = |found: &OsString| {
                found.as_bytes().starts_with(name.as_bytes())
                    || ["manage-ports.toml", "data"].iter().any(|known| found == known)
            };
            assert!(named.iter().all(is_ours), "{place:?}: {named:?}");
            assert_eq!(run("release m 2").code, Some(0), "{place:?}");
            assert_eq!(run("check").code, Some(0), "{place:?}");
            assert_eq!(run("list --format plain").ok().lines().count(), 1, "{place:?}");
            // The variable names it as well.
            let mut command = world.command();
            let ran =
                Ran::of(command.args(["allocate", "m", "1", "--format", "plain"]).env("MANAGE_PORTS_DATABASE", &place));
            ran.is(0, "5001 8001\n", "");
            // One who may only read opens it by a URI of SQLite's.
            let ran =
                Ran::of(unprivileged(&world).args(["list", "--format", "plain"]).env("MANAGE_PORTS_DATABASE", &place));
            assert_eq!(ran.ok().lines().count(), 1, "{place:?}");
        }
    }
}

#[test]
fn a_sqlite_url_names_a_file_as_sqlalchemy_does() {
    // SQLAlchemy decodes nothing in the path, and what follows `?` are settings.
    for (path, file) in [
        ("with space.db", "with space.db"),
        ("it's.db", "it's.db"),
        ("100%.db", "100%.db"),
        ("%41.db", "%41.db"),
        ("#1.db", "#1.db"),
        ("-dash.db", "-dash.db"),
        ("a.db?timeout=5", "a.db"),
    ] {
        for is_absolute in [false, true] {
            let world = World::new();
            world.write("manage-ports.toml", CONFIG);
            let slash = if is_absolute { format!("{}/", world.path("").display()) } else { String::new() };
            let url = format!("sqlite:///{slash}{path}");
            world.run(["allocate", "m", "1", "--format", "plain", "-q", "--database", &url]).is(0, "5001 8001\n", "");
            assert_eq!(rows_of(&world.path(file)), [row("m", 1, 5001, 8001)], "{url}");
        }
    }
}

#[test]
fn a_world_in_a_folder_with_an_odd_name_works() {
    for name in odd_names() {
        let world = World::new();
        let folder = world.path(&name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("manage-ports.toml"), CONFIG).unwrap();
        let run = |line: &str| Ran::of(world.command().current_dir(&folder).args(line.split(' ')));
        assert_eq!(run("allocate m 1 --env-file .env --format plain -q").ok(), "5001 8001\n", "{name:?}");
        assert_eq!(fs::read_to_string(folder.join(".env")).unwrap(), "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        fs::create_dir_all(folder.join("generated/apps/m/app1")).unwrap();
        assert_eq!(run("allocate gone 1 -q").code, Some(0), "{name:?}");
        for line in ["list --long", "check", "status", "map", "cleanup --include-listening --min-age 0s"] {
            let ran = run(line);
            assert_eq!(ran.code, Some(0), "{line} in {name:?}: {ran:?}");
            assert!(!format!("{}{}", ran.stdout, ran.stderr).contains('\u{1b}'), "{line} in {name:?}: {ran:?}");
        }
        assert_eq!(rows_of(&folder.join("data/ports.db")), [row("m", 1, 5001, 8001)], "{name:?}");
    }
}

#[test]
fn a_database_of_another_user_in_a_folder_like_tmp_is_used_or_refused() {
    let world = World::new();
    if fs::metadata(world.path("")).unwrap().uid() != 0 {
        return not_run("a database of another user: not root");
    }
    // In such folders the system may forbid to open a file of another user that is to be made if it is missing.
    for is_in_wal_mode in [false, true] {
        let world = World::new();
        world.write("manage-ports.toml", CONFIG);
        world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
        if is_in_wal_mode {
            world.sql("PRAGMA journal_mode = wal");
        }
        let database = world.default_database();
        chown(&database, Some(4001), Some(4001)).unwrap();
        fs::set_permissions(&database, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(world.path("data"), Permissions::from_mode(0o1777)).unwrap();
        let run = |user: u32, line: &str| Ran::of(unprivileged(&world).uid(user).gid(user).args(line.split(' ')));
        let before = world.rows().len();
        let mut made = 0;
        for (user, n) in [(4001, 1), (4002, 2), (4001, 3), (4003, 4)] {
            let ran = run(user, &format!("allocate new {n} -q"));
            match ran.code {
                Some(0) => made += 1,
                _ => ran.fails(3, &["data/ports.db"]),
            }
        }
        assert_eq!(world.rows().len(), before + made);
        let ran = run(4001, "list --format plain");
        assert_eq!(ran.ok().lines().count(), before + made);
    }
}
