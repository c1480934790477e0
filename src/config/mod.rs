//! Resolves the configuration once, from flags, environment variables, the configuration file and defaults.
//!
//! Only this module reads environment variables.

mod colour;
mod containers;
mod database;
mod declared;
mod duration;
mod github;
mod ports;
pub(crate) mod template;

pub(crate) use self::colour::{is_dumb, wants_colour};
pub(crate) use self::database::named_database;
pub(crate) use self::duration::parse_duration;
pub(crate) use self::github::Github;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::ValueEnum;
use jiff::SignedDuration;
use serde::Deserialize;

use self::declared::{Declared, names};
use self::duration::duration_text;
use self::ports::{Ports, limits};
use crate::core::counts::Counts;
use crate::core::declared::Names;
use crate::core::policy::Limits;
use crate::core::text::Shown;
use crate::error::{Error, Kind, Result};
use crate::flags::GlobalArgs;
use crate::output::look::{self, Format, Look};
use crate::store::Database;

/// The default minimum age for `cleanup`. A row looks like an orphan from the call of `allocate` until the
/// app's first file is written.
const CLEANUP_MIN_AGE: SignedDuration = SignedDuration::from_mins(10);

const FILE_NAME: &str = "manage-ports.toml";

/// The largest configuration file that is read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The default database, relative to the folder of the configuration file.
const DATABASE_NAME: &str = "data/ports.db";

/// The resolved settings of one run.
pub(crate) struct Config {
    /// The configuration file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The database.
    pub(crate) database: Database,
    /// Whether the database is only the default, whose file may be missing.
    pub(crate) database_is_default: bool,
    /// The apps directory.
    pub(crate) apps_dir: PathBuf,
    /// Whether the apps directory is only the default.
    pub(crate) apps_dir_is_default: bool,
    /// A file that must exist in the apps directory before `cleanup` removes anything.
    pub(crate) apps_dir_marker: Option<PathBuf>,
    /// The file in which the platform plans ports.
    pub(crate) preconfigured: Option<PathBuf>,
    /// The minimum age of a row that `cleanup` removes.
    pub(crate) cleanup_min_age: SignedDuration,
    /// The longest wait for a lock that another process holds.
    pub(crate) timeout: Duration,
    /// The limits on the ports that may be given.
    pub(crate) limits: Limits,
    /// Whether to skip ports that a socket on this machine listens on.
    pub(crate) probe: bool,
    /// Whether to skip ports that containers publish.
    pub(crate) containers: bool,
    /// The names that apps' files use for the two ports.
    pub(crate) declared: Names,
    /// The file in which commands count what they do, if there is one.
    pub(crate) metrics_file: Option<PathBuf>,
    /// What this run has done so far.
    pub(crate) counts: Rc<Counts>,
    /// The output format, if one was asked for.
    format: Option<Format>,
    /// The capabilities of stdout.
    pub(crate) look: Look,
}

/// The configuration file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database: Option<String>,
    apps_dir: Option<PathBuf>,
    apps_dir_marker: Option<PathBuf>,
    preconfigured: Option<PathBuf>,
    #[serde(default, deserialize_with = "duration_text")]
    timeout: Option<String>,
    #[serde(default, deserialize_with = "duration_text")]
    cleanup_min_age: Option<String>,
    #[serde(default)]
    ports: Ports,
    #[serde(default)]
    declared: Declared,
}

