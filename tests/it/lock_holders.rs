//! A wait for a lock of a SQLite database that timed out names the process that holds it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::fixture::{World, not_run, row};
use super::storm::CONFIG;

/// Runs SQL, says so and waits for the end of its input.
const HOLD: &str = r#"
import sqlite3, sys
try:
    name = sys.argv[3].encode().decode("unicode_escape")
    open("/proc/self/comm", "w").write(name)
except IndexError:
    pass
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(";"):
    connection.execute(statement).fetchall()
print("held", flush=True)
sys.stdin.read()
"#;

/// A process that holds a lock until it is dropped.
struct Holder {
    process: Child,
    input: Option<ChildStdin>,
}

impl Holder {
    /// Starts a program that prints a line once it holds the lock, and ends with its standard input.
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self { process, input }
    }

    /// Starts a Python that runs this SQL on a database, under another name if one is given.
    fn python(database: &Path, sql: &str, name: Option<&str>) -> Self {
        Self::start(Command::new("python3").args(["-c", HOLD]).arg(database).arg(sql).args(name))
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.wait().unwrap();
    }
}

/// The platform's database with one app, in a journal mode.
fn world(journal_mode: &str) -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.database(super::fixture::SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
    world
}

/// Whether `/proc/locks` tells of locks here: not on every kernel, and not in every sandbox.
fn tells(what: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    file.lock().unwrap();
    let pid = std::process::id().to_string();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_told = locks.lines().any(|line| line.split_whitespace().any(|field| field == pid));
    if !is_told {
        not_run(&format!("{what}: /proc/locks does not tell"));
    }
    is_told
}

#[test]
fn a_writer_that_holds_the_lock_is_named_in_both_journal_modes() {
    if !tells("who holds the lock") {
        return;
    }
    for journal_mode in ["delete", "wal"] {
        for begin in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "BEGIN IMMEDIATE; DELETE FROM port_configurations"] {
            let world = world(journal_mode);
            let holder = Holder::python(&world.default_database(), begin, None);
            let named = format!("for another writer to finish: python3 (pid {}) holds the lock, tried ", holder.pid());
            let line = "allocate new 1 --timeout 200ms";
            world.line(line).fails(3, &["data/ports.db is still locked", &named]);
            let message = world.line(&format!("{line} --json")).fails_as_json(3, "locked");
            assert!(message.contains(&named), "{journal_mode}, {begin}: {message}");
        }
    }
}

#[test]
fn a_reader_that_meets_a_writer_and_a_writer_that_meets_readers_name_them() {
    if !tells("who holds the lock") {
        return;
    }
    let delete = world("delete");
    let holder = Holder::python(&delete.default_database(), "BEGIN EXCLUSIVE", None);
    delete.line("list --timeout 200ms").fails(3, &[&format!("python3 (pid {}) holds the lock", holder.pid())]);
    drop(holder);

    let read = "BEGIN; SELECT * FROM port_configurations";
    let readers = [(); 2].map(|()| Holder::python(&delete.default_database(), read, None));
    let ran = delete.line("allocate new 1 --timeout 200ms");
    ran.fails(3, &["for readers to finish: python3 (pid ", " and 1 more hold the lock"]);
    let [first, second] = readers.each_ref().map(|reader| format!("(pid {})", reader.pid()));
    assert!(ran.stderr.contains(&first) || ran.stderr.contains(&second), "{ran:?}");
    drop(readers);

    // With a log, readers are in nobody's way, and are not named beside the writer who is.
    let wal = world("wal");
    let _reader = Holder::python(&wal.default_database(), read, None);
    wal.line("allocate new 1 --timeout 200ms -q").ok();
    let writer = Holder::python(&wal.default_database(), "BEGIN IMMEDIATE", None);
    let named = format!("for another writer to finish: python3 (pid {}) holds the lock", writer.pid());
    wal.line("allocate new 2 --timeout 200ms").fails(3, &[&named]);
}

