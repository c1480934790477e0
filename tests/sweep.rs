//! The sweep: every system call of the commands that change rows fails once, and each of them is killed before
//! each of its calls; no row may be lost. Calls for memory, and those before `main`, are left out.
//!
//! Each case is a command on a database. It runs once under `strace`, which lists its calls. Then it runs on
//! a new copy of the database for each call: once for each error that a call of this kind can fail with, once
//! with all further calls of this kind failing, too, and once killed before the call. After each run, the
//! following must hold:
//! - The process did not panic, did not hang, and was not ended by another signal.
//! - The rows are those before the command or those after it, and the database is whole.
//! - If the status is 0, the answer is that of an undisturbed run, its rows and its file are there, and no sync of
//!   a file has failed.
//! - If the status is another one, stderr says why. The rows are those before, unless the call came after the
//!   commit: the disk may fail to make them durable, or the answer may fail to be written.
//! - If the process was killed, the commit alone decides: killed before it, the rows are those before.
//! - The same command, undisturbed, then does what is left to do. When it has ended, the database file alone
//!   holds every row, and nothing lies beside it that an undisturbed run does not leave.
//!
//! `cargo test` takes one point of many of each kind. `MANAGE_PORTS_SWEEP=all cargo test --test sweep` takes
//! all. The counts are printed at the end.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, unreachable_pub, reason = "these are tests")]

#[path = "it/fixture.rs"]
#[allow(dead_code, reason = "the fixture belongs to the tests in tests/it")]
mod fixture;
#[path = "it/server.rs"]
#[allow(dead_code, reason = "the fixture needs it")]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;
use tempfile::TempDir;

use fixture::{Row, SCHEMA, WEAK_SCHEMA, World, commands, not_run, row, say};

const MANAGE_PORTS: &str = env!("CARGO_BIN_EXE_manage-ports");
const DATABASE: &str = "data/ports.db";
const ENV_FILE: &str = ".env";

/// What the names of the copies contain that `migrate` makes. Each copy has another name.
const COPY: &str = ".before-migrate-";

/// Of how many points of a kind one is taken, unless all are.
const ONE_OF: usize = 8;

/// How many points run at once. Most of the time each waits for the disk.
const WORKERS: usize = 12;

/// The longest time in seconds that a command may take, several times the `--timeout` that it is given.
const LONGEST: &str = "60";

/// The commands that write.
const LINES: [Line; 9] = [
    Line { args: "allocate new 1 --json", states: &State::ALL },
    Line { args: "--config probing.toml allocate probed 1-2 --json", states: &[State::Ours] },
    Line { args: "reserve kept 1 --for 1h --json", states: &State::ALL },
    Line { args: "release gone 1-2 --json", states: &State::MADE },
    Line { args: "cleanup --include-listening --min-age 0s --json", states: &State::MADE },
    Line { args: "import import.json --json", states: &State::ALL },
    Line { args: "allocate new 1 --env-file .env --json", states: &State::ALL },
    Line { args: "allocate kept 1 --env-file new.env --json", states: &[State::Ours, State::Platform] },
    Line { args: "migrate --json", states: &[State::Old, State::OldInWalMode] },
];

/// A command line and the databases on which it is swept.
struct Line {
    args: &'static str,
    states: &'static [State],
}

/// The states in which a database may be when a command writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Ours,
    Platform,
    PlatformInWalMode,
    /// The platform's, with rows in a log whose writer was killed.
    LogLeft,
    /// One without unique indexes.
    Old,
    OldInWalMode,
}

impl State {
    const ALL: [Self; 6] = [Self::New, Self::Ours, Self::Platform, Self::PlatformInWalMode, Self::LogLeft, Self::Old];
    const MADE: [Self; 5] = [Self::Ours, Self::Platform, Self::PlatformInWalMode, Self::LogLeft, Self::Old];