impl Config {
    /// Resolves the settings of this run.
    ///
    /// # Errors
    ///
    /// Kind `usage` for an invalid flag; kind `config` for an invalid variable or configuration file.
    pub(crate) fn resolve(flags: &GlobalArgs) -> Result<Self> {
        let named = flags.config.clone().or_else(|| variable("CONFIG").map(PathBuf::from));
        let path = named.or_else(|| Some(nearest_folder_with(FILE_NAME)?.join(FILE_NAME)));
        let file = match &path {
            Some(path) => read_file(path).map_err(|err| Error::new(Kind::Config, err))?,
            None => File::default(),
        };
        let in_file = |why: String| match &path {
            Some(path) => Error::msg(Kind::Config, format!("{}: {why}", path.display())),
            None => Error::msg(Kind::Config, why),
        };
        // Paths in the file are relative to its folder; paths in flags and variables, to the current folder.
        let base = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();

        let database = if let Some(name) = &flags.database {
            Some(named_database(name, Path::new(""), |why| Error::usage(format!("--database: {why}")))?)
        } else if let Some(name) = variable("DATABASE") {
            let wrong = |why| Error::msg(Kind::Config, format!("MANAGE_PORTS_DATABASE: {why}"));
            Some(named_database(&name, Path::new(""), wrong)?)
        } else if let Some(name) = &file.database {
            Some(named_database(&name.into(), &base, |why| in_file(format!("database: {why}")))?)
        } else {
            None
        };
        let timeout = if let Some(text) = &flags.timeout {
            parse_duration(text).map_err(|why| Error::usage(format!("--timeout: {why}")))?
        } else if let Some(text) = variable("TIMEOUT") {
            parse_duration(&text.to_string_lossy())
                .map_err(|why| Error::msg(Kind::Config, format!("MANAGE_PORTS_TIMEOUT: {why}")))?
        } else if let Some(text) = &file.timeout {
            parse_duration(text).map_err(|why| in_file(format!("timeout: {why}")))?
        } else {
            SignedDuration::from_secs(30)
        };
        let cleanup_min_age = file.cleanup_min_age.as_deref().map_or(Ok(CLEANUP_MIN_AGE), parse_duration);
        let is_inside = |path: &&Path| {
            let mut parts = path.components();
            let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
            parts.clone().any(|part| is_name(&part)) && parts.all(|part| is_name(&part) || part == Component::CurDir)
        };
        if let Some(marker) = file.apps_dir_marker.as_deref().filter(|path| !is_inside(path)) {
            let marker = marker.display();
            return Err(in_file(format!("apps_dir_marker = \"{marker}\": expected a file inside the apps directory")));
        }
        let is_empty = |path: &Option<PathBuf>| path.as_deref().is_some_and(|path| path.as_os_str().is_empty());
        if is_empty(&file.apps_dir) {
            return Err(in_file("apps_dir is empty: expected a folder".to_owned()));
        }
        if is_empty(&file.preconfigured) {
            return Err(in_file("preconfigured is empty: expected a file".to_owned()));
        }
        if file.preconfigured.as_deref() == Some(Path::new("-")) {
            return Err(in_file("preconfigured = \"-\": expected a file, not standard input".to_owned()));
        }
        let is_terminal = io::stdout().is_terminal();
        let named_apps_dir = flags.apps_dir.clone().or_else(|| variable("APPS_DIR").map(PathBuf::from));
        let named_apps_dir = named_apps_dir.or_else(|| Some(base.join(file.apps_dir.as_deref()?)));
        // Without a configuration file, the folder of the default database is used in place of its folder.
        let folder = match (&path, &database) {
            (None, None) => nearest_folder_with(DATABASE_NAME).unwrap_or_default(),
            _ => base.clone(),
        };
        if database.is_none() && is_planted(&folder, DATABASE_NAME) {
            let path = folder.join(DATABASE_NAME);
            let message = format!("{}: another user put it into a folder that everybody may write to", path.display());
            return Err(Error::msg(Kind::Config, message).hint("name a database with --database"));
        }

        let config = Self {
            database_is_default: database.is_none(),
            database: database.unwrap_or_else(|| Database::Sqlite(folder.join(DATABASE_NAME))),
            apps_dir_is_default: named_apps_dir.is_none(),
            apps_dir: named_apps_dir.unwrap_or_else(|| folder.join("generated/apps")),
            apps_dir_marker: file.apps_dir_marker,
            preconfigured: file.preconfigured.map(|path| base.join(path)),
            cleanup_min_age: cleanup_min_age.map_err(|why| in_file(format!("cleanup_min_age: {why}")))?,
            timeout: timeout.unsigned_abs(),
            metrics_file: metrics_file(flags),
            counts: Rc::default(),
            probe: file.ports.probe,
            containers: file.ports.containers,
            declared: names(file.declared).map_err(|why| in_file(format!("[declared] {why}")))?,
            limits: limits(&file.ports).map_err(|why| in_file(format!("[ports] {why}")))?,
            format: if flags.json { Some(Format::Json) } else { flags.format },
            look: Look {
                is_terminal,
                has_colour: wants_colour(flags.color, is_terminal),
                width: look::width(io::stdout()),
            },
            file: path,
        };
        config.log_choices();
        Ok(config)
    }

    /// Logs the chosen settings if `-v` is given.
    fn log_choices(&self) {
        let named = |is_default| if is_default { " (nobody named one)" } else { "" };
        match &self.file {
            Some(path) => log::debug!("configuration file: {}", path.display()),
            None => log::debug!("configuration file: none, as no {FILE_NAME} is in this folder or one above it"),
        }
        log::debug!("database: {}{}", self.database, named(self.database_is_default));
        log::debug!("apps directory: {}{}", self.apps_dir.display(), named(self.apps_dir_is_default));
        if let Some(path) = &self.metrics_file {
            log::debug!("metrics file: {}", path.display());
        }
    }

