//! Every figure that the README quotes, as a ratio of two things measured in one run.
//!
//! A machine's times say nothing about another's, and change while others work on it. So each thing
//! is measured in turn with what it is compared to, over many rounds, and their medians are divided:
//!
//! - the floor is `floor.c`, a program that makes 4 KiB durable and ends; `trop` is the nearest peer,
//!   run as it comes and lean, that is without its clean-up and its look at what listens;
//! - a process is timed as a whole, from its start to its exit, its output thrown away;
//! - a call that writes is for an app that is new, and is taken back before the next one is timed:
//!   a database of 1,000 rows has 1,000 in every round;
//! - a storm has a new database with one row in every round. This file's own binary starts it, its
//!   callers waiting at a barrier, each on a thread of its own. Its wall is the time from the first
//!   start to the last exit, p99 is of the callers' times from start to exit.
//!
//! The program that is measured is the one that cargo builds, or the one that `MANAGE_PORTS_BIN` names.
//!
//! Two figures need a definition:
//!
//! - A fair queue lets callers through one after another at a steady pace, so it ends when as much
//!   time has gone by again as the first half of them took: its wall is twice the time from the first
//!   start to the middle exit. A storm that lets some starve ends long after that.
//! - "One slow sync at a time" is this file's own binary again, as [`one_sync_at_a_time`]: the same row
//!   written by the same SQLite behind the same kind of queue, but synced before the queue moves on.
//!   It parses no command line, looks nothing up and probes nothing, so it is quicker than this program
//!   would be if it did the same. Both storms run under one `strace` that makes each sync 5 ms longer;
//!   `--seccomp-bpf` keeps it out of all other system calls.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod measure;

use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use self::measure::{
    AT_ONCE, Result, Samples, Table, at_once, in_turn, milliseconds, note, note_storm, program, succeed,
};

/// What is measured, against what, and the ratio to reach where there is one.
const TABLE: &Table = &[
    ("allocate, no rows", "floor", Some(2.8)),
    ("allocate, 1,000 rows", "floor", Some(2.9)),
    ("allocate, 10,000 rows", "floor", Some(3.8)),
    ("allocate, platform's database", "floor", Some(3.9)),
    ("allocate, platform's in WAL mode", "floor", None),
    ("allocate, no rows", "trop reserve", Some(0.7)),
    ("allocate, no rows", "trop reserve, lean", None),
    ("trop reserve", "floor", None),
    ("trop reserve, lean", "floor", None),
    ("64 at once", "64 at once, lean trop", Some(0.65)),
    ("256 at once", "256 at once, lean trop", Some(0.55)),
    ("256 at once, failures", "256 at once, callers", Some(0.0)),
    ("256 at once, p99", "256 at once, fair queue", Some(1.5)),
    ("32 at once, slow sync", "32 at once, one slow sync at a time", Some(0.33)),
    ("list", "find", Some(3.0)),
    ("list --json", "find", Some(2.0)),
    ("check", "find", Some(4.0)),
    ("quick_check of its 10,000 rows", "check", None),
    ("cleanup --dry-run", "find", Some(2.5)),
];

/// The single calls that write, with the floor.
const WRITING: &[(&str, Call)] = &[
    ("floor", Call::Floor),
    ("allocate, no rows", Call::Allocate("empty.db")),
    ("allocate, 1,000 rows", Call::Allocate("thousand.db")),
    ("allocate, 10,000 rows", Call::Allocate("ten-thousand.db")),
    ("allocate, platform's database", Call::Allocate("platform.db")),
    ("allocate, platform's in WAL mode", Call::Allocate("platform-wal.db")),
    ("trop reserve", Call::Trop("")),
    ("trop reserve, lean", Call::Trop(LEAN)),
];

/// The single calls that read, with `find`.
const READING: &[(&str, Call)] = &[
    ("find", Call::Find),
    ("list", Call::Read("list")),
    ("list --json", Call::Read("list --json")),
    ("check", Call::Read("check")),
    ("cleanup --dry-run", Call::Read("cleanup --dry-run")),
];

