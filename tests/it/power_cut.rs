//! Power cuts in the middle of a storm: what was answered is on every disk that could be left.
//!
//! A storm of real processes runs under `strace`, which writes the file calls of all of them in one
//! order. The calls are replayed on three states of the disk: what was started, what has returned,
//! and what was synced. A sync makes durable what had returned when it started, once it has
//! returned itself: a file's bytes and length but not its name, a folder's names but not what they
//! name. A name that was removed and not synced is there again after the cut.
//!
//! At each answer, and between them at each change but a mere write, SQLite recovers five disks: the
//! synced data under the synced names, the synced data under all names, everything written, and
//! everything written but to the database, or but to its log: an old log is back, say, whose
//! truncation was not synced. Each must be whole and agree with every answer so far. `-shm` files are
//! memory and left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::slice;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::fixture::{Row, SCHEMA, WEAK_SCHEMA, World, not_run, platform_rows, row, say};

const DATABASE: &str = "data/ports.db";
const LOG: &str = "data/ports.db-wal";

/// The calls that change files or sync them; not every machine has each.
const CALLS: &str = "trace=?open,openat,write,writev,pwrite64,pwritev,ftruncate,?truncate,fallocate,?mkdir,mkdirat,\
    ?unlink,unlinkat,?rename,?renameat,renameat2,?link,linkat,fsync,fdatasync";

/// A slow disk: while one process waits for it, others read what is not durable yet.
const DELAY: &str = "inject=fsync,fdatasync:delay_enter=2000";

/// Stands for every folder: its entries are known by its path, which never changes here.
const FOLDER: usize = 0;

type Rows = BTreeSet<Row>;

/// What a power cut leaves: each path's bytes, none for a folder.
type Image = BTreeMap<PathBuf, Option<Rc<Vec<u8>>>>;

/// Names and inodes, the paths relative to the world's folder.
#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<PathBuf, usize>,
    data: BTreeMap<usize, Rc<Vec<u8>>>,
}

enum Change {
    Add(PathBuf, usize),
    Remove(PathBuf, usize),
    Write(usize, usize, Vec<u8>),
    Resize(usize, usize),
}

impl Disk {
    /// The files and folders that are there now.
    fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let Some(name) = watched(root, &path) else { continue };
                if path.is_dir() {
                    disk.names.insert(name, FOLDER);
                    folders.push(path);
                } else {
                    let inode = disk.names.len() + 1;
                    disk.data.insert(inode, Rc::new(fs::read(path).unwrap()));
                    disk.names.insert(name, inode);
                }
            }
        }
        disk
    }

    fn find(&self, path: &Path) -> Option<usize> {
        if path == Path::new("") { Some(FOLDER) } else { self.names.get(path).copied() }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Add(path, inode) => {
                self.names.insert(path.clone(), *inode);
            }
            Change::Remove(path, inode) if self.find(path) == Some(*inode) => {
                self.names.remove(path);
            }
            Change::Remove(..) => {}
            Change::Write(inode, offset, bytes) => {
                let data = Rc::make_mut(self.data.entry(*inode).or_default());
                let end = offset + bytes.len();
                data.resize(data.len().max(end), 0);
                data[*offset..end].copy_from_slice(bytes);
            }
            Change::Resize(inode, length) => Rc::make_mut(self.data.entry(*inode).or_default()).resize(*length, 0),
        }
    }

    /// This data, but for the file at `path` that of another disk.
    fn with(&self, path: &str, of: &Self) -> Self {
        let mut disk = self.clone();
        if let Some(inode) = self.find(Path::new(path)) {
            disk.data.insert(inode, of.data.get(&inode).cloned().unwrap_or_default());
        }
        disk
    }

    /// These names with that data, as far as a folder leads to them.
    fn image(&self, data: &Self) -> Image {
        let mut image = Image::new();
        for (path, inode) in &self.names {
            let folder = path.parent().unwrap();
            if folder == Path::new("") || image.contains_key(folder) {
                let data = (*inode != FOLDER).then(|| data.data.get(inode).cloned().unwrap_or_default());
                image.insert(path.clone(), data);
            }
        }
        image
    }
}