    /// A folder in which commands run on such a database.
    fn world(self) -> World {
        let world = World::new();
        world.write("manage-ports.toml", "timeout = \"1s\"\n[ports]\nprobe = false\n");
        world.write("probing.toml", "timeout = \"1s\"\n");
        world.write(
            "import.json",
            r#"[{"model": "imported", "app_number": 1, "backend_port": 20101, "frontend_port": 20103}]"#,
        );
        world.write(ENV_FILE, "# Ports\nBACKEND_PORT=1\nOTHER='kept'\n");
        world.apps(["kept/app1"]);
        let rows: Vec<_> = [("kept", 1), ("gone", 1), ("gone", 2)]
            .into_iter()
            .chain((1..=20).map(|n| ("more", n)))
            .zip((0..).step_by(2))
            .map(|((model, n), k)| row(model, n, 5001 + k, 8001 + k))
            .collect();
        match self {
            Self::New => {}
            Self::Ours => {
                for line in ["kept 1", "gone 1-2", "more 1-20"] {
                    world.line(&format!("allocate {line} -q")).ok();
                }
            }
            Self::Platform | Self::PlatformInWalMode | Self::LogLeft => world.database(SCHEMA, &rows),
            Self::Old | Self::OldInWalMode => world.database(WEAK_SCHEMA, &rows),
        }
        if matches!(self, Self::PlatformInWalMode | Self::LogLeft | Self::OldInWalMode) {
            world.sql("PRAGMA journal_mode = wal");
        }
        if self == Self::LogLeft {
            let killed = Connection::open(world.default_database()).unwrap();
            killed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            killed.execute_batch("UPDATE port_configurations SET is_available = 1").unwrap();
        }
        world
    }
}

/// The errors with which a call of this kind can fail; none for one that cannot.
fn errors(call: &Call) -> &'static [&'static str] {
    match call.kind.as_str() {
        "open" | "openat" | "openat2" => &["EMFILE", "EACCES", "EIO", "ENOSPC", "EINTR"],
        "read" | "pread64" | "readv" | "getdents64" | "copy_file_range" | "sendfile" => &["EIO", "EINTR"],
        "write" | "pwrite64" | "writev" | "pwritev" | "fallocate" => &["ENOSPC", "EIO", "EINTR"],
        "fsync" | "fdatasync" | "sync_file_range" => &["EIO", "ENOSPC", "EINTR"],
        "ftruncate" | "truncate" => &["EIO", "ENOSPC", "EINTR"],
        "fcntl" => &["EIO", "EACCES", "EINTR"],
        "flock" => &["EIO", "EINTR"],
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlinkat" | "mkdir" | "mkdirat" => {
            &["EIO", "ENOSPC", "EACCES"]
        }
        "unlink" | "unlinkat" | "rmdir" | "fchmod" | "fchmodat" | "fchown" | "fsetxattr" => &["EIO", "EACCES"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "access" | "faccessat"
        | "faccessat2" | "readlink" | "readlinkat" | "fgetxattr" | "flistxattr" | "getcwd" => &["EIO", "EACCES"],
        // Rust's runtime ends a process that cannot close a folder it has listed. No file system refuses that.
        "close" if call.ends_listing => &[],
        "close" => &["EIO", "ENOSPC", "EINTR"],
        "ioctl" => &["EIO"],
        "mmap" => &["ENOMEM", "EACCES"],
        "socket" => &["EMFILE", "EACCES"],
        "bind" | "setsockopt" => &["EACCES", "EIO"],
        "inotify_init1" | "inotify_add_watch" => &["EMFILE", "ENOSPC"],
        "clone" | "clone3" => &["EAGAIN"],
        "getrandom" => &["EINTR"],
        _ => &[],
    }
}

/// A call of an undisturbed run.
struct Call {
    kind: String,
    /// Its number among those of its kind, from 1 on.
    number: usize,
    text: String,
    /// Whether it closes a folder that was listed.
    ends_listing: bool,
}

/// A command on a database, and what an undisturbed run of it does.
struct Case {
    line: &'static Line,
    state: State,
    world: World,
    before: Contents,
    after: Contents,
    answer: String,
    /// What `.env` and `new.env` hold.
    env_before: [Option<Vec<u8>>; 2],
    env_after: [Option<Vec<u8>>; 2],
    files: BTreeSet<PathBuf>,
    /// The calls from the start of `main` on.
    calls: Vec<Call>,
    /// The place in `calls` of the one that commits.
    commit: Option<usize>,
}

/// A row, and whether it is reserved.
type Held = (Row, bool);

/// What a database holds: its rows, in the order of their making, and the definitions of its table and indexes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Contents {
    rows: Vec<Held>,
    schema: Vec<String>,
}