/// Two storms that take turns: how many callers, how many rounds, and who calls.
type Storms = (usize, usize, [(&'static str, Caller); 2]);
const STORMS: &[Storms] = &[
    (64, 9, [("64 at once", Caller::Ours), ("64 at once, lean trop", Caller::LeanTrop)]),
    (256, 5, [("256 at once", Caller::Ours), ("256 at once, lean trop", Caller::LeanTrop)]),
    (32, 9, [("32 at once, slow sync", Caller::Slowed), ("32 at once, one slow sync at a time", Caller::OneByOne)]),
];

const SINGLE_ROUNDS: usize = 101;
const LEAN: &str = "--disable-autoclean --skip-occupancy-check";
const SLOW: &str =
    "-f --seccomp-bpf -qq -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:delay_exit=5000";
const ONE_SYNC_AT_A_TIME: &str = "one-sync-at-a-time";

/// A call that is timed alone.
enum Call {
    Floor,
    /// For a new app, in this database.
    Allocate(&'static str),
    /// For a new path, with these flags.
    Trop(&'static str),
    Find,
    /// Arguments that only read.
    Read(&'static str),
}

/// Who takes part in a storm.
#[derive(Clone, Copy)]
enum Caller {
    Ours,
    LeanTrop,
    /// Ours with slow syncs.
    Slowed,
    /// The same with one sync at a time.
    OneByOne,
}

fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [ONE_SYNC_AT_A_TIME, database, app] => one_sync_at_a_time(Path::new(database), app.parse()?),
        [AT_ONCE, count, path, ref args @ ..] => at_once(count.parse()?, path, args),
        ref args if args.contains(&"--bench") => bench(),
        // `cargo test --all-targets` only wants to know that it starts.
        _ => Ok(()),
    }
}

fn bench() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ratios");
    let _ = fs::remove_dir_all(&scratch);
    let program =
        env::var_os("MANAGE_PORTS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_manage-ports").into(), PathBuf::from);
    let [trop, strace, find] = ["trop", "strace", "find"].map(on_path);
    let bench = Bench { scratch, program, trop, strace, find };
    bench.prepare()?;
    let mut samples = Samples::new();
    bench.singles(WRITING, &mut samples)?;
    bench.singles(READING, &mut samples)?;
    bench.quick_checks(&mut samples)?;
    for storms in STORMS {
        bench.storms(storms, &mut samples)?;
    }
    measure::print(TABLE, &samples, missing)?;
    let storms: Vec<_> = STORMS.iter().map(|(count, rounds, _)| format!("{rounds} of {count} at once")).collect();
    println!("program: {}", bench.program.display());
    println!("rounds: {SINGLE_ROUNDS} of each single call, {}", storms.join(", "));
    for name in ["empty.db", "platform.db", "platform-wal.db"] {
        let mode: String =
            Connection::open(bench.path(name))?.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        println!("journal mode of {name}: {mode}");
    }
    Ok(fs::remove_dir_all(bench.scratch)?)
}

/// A folder on the disk that is measured, and the programs to measure, where they are.
struct Bench {
    scratch: PathBuf,
    program: PathBuf,
    trop: Option<PathBuf>,
    strace: Option<PathBuf>,
    find: Option<PathBuf>,
}

impl Bench {
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.join(name)
    }

    fn prepare(&self) -> Result<()> {
        fs::create_dir_all(self.path("apps"))?;
        fs::write(self.path("manage-ports.toml"), "[ports]\nprobe = true\n")?;
        fs::write(self.path("block"), [0; 4096])?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/floor.c");
        succeed(Command::new("cc").args(["-O2", "-o"]).arg(self.path("floor")).arg(source))?;
        for (name, apps) in [("empty.db", "1"), ("thousand.db", "1-1000"), ("ten-thousand.db", "1-10000")] {
            succeed(&mut self.ours(name, &format!("allocate --no-probe --model old --app {apps}")))?;
        }
        // A new database has the platform's schema; what is left are the platform's pages and its two ways
        // to commit.
        for (name, journal_mode) in [("platform.db", "delete"), ("platform-wal.db", "wal")] {
            let database = self.path(name);
            succeed(&mut self.ours(&database, "allocate --no-probe --model old --app 1-750"))?;
            set_journal_mode(&database, "delete")?;
            connect(&database)?.execute_batch("PRAGMA page_size = 4096; VACUUM")?;
            set_journal_mode(&database, journal_mode)?;
        }
        for model in 0..25 {
            succeed(&mut self.ours("reading.db", &format!("allocate --no-probe --model m{model} --app 1-400")))?;
            for app in 1..=400 {
                fs::create_dir_all(self.path(format!("apps/m{model}/app{app}")))?;
            }
        }
        Ok(())
    }

    /// This program on a database, with arguments separated by spaces.
    fn ours(&self, database: impl AsRef<Path>, args: &str) -> Command {
        let [database, apps, config] =
            [database.as_ref(), "apps".as_ref(), "manage-ports.toml".as_ref()].map(|name| self.path(name));
        let flags =
            [Path::new("--database"), &database, Path::new("--apps-dir"), &apps, Path::new("--config"), &config];
        program(&self.program, args, &flags)
    }

    /// `trop` on a database of its own in a folder, for the path of an app; nothing if there is no `trop`.
    fn trop(&self, data: &str, args: &str, app: impl Display) -> Option<Command> {
        let data = self.path(data);
        let path = data.join(format!("app{app}"));
        Some(program(self.trop.as_ref()?, args, &[Path::new("--data-dir"), &data, Path::new("--path"), &path]))
    }

    /// What a call runs for this app; nothing if its program is missing.
    fn call(&self, call: &Call, app: usize) -> Option<Command> {
        match call {
            Call::Floor => Some(program(self.path("floor"), "", &[&self.path("block")])),
            Call::Allocate(database) => Some(self.ours(database, &format!("allocate --model new --app {app}"))),
            Call::Trop(flags) => self.trop("trop", &format!("reserve --allow-unrelated-path {flags}"), app),
            Call::Find => {
                let mut command = program(self.find.as_ref()?, "", &[&self.path("apps")]);
                command.args("-mindepth 2 -maxdepth 2 -type d".split(' '));
                Some(command)
            }
            Call::Read(args) => Some(self.ours("reading.db", args)),
        }
    }

    /// What takes a call back.
    fn undo(&self, call: &Call, app: usize) -> Option<Command> {
        match call {
            Call::Allocate(database) => Some(self.ours(database, &format!("release new {app}"))),
            Call::Trop(_) => self.trop("trop", "release", app),
            Call::Floor | Call::Find | Call::Read(_) => None,
        }
    }

    /// Lets the calls have turns and notes their times.
    fn singles(&self, calls: &[(&str, Call)], samples: &mut Samples) -> Result<()> {
        for round in 0..=SINGLE_ROUNDS {
            for (name, call) in in_turn(calls, round) {
                let Some(mut command) = self.call(call, round + 1) else { continue };
                let start = Instant::now();
                succeed(&mut command)?;
                let time = start.elapsed();
                // The first round only warms up.
                if round > 0 {
                    note(samples, name, milliseconds(time));
                }
                if let Some(mut undo) = self.undo(call, round + 1) {
                    succeed(&mut undo)?;
                }
            }
        }
        Ok(())
    }

    /// Notes how long SQLite alone looks for damage in the database that `check` reads.
    fn quick_checks(&self, samples: &mut Samples) -> Result<()> {
        for _ in 0..SINGLE_ROUNDS {
            let connection = connect(&self.path("reading.db"))?;
            let start = Instant::now();
            let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
            note(samples, "quick_check of its 10,000 rows", milliseconds(start.elapsed()));
            if found != "ok" {
                return Err(found.into());
            }
        }
        Ok(())
    }

    /// Lets the storms have turns and notes their walls, p99s, fair queues' walls and failures.
    fn storms(&self, (count, rounds, storms): &Storms, samples: &mut Samples) -> Result<()> {
        for round in 0..*rounds {
            for (name, caller) in in_turn(storms, round) {
                fs::create_dir(self.path("storm"))?;
                let storm = self.storm(*caller, *count)?.map(|mut storm| storm.output()).transpose()?;
                fs::remove_dir_all(self.path("storm"))?;
                let Some(storm) = storm else { continue };
                note_storm(samples, name, *count, storm)?;
            }
        }
        Ok(())
    }

    /// What starts a storm; nothing if a program is missing.
    fn storm(&self, caller: Caller, count: usize) -> Result<Option<Command>> {
        let this = env::current_exe()?;
        let Some(command) = self.caller(caller, &this)? else { return Ok(None) };
        let mut storm = match (caller, &self.strace) {
            (Caller::Ours | Caller::LeanTrop, _) => program(&this, "", &[]),
            (Caller::Slowed | Caller::OneByOne, Some(strace)) => program(strace, SLOW, &[&this]),
            (Caller::Slowed | Caller::OneByOne, None) => return Ok(None),
        };
        storm.args([AT_ONCE, &count.to_string()]).arg(command.get_program()).args(command.get_args());
        storm.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Ok(Some(storm))
    }

    /// What each caller of a storm runs, on a new database with one row; nothing if a program is missing.
    fn caller(&self, caller: Caller, this: &Path) -> Result<Option<Command>> {
        if let Caller::LeanTrop = caller {
            let reserve = format!("reserve --allow-unrelated-path {LEAN}");
            self.trop("storm/trop", &reserve, 0).as_mut().map(succeed).transpose()?;
            return Ok(self.trop("storm/trop", &reserve, "{app}"));
        }
        let database = self.path("storm/ports.db");
        succeed(&mut self.ours(&database, "allocate --model old --app 1"))?;
        if let Caller::OneByOne = caller {
            set_journal_mode(&database, "wal")?;
            return Ok(Some(program(this, ONE_SYNC_AT_A_TIME, &[&database, Path::new("{app}")])));
        }
        Ok(Some(self.ours(&database, "allocate --model new --app {app}")))
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Which program a row without samples would have needed.
fn missing(names: &[&str]) -> &'static str {
    let is_named = |program: &&str| names.iter().any(|name| name.contains(program));
    ["trop", "find"].into_iter().find(is_named).unwrap_or("strace")
}

/// Writes one row, durable before the queue moves on, and answers.
fn one_sync_at_a_time(database: &Path, app: u16) -> Result<()> {
    let connection = connect(database)?;
    let queue = File::create(database.with_extension("queue"))?;
    queue.lock()?;
    connection.execute_batch("PRAGMA synchronous=FULL; BEGIN IMMEDIATE")?;
    connection.execute(
        "INSERT INTO port_configurations
         (model, app_num, backend_port, frontend_port, is_available, created_at, updated_at)
         VALUES ('new', ?1, ?2, ?3, 1, ?4, ?4)",
        params![app, 20_000 + app, 30_000 + app, "2026-01-02 03:04:05.678901"],
    )?;
    connection.execute_batch("COMMIT")?;
    drop(queue);
    println!("{app}");
    Ok(())
}

fn set_journal_mode(database: &Path, mode: &str) -> Result<()> {
    let set: String = connect(database)?.pragma_update_and_check(None, "journal_mode", mode, |row| row.get(0))?;
    if set == mode { Ok(()) } else { Err(format!("{}: journal mode {set}", database.display()).into()) }
}

/// A connection that leaves the write-ahead log as it is when it closes.
fn connect(database: &Path) -> Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}