/// A call that has started.
#[derive(Default)]
struct Call {
    changes: Vec<Change>,
    /// The name that is there if it succeeds.
    finds: Option<(PathBuf, usize)>,
    sync: Option<Sync>,
}

/// What a sync makes durable once it returns.
struct Sync {
    number: usize,
    path: PathBuf,
    inode: usize,
    seen: Disk,
}

/// What a replay has seen, to tell whether it was worth it.
#[derive(Default)]
struct Report {
    answers: usize,
    images: usize,
    /// How many answers there were when the database file itself was first written.
    first_page: Option<usize>,
}

#[derive(Default)]
struct Replay<'a> {
    root: PathBuf,
    started: Disk,
    returned: Disk,
    durable: Disk,
    /// The call that each process is in.
    calls: HashMap<&'a str, Call>,
    /// The last sync applied to each inode: one that started before it has nothing to add.
    synced: HashMap<(PathBuf, usize), usize>,
    count: usize,
    rows: Rows,
    released: Rows,
    /// Whether a migration has answered.
    is_migrated: bool,
    last_answer: String,
    read: [Option<(Image, Rc<Rows>)>; 5],
    report: Report,
}

/// Replays a trace on what was there before it: what is there, the synced part of it, rows in that.
fn replay(root: &Path, there: Disk, durable: Disk, rows: Rows, trace: &str) -> Result<(Report, Disk), String> {
    let (count, returned) = (there.names.len(), there.clone());
    let mut replay =
        Replay { root: root.to_owned(), started: there, returned, durable, rows, count, ..Replay::default() };
    for (number, line) in (1..).zip(trace.lines()) {
        let (pid, call) = line.split_once(' ').unwrap();
        let (call, result) = call.rsplit_once(" = ").map_or((call, None), |(call, result)| (call, Some(result)));
        let mut is_moment = false;
        if let Some((name, arguments)) = call.trim_start().split_once('(') {
            let arguments = arguments.trim_end_matches("<unfinished ...>").trim_end();
            is_moment |= replay.start(pid, name, arguments.strip_suffix(')').unwrap_or(arguments));
        }
        if let Some(result) = result {
            is_moment |= replay.finish(pid, result);
        }
        if is_moment {
            replay.check().map_err(|why| format!("line {number} of the trace, {why}"))?;
        }
    }
    replay.check().map_err(|why| format!("the end of the trace, {why}"))?;
    Ok((replay.report, replay.started))
}