/// What to do to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The call fails with this error.
    Once(&'static str),
    /// The call and all later ones of its kind fail with this error.
    Always(&'static str),
    /// The process is killed before the call.
    Kill,
}

/// A fault at a call of a case.
struct Point {
    case: usize,
    call: usize,
    fault: Fault,
}

impl Case {
    fn new(line: &'static Line, state: State) -> Self {
        let world = state.world();
        let before = held_by_copy(&world.path("")).unwrap();
        let env_before = env_files(world.path(""));
        let copy = copied(&world);
        let (mut command, trace) = strace(copy.path(), line, None);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{} on {state:?}: {output:?}", line.args);
        let calls = calls(&fs::read_to_string(&trace).unwrap());
        fs::remove_file(trace).unwrap();
        let commit = calls.iter().rposition(|call| match call.kind.as_str() {
            "pwrite64" => call.text.contains("ports.db-wal>"),
            "unlink" => call.text.contains("ports.db-journal"),
            _ => false,
        });
        // Before anybody else looks at the database, who would remove its log.
        let files = files(copy.path());
        Self {
            line,
            state,
            before,
            after: held(&copy.path().join(DATABASE)).unwrap(),
            answer: normal(&output.stdout).unwrap(),
            env_before,
            env_after: env_files(copy.path()),
            files,
            world,
            calls,
            commit,
        }
    }

    /// Runs the case with a fault, and then without one; what was wrong, if anything. Returns whether it came to the
    /// fault: how often files in `/proc` are read depends on what else runs on this machine.
    fn attack(&self, point: &Point) -> Result<bool, String> {
        let call = &self.calls[point.call];
        let copy = copied(&self.world);
        let (mut command, trace) = strace(copy.path(), self.line, Some((call, point.fault)));
        let output = command.output().unwrap();
        let database = copy.path().join(DATABASE);
        let happened = match point.fault {
            Fault::Kill => output.status.signal() == Some(9),
            Fault::Once(_) | Fault::Always(_) => fs::read_to_string(&trace).unwrap().contains("INJECTED"),
        };
        fs::remove_file(trace).unwrap();
        let fault = happened.then_some(point.fault);
        self.judge(point.call, fault, &output, copy.path()).map_err(|why| format!("{why}: {}", shown(&output)))?;

        // Whatever became of it, the next call does what is left to do.
        let was_done = held_by_copy(copy.path())? == self.after;
        let output = command_of(copy.path(), self.line, &[MANAGE_PORTS]).output().unwrap();
        let next = |why: &str| format!("the next call {why}: {}", shown(&output));
        // Nothing is left to release, or to migrate.
        let code = if self.line.args.starts_with("release") && was_done { 1 } else { 0 };
        if output.status.code() != Some(code) {
            return Err(next("failed"));
        }
        let log = fs::metadata(copy.path().join("data/ports.db-wal")).map_or(0, |log| log.len());
        if log > 0 {
            return Err(next("left rows in the log"));
        }
        let alone = TempDir::new().unwrap();
        let file = alone.path().join("ports.db");
        fs::copy(&database, &file).unwrap();
        let rows = held(&file).map_err(|err| next(&format!("left a file that alone is no database ({err})")))?;
        if rows != self.after {
            return Err(next(&format!("left these rows in the file: {rows:?}")));
        }
        if env_files(copy.path()) != self.env_after {
            return Err(next("left another env file"));
        }
        let is_copy = |path: &&PathBuf| path.to_string_lossy().contains(COPY);
        let files = files(copy.path());
        let more: Vec<_> = files.difference(&self.files).filter(|path| !is_copy(path)).collect();
        if !more.is_empty() {
            return Err(next(&format!("left {more:?}")));
        }
        Ok(happened)
    }

    /// Judges the run with the fault at this call, or without one if it did not come to it.
    fn judge(&self, call: usize, fault: Option<Fault>, output: &Output, folder: &Path) -> Result<(), String> {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("panicked") {
            return Err("it panicked".to_owned());
        }
        let rows = held_by_copy(folder)?;
        let (is_before, is_after) = (rows == self.before, rows == self.after);
        let env = env_files(folder);
        if env.iter().zip(&self.env_before).zip(&self.env_after).any(|((now, old), new)| now != old && now != new) {
            return Err(format!("a file is neither as before nor as after: {env:?}"));
        }
        let is_behind_commit = self.commit.is_none_or(|commit| call > commit);
        match (fault, output.status.code(), output.status.signal()) {
            (Some(Fault::Kill), None, Some(9)) => {
                let expected = if is_behind_commit { &self.after } else { &self.before };
                if rows == *expected { Ok(()) } else { Err(format!("killed, and the rows are {rows:?}")) }
            }
            (None | Some(Fault::Once(_) | Fault::Always(_)), Some(0), None) => {
                let answer = normal(&output.stdout)?;
                if self.line.args.starts_with("cleanup") && is_part(&answer, &self.before.rows, &rows.rows) {
                    return Ok(());
                }
                if answer != self.answer {
                    return Err(format!("status 0, and another answer than {}", self.answer));
                }
                if !is_after {
                    return Err(format!("status 0, and the rows are {rows:?}"));
                }
                if fault.is_some_and(|fault| loses_data(&self.calls[call], fault)) {
                    return Err("status 0, although a sync of a file failed".to_owned());
                }
                for file in files(folder).iter().filter(|file| file.to_string_lossy().contains(COPY)) {
                    let copy = held(&folder.join(file)).map_err(|err| format!("status 0, and in the copy {err}"))?;
                    if copy != self.before {
                        return Err(format!("status 0, and the copy holds {copy:?}"));
                    }
                }
                if env != self.env_after { Err(format!("status 0, and the file is {env:?}")) } else { Ok(()) }
            }
            (Some(Fault::Once(_) | Fault::Always(_)), Some(1..=6), None) => {
                let can_say_why = !(matches!(fault, Some(Fault::Always(_))) && self.calls[call].kind == "write");
                if can_say_why && !stderr.lines().any(|line| line.starts_with(r#"{"error":{"kind":"#)) {
                    return Err("it failed and did not say why".to_owned());
                }
                let may_be_later = is_behind_commit || matches!(fault, Some(Fault::Always(_)));
                if is_before || is_after && may_be_later {
                    Ok(())
                } else {
                    Err(format!("it failed, and the rows are {rows:?}"))
                }
            }
            _ => Err("it ended oddly".to_owned()),
        }
    }
}

/// Whether a cleanup removed exactly what it says, and no more than it may: it keeps what it cannot look at.
fn is_part(answer: &str, before: &[Held], rows: &[Held]) -> bool {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let Some(removed) = answer["removed"].as_array() else { return false };
    let is_removed = |(row, _): &Held| removed.iter().any(|value| fixture::answered(&value.to_string()) == *row);
    let kept: Vec<_> = before.iter().filter(|row| !is_removed(row)).cloned().collect();
    kept == rows && rows.len() + removed.len() == before.len() && rows.iter().any(|((model, ..), _)| model == "kept")
}

/// Whether this fault leaves a file without its data after a power cut. A folder whose sync fails is told where
/// that matters; SQLite syncs it once more without a look at the outcome.
fn loses_data(call: &Call, fault: Fault) -> bool {
    let is_sync = matches!(call.kind.as_str(), "fsync" | "fdatasync");
    let is_file = ["ports.db", ".env", "(deleted)"].iter().any(|name| call.text.contains(name));
    is_sync && is_file && matches!(fault, Fault::Once("EIO" | "ENOSPC") | Fault::Always("EIO" | "ENOSPC"))
}

/// The command, run by these words, in this folder.
fn command_of(folder: &Path, line: &Line, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(line.args.split(' ')).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// The command under `strace`, which lists its calls, or does this to one of them; and where the list will be.
fn strace(folder: &Path, line: &Line, fault: Option<(&Call, Fault)>) -> (Command, PathBuf) {
    // Beside the folder, so that it is not among the files that the command leaves.
    let trace = folder.with_extension("trace");
    let words = ["timeout", "-s", "KILL", LONGEST, "strace", "-f", "-y", "-qq", "-o"];
    let (filter, inject) = match fault {
        None => ("trace=all".to_owned(), None),
        Some((Call { kind, number, .. }, fault)) => {
            let what = match fault {
                Fault::Once(error) => format!("error={error}:when={number}"),
                Fault::Always(error) => format!("error={error}:when={number}+"),
                Fault::Kill => format!("signal=KILL:when={number}"),
            };
            (format!("trace={kind}"), Some(format!("inject={kind}:{what}")))
        }
    };
    let mut words: Vec<_> = words.into_iter().chain([trace.to_str().unwrap(), "-e", &filter]).collect();
    words.extend(inject.iter().flat_map(|inject| ["-e", inject.as_str()]));
    // It is faster, but gives no signals.
    words.extend(matches!(fault, Some((_, Fault::Once(_) | Fault::Always(_)))).then_some("--seccomp-bpf"));
    words.push(MANAGE_PORTS);
    let mut command = command_of(folder, line, &words);
    command.env("PATH", "/usr/bin:/bin");
    (command, trace)
}

/// The calls in a list from the start of `main` on. What comes before belongs to the loader and to Rust's
/// runtime, whose last step is its handler for SIGBUS.
fn calls(trace: &str) -> Vec<Call> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut calls = Vec::new();
    let mut listed = BTreeSet::new();
    let mut is_in_main = false;
    for line in trace.lines() {
        let Some((pid, text)) = line.split_once(' ') else { continue };
        let Some((kind, arguments)) = text.trim_start().split_once('(') else { continue };
        if !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = counts.entry((pid, kind)).or_default();
        *number += 1;
        let is_new = calls.iter().all(|call: &Call| (call.kind.as_str(), call.number) != (kind, *number));
        if let Some((_, opened)) = arguments.rsplit_once(" = ").filter(|_| arguments.contains("O_DIRECTORY")) {
            listed.insert(opened);
        }
        let ends_listing = kind == "close" && arguments.split(')').next().is_some_and(|closed| listed.remove(closed));
        // How often memory is asked for depends on where the kernel puts it.
        let is_for_memory = matches!(kind, "brk" | "munmap" | "mremap" | "madvise")
            || kind == "mmap" && !arguments.contains("MAP_SHARED");
        if is_in_main && is_new && !is_for_memory {
            calls.push(Call {
                kind: kind.to_owned(),
                number: *number,
                text: text.trim_start().to_owned(),
                ends_listing,
            });
        }
        is_in_main |= kind == "rt_sigaction" && arguments.starts_with("SIGBUS, {");
    }
    assert!(calls.len() > 50, "these are not all calls: {trace}");
    calls
}

/// A new copy of a case's folder.
fn copied(world: &World) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_folder(&world.path(""), copy.path()).unwrap();
    copy
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The paths of all files in a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files
}

fn env_files(folder: impl AsRef<Path>) -> [Option<Vec<u8>>; 2] {
    [ENV_FILE, "new.env"].map(|name| fs::read(folder.as_ref().join(name)).ok())
}

/// The rows that SQLite would find if every process had died now.
fn held_by_copy(folder: &Path) -> Result<Contents, String> {
    let copy = TempDir::new().unwrap();
    for name in ["ports.db", "ports.db-wal", "ports.db-journal"] {
        match fs::copy(folder.join("data").join(name), copy.path().join(name)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(format!("{name}: {err}")),
            _ => {}
        }
    }
    held(&copy.path().join("ports.db"))
}

/// What a database holds, which must be whole; nothing where it was not made yet.
fn held(database: &Path) -> Result<Contents, String> {
    const ROWS: &str = "SELECT model, app_num, iif(model = 'probed', 0, backend_port),
         iif(model = 'probed', 0, frontend_port), coalesce(metadata_json LIKE '%reserved_until%', 0)
         FROM port_configurations ORDER BY id";
    const SCHEMA: &str = "SELECT coalesce(sql, name) FROM sqlite_master ORDER BY 1";
    if fs::metadata(database).map_or(0, |file| file.len()) == 0 {
        return Ok(Contents::default());
    }
    let read = || -> rusqlite::Result<(String, Contents)> {
        let connection = Connection::open(database)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        let integrity = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let mut schema = connection.prepare(SCHEMA)?;
        let schema: Vec<_> = schema.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if schema.is_empty() {
            return Ok((integrity, Contents::default()));
        }
        let mut rows = connection.prepare(ROWS)?;
        let rows = rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?)))?;
        Ok((integrity, Contents { rows: rows.collect::<Result<_, _>>()?, schema }))
    };
    match read() {
        Ok((integrity, contents)) if integrity == "ok" => Ok(contents),
        Ok((integrity, ..)) => Err(format!("integrity_check says {integrity}")),
        Err(err) => Err(format!("the database cannot be read: {err}")),
    }
}

