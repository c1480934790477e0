//! `selftest`: tests on this machine and this disk that the promises of the program hold.

mod processes;

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tempfile::TempDir;

use self::processes::{Ended, answers};
use super::{Answer, retry, unless_interrupted};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::clock::Clock;
use crate::core::promise::{Report, ScratchMode, all_made, own_answers, same_answer};
use crate::error::{Error, Kind, Result};
use crate::host::clock::{self, HostClock};
use crate::output::look::Format;
use crate::output::{human, json};
use crate::store::api::{IfMissing, Store};
use crate::store::{self, Database, ScratchDatabase};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
It works in a scratch database in a new folder beside the configured one, on PostgreSQL in a new \
schema, and removes it afterwards. The configured database is never touched. Exit 1 if a promise broke.

Formats: human, json

Examples:
  manage-ports selftest
  manage-ports selftest --processes 100 --database /mnt/shared/ports.db";

const MODEL: &str = "selftest";

/// The timeout of each copy, long because more than a thousand copies may write.
const PATIENCE: &str = "15m";

/// How many apps each process of a batch asks for.
const BATCH: i64 = 10;

/// Show that the promises hold on this machine and this disk
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// How many processes to start at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    processes: u16,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    // From here on, SIGINT, SIGTERM and SIGHUP must not leave the scratch folder behind.
    clock::keep_ignored();
    let clock = HostClock::new().and_then(HostClock::and_termination);
    let clock = clock.map_err(|err| Error::msg(Kind::Io, format!("cannot watch for signals: {err}")))?;
    let mut scratch = Scratch::new(config)?;
    let report = scratch.test(args.processes, config);
    drop(scratch);
    if clock.is_interrupted() {
        return Err(Error::msg(Kind::Interrupted, "interrupted"));
    }
    let report = report?;
    match format {
        Format::Json => json::selftest(out, &report),
        _ => human::selftest(out, config.look, &report),
    }
    .map_err(Error::unwritten)?;
    let holds = report.promises.iter().all(|(_, broken)| broken.is_none());
    Ok(if holds { Answer::Yes } else { Answer::No })
}

/// A scratch database beside the configured one, and a folder for apps. Both are removed on drop.
struct Scratch {
    database: ScratchDatabase,
    folder: TempDir,
    program: PathBuf,
}

impl Scratch {
    fn new(config: &Config) -> Result<Self> {
        let database = store::scratch(&config.database, retry(config)?).map_err(|err| {
            let err = Error::store(err, &config.database);
            match config.database {
                Database::Sqlite(_) => err.hint("a self-test needs a folder it may write, on that disk"),
                // An error of a PostgreSQL server keeps its own hint.
                Database::Postgres(_) => err,
            }
        })?;
        let make = || -> io::Result<TempDir> {
            let folder = tempfile::tempdir()?;
            fs::write(folder.path().join("manage-ports.toml"), "")?;
            Ok(folder)
        };
        let folder = make().context("a self-test needs a folder for temporary files, such as TMPDIR names");
        let folder = folder.map_err(|err| Error::new(Kind::Io, err))?;
        let program = std::env::current_exe().context("this program's own file is not known");
        Ok(Self { database, folder, program: program.map_err(|err| Error::new(Kind::Io, err))? })
    }