impl<'a> Replay<'a> {
    /// Takes a call that starts, and whether the disks are to be looked at now.
    fn start(&mut self, pid: &'a str, name: &str, arguments: &str) -> bool {
        let arguments: Vec<_> = arguments.split(", ").collect();
        if name == "write" && arguments[0].starts_with("1<") {
            self.print(str::from_utf8(&unquote(arguments[1])).unwrap());
            return true;
        }
        let paths = paths(&self.root, name, &arguments);
        let Some(path) = paths.first().and_then(|path| watched(&self.root, path)) else { return false };
        let number = |at: usize| arguments[at].parse().unwrap();
        let has_flag = |flag| arguments.iter().any(|argument| argument.contains(flag));
        let has_folder = || self.started.find(path.parent().unwrap()) == Some(FOLDER);
        self.count += 1;
        let mut call = Call::default();
        match (name, self.started.find(&path)) {
            ("open" | "openat" | "mkdir" | "mkdirat", Some(inode)) => {
                if has_flag("O_TRUNC") {
                    call.changes.push(Change::Resize(inode, 0));
                }
                call.finds = Some((path, inode));
            }
            ("open" | "openat", None) if has_flag("O_CREAT") && has_folder() => {
                call.changes.push(Change::Add(path.clone(), self.count));
                call.finds = Some((path, self.count));
            }
            ("mkdir" | "mkdirat", None) if has_folder() => {
                call.changes.push(Change::Add(path.clone(), FOLDER));
                call.finds = Some((path, FOLDER));
            }
            ("unlink" | "unlinkat", Some(inode)) => call.changes.push(Change::Remove(path, inode)),
            ("rename" | "renameat" | "renameat2", Some(inode)) if inode != FOLDER => {
                let to = watched(&self.root, &paths[1]).unwrap();
                call.changes.extend([Change::Remove(path, inode), Change::Add(to, inode)]);
            }
            ("pwrite64", Some(inode)) => {
                if path == Path::new(DATABASE) {
                    self.report.first_page.get_or_insert(self.report.answers);
                }
                call.changes.push(Change::Write(inode, number(3), unquote(arguments[1])));
            }
            ("ftruncate", Some(inode)) => call.changes.push(Change::Resize(inode, number(1))),
            ("fsync" | "fdatasync", Some(inode)) => {
                call.sync = Some(Sync { number: self.count, path, inode, seen: self.returned.clone() });
            }
            // It is not there, or lost its name since it was opened.
            (_, None) => {}
            _ => panic!("the model does not know {name} of {}", path.display()),
        }
        call.changes.iter().for_each(|change| self.started.apply(change));
        let is_moment = call.changes.iter().any(|change| !matches!(change, Change::Write(..)));
        self.calls.insert(pid, call);
        is_moment
    }

    /// Takes the result of the call that a process is in, and whether to look at the disks now.
    fn finish(&mut self, pid: &'a str, result: &str) -> bool {
        let Some(call) = self.calls.remove(pid) else { return false };
        // Of several calls that add a name the first may lose: who finds it knows that it is there.
        if let Some((path, inode)) = call.finds
            && (!result.starts_with('-') || result.contains("EEXIST"))
            && self.started.find(&path) == Some(inode)
        {
            self.returned.apply(&Change::Add(path, inode));
        }
        let result: Option<usize> = result.split(['<', ' ']).next().and_then(|number| number.parse().ok());
        for change in &call.changes {
            if let Change::Write(.., bytes) = change {
                assert_eq!(result, Some(bytes.len()), "a write that fell short");
            }
            if result.is_some() {
                self.returned.apply(change);
            }
        }
        let Some(Sync { number, path, inode, seen }) = call.sync.filter(|_| result.is_some()) else { return false };
        let last = self.synced.entry((path.clone(), inode)).or_default();
        if *last > number {
            return false;
        }
        *last = number;
        if inode == FOLDER {
            let is_in = |name: &PathBuf| name.parent() == Some(path.as_path());
            self.durable.names.retain(|name, _| !is_in(name));
            self.durable.names.extend(seen.names.into_iter().filter(|(name, _)| is_in(name)));
        } else {
            self.durable.data.extend(seen.data.get_key_value(&inode).map(|(inode, data)| (*inode, data.clone())));
        }
        true
    }

    /// Takes the answers that go to stdout, each a line.
    fn print(&mut self, answers: &str) {
        for answer in answers.lines() {
            let answer: Value = serde_json::from_str(answer).unwrap();
            self.report.answers += 1;
            if answer.get("added").is_some() {
                self.is_migrated = true;
                self.last_answer = "of the migration".to_owned();
                continue;
            }
            let (rows, answered) = match answer["released"].as_array() {
                Some(released) => (&mut self.released, released.as_slice()),
                None => (&mut self.rows, slice::from_ref(&answer)),
            };
            rows.extend(answered.iter().map(row_of));
            self.last_answer = format!("{:?}", row_of(&answered[0]));
        }
    }