/// An answer without what differs between two runs: moments, names of copies, and ports that the probe chose.
fn normal(stdout: &[u8]) -> Result<String, String> {
    fn walk(value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with("20") && text.contains('T') => *text = "MOMENT".to_owned(),
            Value::String(text) if text.contains(COPY) => *text = "COPY".to_owned(),
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::Object(map) => {
                let is_probed = map.get("model").is_some_and(|model| model == "probed");
                for (key, value) in map {
                    if is_probed && key.ends_with("_port") {
                        *value = 0.into();
                    }
                    walk(value);
                }
            }
            _ => {}
        }
    }
    let text = str::from_utf8(stdout).map_err(|err| err.to_string())?;
    let lines = text.lines().map(|line| {
        let mut value = serde_json::from_str(line).map_err(|err| format!("{err} in the answer"))?;
        walk(&mut value);
        Ok(format!("{value}\n"))
    });
    lines.collect()
}

fn shown(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    format!("{}, stdout {stdout:?}, stderr {stderr:?}", output.status)
}

/// The points to take: all, or one of many of each kind.
fn points(cases: &[Case], all: bool) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, Fault), usize> = BTreeMap::new();
    let mut points = Vec::new();
    for (case, Case { calls, .. }) in cases.iter().enumerate() {
        for (at, call) in calls.iter().enumerate() {
            let errors = errors(call).iter().copied();
            // A call to close that was made to fail leaves the descriptor open, unlike one that failed by itself.
            let can_persist = !matches!(call.kind.as_str(), "close" | "getrandom");
            let always = errors.clone().take(usize::from(can_persist)).map(Fault::Always);
            for fault in errors.map(Fault::Once).chain(always).chain([Fault::Kill]) {
                let count = counts.entry((&call.kind, fault)).or_default();
                // SQLite itself waits for ten seconds for locks that cannot be had.
                let is_slow = matches!(fault, Fault::Always(_)) && call.kind == "fcntl";
                if all || count.is_multiple_of(ONE_OF) && !is_slow {
                    points.push(Point { case, call: at, fault });
                }
                *count += 1;
            }
        }
    }
    points
}