#[test]
fn a_process_that_keeps_the_database_to_itself_is_named() {
    if !tells("who holds the lock") {
        return;
    }
    let world = world("delete");
    let sql = "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; BEGIN IMMEDIATE";
    let holder = Holder::python(&world.default_database(), sql, None);
    world.line("list --timeout 200ms").fails(3, &[&format!("python3 (pid {}) holds the lock", holder.pid())]);
}

#[test]
fn what_a_terminal_would_obey_in_a_name_is_escaped() {
    if !tells("who holds the lock") {
        return;
    }
    let world = world("delete");
    let holder = Holder::python(&world.default_database(), "BEGIN IMMEDIATE", Some("a\\x1b[1mb\\nc d"));
    let pid = holder.pid();
    let line = "allocate new 1 --timeout 200ms";
    world.line(line).fails(3, &[&format!(r"finish: a\u{{1b}}[1mb\nc d (pid {pid}) holds")]);
    let message = world.line(&format!("{line} --json")).fails_as_json(3, "locked");
    assert!(message.contains(&format!(r"a\u{{1b}}[1mb\nc d (pid {pid})")), "{message}");
}

#[test]
fn a_lock_of_nobody_we_see_names_nobody() {
    if !tells("who holds the lock") {
        return;
    }
    let world = world("delete");
    let holder = Holder::python(&world.default_database(), "BEGIN IMMEDIATE", None);
    // A namespace of its own, in which the holder has no number.
    let mut unshare = Command::new("unshare");
    unshare.args(["-p", "-f", "--mount-proc", env!("CARGO_BIN_EXE_manage-ports")]);
    unshare.args(["allocate", "new", "1", "--timeout", "200ms"]).current_dir(world.path("")).env_clear();
    let ran = super::fixture::Ran::of(unshare.env("PATH", "/usr/bin:/bin"));
    if !ran.stderr.contains("ports.db") {
        return not_run(&format!("a lock of another PID namespace: {}", ran.stderr));
    }
    ran.fails(3, &["for another writer to finish, tried "]);
    drop(holder);
    // The lock of an open file description belongs to no process, and to one of another file neither.
    let other = World::new();
    other.database(super::fixture::SCHEMA, &[]);
    let _elsewhere = Holder::python(&other.default_database(), "BEGIN IMMEDIATE", None);
    let lock = "import fcntl, struct, sys
file = open(sys.argv[1], 'r+b')
fcntl.fcntl(file, 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0x40000000, 512, 0))
print('held', flush=True)
sys.stdin.read()";
    let description = Holder::start(Command::new("python3").args(["-c", lock]).arg(world.default_database()));
    world.line("allocate new 1 --timeout 200ms").fails(3, &["for another writer to finish, tried "]);
    drop(description);
    world.line("allocate new 1 -q").ok();
}

#[test]
fn who_has_the_turn_in_the_queue_is_told_to_those_who_ask() {
    if !tells("who has the turn") {
        return;
    }
    if Command::new("flock").arg("--version").output().is_err() {
        return not_run("who has the turn: no flock(1)");
    }
    let world = world("wal");
    world.line("allocate new 1 -q").ok();
    let mut flock = Command::new("flock");
    flock.arg(world.path("data/ports.db-queue")).args(["sh", "-c", "echo held; cat"]);
    let mut holder = Holder::start(&mut flock);
    // The queue is no obstacle: half of the time is kept for the database itself.
    let ran = world.line("allocate new 2 --timeout 400ms -v");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = format!("goes on without a turn: flock (pid {}) holds the lock file ", holder.pid());
    assert!(ran.stderr.contains(&told), "{ran:?}");
    // Where the database is locked as well, its holder is named.
    let writer = Holder::python(&world.default_database(), "BEGIN IMMEDIATE", None);
    let named = format!("python3 (pid {}) holds the lock", writer.pid());
    world.line("allocate new 3 --timeout 300ms").fails(3, &[&named]);
    holder.input.as_mut().unwrap().flush().unwrap();
}