    /// Looks at the five disks that a power cut could leave now.
    fn check(&mut self) -> Result<(), String> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let disks = [
            ("only what was synced", self.durable.image(&self.durable)),
            ("the synced data and all names", self.started.image(&self.durable)),
            ("everything written", self.started.image(&self.started)),
            ("the synced database and all else", self.started.image(&self.started.with(DATABASE, &self.durable))),
            ("the synced log and all else", self.started.image(&self.started.with(LOG, &self.durable))),
        ];
        for (at, (disk, image)) in disks.into_iter().enumerate() {
            let known = self.read.iter().flatten().find(|(known, _)| *known == image);
            self.report.images += usize::from(known.is_none());
            let rows = known.map_or_else(|| recover(&image).map(Rc::new), |(_, rows)| Ok(rows.clone()));
            let agrees = rows.and_then(|rows| {
                let lost = self.rows.difference(&rows).map(|row| format!("{row:?} was answered and is lost"));
                let back = self.released.intersection(&rows).map(|row| format!("{row:?} was released and is back"));
                let wrong: Vec<_> = lost.chain(back).collect();
                if wrong.is_empty() { Ok(rows) } else { Err(wrong.join(", ")) }
            });
            let agrees = agrees.and_then(|rows| migration_holds(&image, self.is_migrated).map(|()| rows));
            let Self { last_answer, report: Report { answers, .. }, .. } = self;
            let rows = agrees
                .map_err(|why| format!("on the disk with {disk}, after answer {answers} {last_answer}: {why}"))?;
            self.read[at] = Some((image, rows));
        }
        Ok(())
    }
}

/// Lets SQLite recover an image, and returns its rows.
fn recover(image: &Image) -> Result<Rows, String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, data) in image {
        match data {
            Some(data) => fs::write(folder.path().join(path), data.as_slice()).unwrap(),
            None => fs::create_dir(folder.path().join(path)).unwrap(),
        }
    }
    let read = || -> rusqlite::Result<(String, Rows)> {
        let database = folder.path().join(DATABASE);
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        let integrity = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let sql = "SELECT model, app_num, backend_port, frontend_port FROM port_configurations";
        let mut rows = connection.prepare(sql)?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok((integrity, rows.collect::<Result<_, _>>()?))
    };
    match read() {
        Ok((integrity, rows)) if integrity == "ok" => Ok(rows),
        Ok((integrity, _)) => Err(format!("integrity_check says {integrity}")),
        Err(err) => Err(format!("the database cannot be read: {err}")),
    }
}