#[test]
fn no_failure_and_no_kill_loses_a_row() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(env::var_os("CI").is_none(), "no strace");
        return not_run("the sweep: no strace");
    }
    let start = Instant::now();
    let all = env::var_os("MANAGE_PORTS_SWEEP").is_some_and(|value| value == "all");
    let commands = commands();
    let has_command = |line: &&Line| line.args.split(' ').any(|word| commands.iter().any(|command| command == word));
    let lines = LINES.iter().filter(has_command);
    let cases = lines.flat_map(|line| line.states.iter().map(|state| Case::new(line, *state))).collect::<Vec<_>>();
    let points = points(&cases, all);

    let [next, failures, kills] = [const { AtomicUsize::new(0) }; 3];
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let done = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(done) else { break };
                    if all && done.is_multiple_of(1000) {
                        say(&format!("sweep: {done} of {} points", points.len()));
                    }
                    let case = &cases[point.case];
                    match (case.attack(point), point.fault) {
                        (Ok(false), _) => {}
                        (Ok(true), Fault::Kill) => drop(kills.fetch_add(1, Ordering::Relaxed)),
                        (Ok(true), _) => drop(failures.fetch_add(1, Ordering::Relaxed)),
                        (Err(why), fault) => {
                            let Call { kind, number, text, .. } = &case.calls[point.call];
                            let (line, state) = (case.line.args, case.state);
                            let what = format!("{fault:?} at {kind} {number} of `{line}` on {state:?}: {why} ({text})");
                            wrong.lock().unwrap().push(what);
                        }
                    }
                }
            });
        }
    });

    let (failures, kills) = (failures.into_inner(), kills.into_inner());
    let kinds: BTreeSet<_> = cases.iter().flat_map(|case| &case.calls).map(|call| &call.kind).collect();
    say(&format!(
        "sweep: {failures} failures injected and {kills} kills, {} commands on databases, {} calls of {} kinds, {:.0} s",
        cases.len(),
        cases.iter().map(|case| case.calls.len()).sum::<usize>(),
        kinds.len(),
        start.elapsed().as_secs_f64()
    ));
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} went wrong:\n{}", wrong.len(), points.len(), wrong.join("\n"));
    assert!(10 * (failures + kills) > 9 * points.len(), "only {failures} failures and {kills} kills happened");
}