    /// Returns the `PATH` in which commands are looked up.
    pub(crate) fn search_path(&self) -> OsString {
        // The system's default if PATH is not set, see execvp(3).
        env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into())
    }

    /// Returns the possible sockets of Docker's API, in the order in which they are tried.
    pub(crate) fn container_sockets(&self) -> Vec<PathBuf> {
        containers::sockets(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Returns the format asked for, or `human`, after a check that the command has it.
    ///
    /// # Errors
    ///
    /// Kind `usage` if the command does not have the format.
    pub(crate) fn format(&self, known: &[Format]) -> Result<Format> {
        let format = self.format.unwrap_or(Format::Human);
        if known.contains(&format) {
            return Ok(format);
        }
        let name = |format: &Format| format.to_possible_value().map(|value| value.get_name().to_owned());
        let known: Vec<_> = known.iter().filter_map(name).collect();
        let asked = name(&format).unwrap_or_default();
        Err(Error::usage(format!("this command has no format '{asked}': expected {}", known.join(", "))))
    }
}

/// Returns the metrics file, which is known even if the configuration is wrong. An empty name counts as none.
pub(crate) fn metrics_file(flags: &GlobalArgs) -> Option<PathBuf> {
    let flag = flags.metrics_file.clone().filter(|name| !name.is_empty());
    flag.or_else(|| variable("METRICS_FILE")).map(PathBuf::from)
}

/// Reads a variable of this program; an empty one counts as not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(format!("MANAGE_PORTS_{name}")).filter(|value| !value.is_empty())
}

/// Returns the current folder, as an empty path, or else the nearest parent folder that contains `name`.
fn nearest_folder_with(name: &str) -> Option<PathBuf> {
    let is_there = |folder: &Path| {
        // A dangling symbolic link counts as present, so that opening it later reports the error.
        let is_there = folder.join(name).symlink_metadata().is_ok();
        let is_planted = is_there && is_planted(folder, name);
        if is_planted {
            let path = folder.join(name);
            log::warn!(
                "{} is passed over: another user put it into a folder that everybody may write to",
                path.display()
            );
        }
        is_there && !is_planted
    };
    if is_there(Path::new("")) {
        return Some(PathBuf::new());
    }
    // A parent folder that this user may not search is skipped, since its files are not meant for this user.
    let here = env::current_dir().ok()?;
    let mut above = here.ancestors().skip(1);
    above.find(|folder| is_there(folder)).map(Path::to_owned)
}

/// Tells whether a stranger may have put the file or folder with which `name` begins into this folder: everybody
/// may write to the folder and it is sticky, as `/tmp` is, and neither this user nor the folder's owner owns the
/// file. Linux protects links by the same rule (`proc_sys_fs(5)`, `protected_symlinks`). A folder of everybody
/// that is not sticky is one that users share.
fn is_planted(folder: &Path, name: &str) -> bool {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let first = Path::new(name).components().next().map(|first| here.join(first));
    let (Ok(folder), Some(Ok(file))) = (here.metadata(), first.map(|first| first.symlink_metadata())) else {
        return false;
    };
    const STICKY_AND_WRITABLE: u32 = 0o1002;
    folder.mode() & STICKY_AND_WRITABLE == STICKY_AND_WRITABLE
        && ![folder.uid(), rustix::process::geteuid().as_raw()].contains(&file.uid())
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let name = || format!("configuration file {}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).with_context(name)?;
    file.take(FILE_BYTES + 1).read_to_string(&mut text).with_context(name)?;
    ensure!(text.len() as u64 <= FILE_BYTES, "{} is larger than 1 MiB", name());
    toml::from_str(&text).map_err(|err| {
        // The message gives the line's number and not its text, which may hold a password.
        let before = err.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split(['=', ':', '"', '\'']).next()).unwrap_or_default();
        let message = without_text(err.message()).replace('\n', ", ");
        anyhow!("{}: line {} ({}): {message}", name(), line + 1, Shown(key.trim()))
    })
}

/// Leaves the text out of a message such as `invalid type: string "TEXT", expected a boolean`.
fn without_text(message: &str) -> String {
    match (message.split_once("string \""), message.rsplit_once("\", expected ")) {
        (Some((before, _)), Some((_, expected))) => format!("{before}a text, expected {expected}"),
        _ => message.to_owned(),
    }
}