/// Checks that the copy of a migration is whole and there before the table is changed, and that the change is
/// there once the migration has answered. Without a migration, there is no copy and nothing to check.
fn migration_holds(image: &Image, is_migrated: bool) -> Result<(), String> {
    let is_copy = |path: &PathBuf| path.to_string_lossy().contains("ports.db.before-migrate-2");
    let copy = image.iter().find(|(path, _)| is_copy(path));
    if let Some((path, data)) = copy {
        let alone = [(PathBuf::from("data"), None), (PathBuf::from(DATABASE), data.clone())].into();
        recover(&alone).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    if !is_migrated && copy.is_none() && !image.keys().any(|path| path.to_string_lossy().ends_with(".tmp")) {
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    for name in [DATABASE, LOG, "data/ports.db-journal"] {
        if let Some(Some(data)) = image.get(Path::new(name)) {
            fs::create_dir_all(folder.path().join("data")).unwrap();
            fs::write(folder.path().join(name), data.as_slice()).unwrap();
        }
    }
    let connection = Connection::open(folder.path().join(DATABASE)).unwrap();
    let sql = "SELECT count(*) FROM pragma_index_list('port_configurations') WHERE \"unique\"";
    let indexes: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(|err| err.to_string())?;
    match (indexes, copy) {
        (0, _) if is_migrated => Err("the migration was answered, and the table is the old one".to_owned()),
        (3, None) => Err("the table is the new one, and there is no copy of the old one".to_owned()),
        (0 | 3, _) => Ok(()),
        _ => Err(format!("the table has {indexes} of 3 unique indexes")),
    }
}

/// A path relative to the world's folder, if it is in there and outlives the machine.
fn watched(root: &Path, path: &Path) -> Option<PathBuf> {
    let is_memory = path.as_os_str().as_encoded_bytes().ends_with(b"-shm");
    path.strip_prefix(root).ok().filter(|_| !is_memory).map(Path::to_owned)
}

/// The paths that a call is about: those it names, or that of its descriptor unless it was removed.
fn paths(root: &Path, name: &str, arguments: &[&str]) -> Vec<PathBuf> {
    let path = |text: &str| PathBuf::from(String::from_utf8(unquote(text)).unwrap());
    let descriptor = |text: &str| text.split_once('<').map(|(_, text)| path(text.split('>').next().unwrap()));
    if !["open", "mkdir", "unlink", "rename", "link", "truncate"].iter().any(|call| name.starts_with(call)) {
        let is_removed = arguments[0].contains(">(deleted");
        return descriptor(arguments[0]).filter(|_| !is_removed).into_iter().collect();
    }
    let mut folder = root.to_owned();
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.starts_with('"') {
            paths.push(folder.join(path(argument)));
        } else if let Some(descriptor) = descriptor(argument) {
            folder = descriptor;
        }
    }
    paths
}

/// The bytes of a string, in which strace writes each as `\x2f`.
fn unquote(text: &str) -> Vec<u8> {
    assert!(!text.ends_with("..."), "strace cut a string off");
    let text = text.trim_matches('"');
    match text.strip_prefix("\\x") {
        Some(hex) => hex.split("\\x").map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect(),
        None => text.as_bytes().to_vec(),
    }
}

fn row_of(value: &Value) -> Row {
    let number = |key: &str| value[key].as_i64().unwrap();
    row(value["model"].as_str().unwrap(), number("app_num"), number("backend_port"), number("frontend_port"))
}

/// Starts each wave of command lines at once, each process traced, and replays all of it on a disk
/// where one file was not synced before.
fn storm(world: &World, unsynced: Option<&str>, waves: &[Vec<String>]) -> Option<Report> {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(env::var_os("CI").is_none(), "no strace");
        not_run("power cuts: no strace");
        return None;
    }
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    let root = world.path("").canonicalize().unwrap();
    let there = Disk::of(&root);
    let mut durable = there.clone();
    if let Some(path) = unsynced {
        let inode = durable.names.remove(Path::new(path)).unwrap();
        durable.data.remove(&inode);
    }
    // Looking at the database itself would change it.
    let is_new = durable.find(Path::new(DATABASE)).is_none();
    let mut rows = if is_new { Rows::new() } else { recover(&durable.image(&durable)).unwrap() };
    rows.retain(|(model, ..)| model != "released");

    // A disk shared with other work may stall for longer than the default timeout.
    let wave = |lines: &Vec<String>| {
        lines.iter().map(|line| format!("\"$0\" {line} --json --timeout 3m &\n")).collect::<String>()
    };
    let script: String = waves.iter().map(|lines| wave(lines) + "wait\n").collect();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "10000000",
        "--quiet=all",
        "--signal=none",
        "-e",
        CALLS,
        "-e",
        DELAY,
        "-o",
    ]);
    strace.arg(trace.path()).args(["env", "-i", "sh", "-c", &script, env!("CARGO_BIN_EXE_manage-ports")]);
    let ran = strace.current_dir(&root).stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let talk = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{talk}");

    let trace = fs::read_to_string(trace.path()).unwrap();
    let (report, written) = replay(&root, there, durable, rows, &trace).unwrap_or_else(|why| panic!("{why}"));
    let there = Disk::of(&root);
    assert!(written.image(&written) == there.image(&there), "the trace does not lead to what is there");
    assert_eq!(report.answers, waves.concat().len(), "{talk}");
    assert!(report.images > 0, "no disk was looked at");
    say(&format!("power cuts: {} disks after {} answers", report.images, report.answers));
    Some(report)
}