    fn test(&mut self, processes: u16, config: &Config) -> Result<Report> {
        let mut promises = Vec::new();
        let mut promise = |text: String, kept: anyhow::Result<()>| {
            promises.push((text, kept.err().map(|err| format!("{err:#}"))));
        };
        let n = i64::from(processes);

        let ended = self.at_once((1..=n).map(|_| allocate(1..=1)))?;
        promise(
            format!("{n} processes for one app: one row and one answer"),
            answers(&ended, 1).and_then(|answers| same_answer(&answers, &self.rows(config)?)),
        );

        let apps = 1001..=1000 + n;
        let start = Instant::now();
        let own = self.at_once(apps.clone().map(|app_num| allocate(app_num..=app_num)))?;
        let wall = start.elapsed();
        promise(
            format!("{n} processes for an app each: a row and ports of its own for each"),
            answers(&own, 1).and_then(|answers| own_answers(&answers, &self.rows(config)?)),
        );

        // All batches start with the same free ports and collide. A batch that was not atomic would, on its
        // retry, find a part of its rows already there.
        let batches = (0..n).map(|k| 10_001 + k * BATCH).map(|first| allocate(first..=first + BATCH - 1));
        let ended = self.at_once(batches)?;
        promise(
            format!("{n} processes for {BATCH} apps each: each made all of its own"),
            answers(&ended, BATCH).and_then(|answers| all_made(&answers, &self.rows(config)?)),
        );

        // Allocates new apps, which have a directory, while other processes release apps and clean up
        // orphans.
        let new = 2001..=2000 + n;
        for app_num in new.clone() {
            let folder = self.folder.path().join(format!("apps/{MODEL}/app{app_num}"));
            let made = fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()));
            made.map_err(|err| Error::new(Kind::Io, err))?;
        }
        let releases = apps.step_by(3).map(|app_num| vec!["release".into(), MODEL.into(), app_num.to_string()]);
        let cleanups = (0..n).step_by(8).map(|_| ["cleanup", "--min-age", "0s"].map(str::to_owned).to_vec());
        let ended = self.at_once(new.map(|app_num| allocate(app_num..=app_num)).chain(releases).chain(cleanups))?;
        let (allocated, others) = ended.split_at(usize::from(processes));
        promise(
            format!("{n} processes allocate beside {} that release and clean up: no app loses its row", others.len()),
            answers(allocated, 1).and_then(|answers| own_answers(&answers, &self.rows(config)?)),
        );

        let mut took: Vec<_> = own.iter().map(|ended| ended.took).collect();
        took.sort_unstable();
        let percentile = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        // If the database mode cannot be read, the results of the test are still reported.
        let mode = self.store(config).ok().and_then(|mut store| store.mode().ok());
        let mode = mode.map(|mode| ScratchMode {
            journal: mode.journal,
            waiting: mode.waiting.describe(),
            storage: mode.storage.describe(),
        });
        let sync = self.cost_of_sync();
        promise("4 KiB become durable".to_owned(), sync.as_ref().map(drop).map_err(|err| anyhow!("{err:#}")));
        Ok(Report {
            promises,
            per_second: f64::from(processes) / wall.as_secs_f64(),
            p50: percentile(50),
            p99: percentile(99),
            sync: sync.ok(),
            mode,
        })
    }

    /// Starts a copy of this program for each command line, all at the same time, and waits for them.
    fn at_once(&self, lines: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<Ended>> {
        unless_interrupted()?;
        let commands = lines.into_iter().map(|line| self.command(line));
        processes::at_once(commands, &self.folder.path().join("answers")).map_err(|err| Error::new(Kind::Io, err))
    }

    /// Returns a copy of this program that works on the scratch database and ignores this process's settings.
    fn command(&self, line: Vec<String>) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        for variable in ["APPS_DIR", "CONFIG", "TIMEOUT", "METRICS_FILE"] {
            command.env_remove(format!("MANAGE_PORTS_{variable}"));
        }
        // The URL is passed in the environment: it may hold a password, and other users can read a command
        // line.
        command.env("MANAGE_PORTS_DATABASE", self.database.database.secret_name());
        command.arg("--config").arg(folder.join("manage-ports.toml")).args(["--timeout", PATIENCE]);
        command.arg("--apps-dir").arg(folder.join("apps")).arg("--quiet").args(line);
        command
    }

    fn store(&self, config: &Config) -> Result<Box<dyn Store>> {
        let database = &self.database.database;
        store::open(database, IfMissing::Fail, retry(config)?).map_err(|err| Error::store(err, database))
    }

    fn rows(&self, config: &Config) -> anyhow::Result<Vec<Allocation>> {
        let database = &self.database.database;
        let rows = self.store(config).and_then(|mut store| store.snapshot().map_err(|err| Error::store(err, database)));
        rows.map_err(Error::into_cause)
    }

    /// Measures the median time to write 4 KiB durably.
    fn cost_of_sync(&mut self) -> anyhow::Result<Duration> {
        let mut took = Vec::new();
        for _ in 0..21 {
            let start = Instant::now();
            let synced = self.database.place.sync();
            took.push(start.elapsed());
            synced.map_err(|err| Error::store(err, &self.database.database).into_cause())?;
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }
}

fn allocate(apps: RangeInclusive<i64>) -> Vec<String> {
    let apps = format!("{}-{}", apps.start(), apps.end());
    ["allocate", "--model", MODEL, "--json", "--app", &apps].map(str::to_owned).to_vec()
}