fn allocate(apps: impl IntoIterator<Item = u32>) -> Vec<String> {
    apps.into_iter().map(|app| format!("allocate --model m --app {app}")).collect()
}

#[test]
fn a_new_database_outlives_a_power_cut() {
    let world = World::new();
    storm(&world, None, &[allocate(1..=24)]);
}

/// Allocates 20 apps and releases 4 in a database that has rows.
fn storm_on_existing(writes_ahead: bool) {
    let world = World::new();
    let released = (1..=4).map(|n| row("released", n, 7000 + n, 9600 + n));
    world.database(SCHEMA, &platform_rows().into_iter().chain(released).collect::<Vec<_>>());
    if writes_ahead {
        // As a mere reader leaves it: an empty log that nobody synced.
        log(&world).query_row("SELECT 1 FROM port_configurations", [], |_| Ok(())).unwrap();
    }
    let lines = (1..=4).map(|n| format!("release released {n}")).chain(allocate(1..=20)).collect();
    storm(&world, writes_ahead.then_some(LOG), &[lines]);
}

/// A platform whose database has been in WAL mode since its connections were opened, and which goes on
/// to write to it.
#[test]
fn the_platforms_database_in_wal_mode_outlives_a_power_cut() {
    for is_open in [false, true] {
        let world = World::new();
        let released = (1..=4).map(|n| row("released", n, 7000 + n, 9600 + n));
        world.database(SCHEMA, &platform_rows().into_iter().chain(released).collect::<Vec<_>>());
        let platform = Connection::open(world.default_database()).unwrap();
        platform.execute_batch("PRAGMA journal_mode=WAL; UPDATE port_configurations SET is_available = 1").unwrap();
        // Either it has gone and taken its log along, or its connection keeps a log with frames.
        let platform = Some(platform).filter(|_| is_open);
        assert_eq!(world.path(LOG).exists(), is_open);
        let lines: Vec<_> = (1..=4).map(|n| format!("release released {n}")).chain(allocate(1..=20)).collect();
        storm(&world, None, &[lines, allocate([21]), allocate([22, 21])]);
        drop(platform);
    }
}

#[test]
fn a_database_with_a_write_ahead_log_outlives_a_power_cut() {
    storm_on_existing(true);
}

#[test]
fn the_platforms_database_outlives_a_power_cut() {
    storm_on_existing(false);
}

#[test]
fn one_app_asked_for_by_24_outlives_a_power_cut() {
    for writer_died in [false, true] {
        let world = World::new();
        if writer_died {
            world.database(SCHEMA, &[]);
            let log = log(&world);
            let sql = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, is_available)
                       VALUES ('m', 7, 5001, 8001, 1)";
            log.execute(sql, []).unwrap();
        }
        storm(&world, writer_died.then_some(LOG), &[allocate([7; 24])]);
    }
}

#[test]
fn answers_around_a_checkpoint_outlive_a_power_cut() {
    // The last of a wave empties the log; SQLite's own checkpoint comes at 1,000 frames, in a wave.
    for frames in [56, 980] {
        let world = World::new();
        world.database(SCHEMA, &[row("other", 1, 5001, 8001)]);
        let log = log(&world);
        while fs::metadata(world.path(LOG)).map_or(0, |log| log.len()) < frames * (4096 + 24) {
            log.execute("UPDATE port_configurations SET is_available = 1", []).unwrap();
        }
        drop(log);
        let Some(report) = storm(&world, None, &[allocate(1..=12), allocate(13..=24)]) else { return };
        assert!(report.first_page.is_some_and(|answers| answers < 24), "no checkpoint before the last answer");
    }
}

/// A connection that writes ahead and leaves its log behind.
fn log(world: &World) -> Connection {
    let connection = Connection::open(world.default_database()).unwrap();
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection
}

#[test]
fn a_migration_and_its_copy_outlive_a_power_cut() {
    for writes_ahead in [false, true] {
        let world = World::new();
        world.database(WEAK_SCHEMA, &platform_rows()[..60]);
        if writes_ahead {
            world.sql("PRAGMA journal_mode = wal");
        }
        let lines = |apps| allocate(apps).into_iter().chain(["migrate".to_owned()]).collect();
        storm(&world, None, &[allocate([1]), lines(2..=6), allocate([7])]);
    }
}

#[test]
fn a_broken_order_is_found() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let database = fs::read(world.default_database()).unwrap();
    let length = database.len();
    let answer = "{\"model\":\"m\",\"app_num\":1,\"backend_port\":5001,\"frontend_port\":8001}\n";

    // Two make the folder, and the one that started first is too late.
    let mkdir = r#"1 mkdir("data", 0777 <unfinished ...>
3 mkdir("data", 0777 <unfinished ...>
1 <... mkdir resumed>) = -1 EEXIST (File exists)"#;
    let sync_root = "1 fsync(3</world>) = 0";
    let open = r#"1 openat(AT_FDCWD</world>, "data/ports.db", O_RDWR|O_CREAT, 0644) = 3</world/data/ports.db>"#;
    let write_starts =
        &format!(r#"1 pwrite64(3</world/data/ports.db>, "{}", {length}, 0 <unfinished ...>"#, hex(&database));
    let write_returns = &format!("1 <... pwrite64 resumed>) = {length}");
    let sync_starts = "2 fdatasync(3</world/data/ports.db> <unfinished ...>";
    let sync_returns = "2 <... fdatasync resumed>) = 0";
    let sync_folder = "1 fsync(4</world/data>) = 0";
    let answer = &format!(r#"1 write(1</dev/null>, "{}", {}) = {1}"#, hex(answer.as_bytes()), answer.len());
    let truncate = "1 ftruncate(3</world/data/ports.db>, 100) = 0";
    let unlink = r#"1 unlink("data/ports.db") = 0"#;

    let replay = |end: &[&str]| {
        let trace = [&[mkdir, open, write_starts], end].concat().join("\n");
        replay(Path::new("/world"), Disk::default(), Disk::default(), Rows::new(), &trace)
            .map(|(report, _)| report.answers)
    };
    let good = [write_returns, sync_root, sync_starts, sync_returns, sync_folder, answer];
    assert_eq!(replay(&good), Ok(1));

    #[rustfmt::skip]
    let broken: [(&str, &str, &[&str]); 7] = [
        ("only what was synced", "no such table", &[write_returns, sync_root, sync_folder, answer, sync_starts, sync_returns]),
        ("only what was synced", "no such table", &[write_returns, sync_root, sync_folder, sync_starts, answer, sync_returns]),
        ("only what was synced", "no such table", &[sync_starts, write_returns, sync_returns, sync_root, sync_folder, answer]),
        ("only what was synced", "unable to open", &[write_returns, sync_root, sync_starts, sync_returns, answer, sync_folder]),
        ("only what was synced", "unable to open", &[write_returns, sync_starts, sync_returns, sync_folder, answer, sync_root]),
        ("the synced data and all names", "unable to open", &[&good[..], &[unlink]].concat()),
        ("everything written", "malformed", &[&good[..], &[truncate]].concat()),
    ];
    for (disk, why, end) in broken {
        let said = replay(end).unwrap_err();
        assert!(said.contains(&format!("the disk with {disk}, after answer 1")) && said.contains(why), "{said}");
    }
}

#[test]
fn an_empty_log_beside_a_rollback_journal_is_no_log() {
    let world = World::new();
    world.database(SCHEMA, &platform_rows());
    world.write(LOG, "");
    storm(&world, None, &[allocate(1..=8)]);
}
