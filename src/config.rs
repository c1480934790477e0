//! What the program works with: flags, environment, file and defaults, resolved once.
//!
//! Nothing below this module reads the environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::Deserialize;

use crate::cli::{ColorWhen, Format, GlobalArgs};
use crate::core::policy::Limits;
use crate::core::ports::{PortSet, as_port};
use crate::core::store::{Database, Server};
use crate::core::text::Shown;
use crate::error::{Error, Kind, Result};
use crate::output::human::Look;

const FILE_NAME: &str = "manage-ports.toml";

/// The settings of one run.
pub(crate) struct Config {
    /// The database.
    pub(crate) database: Database,
    /// Whether nobody named the database: it may then be missing.
    pub(crate) database_is_default: bool,
    /// The apps directory.
    pub(crate) apps_dir: PathBuf,
    /// A file that must be inside the apps directory for a cleanup.
    pub(crate) apps_dir_marker: Option<PathBuf>,
    /// The platform's file of planned ports.
    pub(crate) preconfigured: Option<PathBuf>,
    /// The longest wait for other writers.
    pub(crate) timeout: Duration,
    /// What may be handed out.
    pub(crate) limits: Limits,
    /// Whether to skip ports that something listens on.
    pub(crate) probe: bool,
    /// How to print the answer, if it was said.
    format: Option<Format>,
    /// What stdout can show.
    pub(crate) look: Look,
}

/// The configuration file as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database: Option<String>,
    apps_dir: Option<PathBuf>,
    apps_dir_marker: Option<PathBuf>,
    preconfigured: Option<PathBuf>,
    timeout: Option<String>,
    #[serde(default)]
    ports: Ports,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ports {
    backend_base: i64,
    frontend_base: i64,
    step: i64,
    max: i64,
    exclude: Vec<toml::Value>,
    allow_browser_blocked: bool,
    probe: bool,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            backend_base: 5001,
            frontend_base: 8001,
            step: 2,
            max: 65535,
            exclude: Vec::new(),
            allow_browser_blocked: false,
            probe: true,
        }
    }
}

impl Config {
    /// Resolves the settings of this run.
    ///
    /// # Errors
    ///
    /// Of kind `usage` for a bad flag and `config` for the environment and the file.
    pub(crate) fn resolve(flags: &GlobalArgs) -> Result<Self> {
        let named = flags.config.clone().or_else(|| variable("CONFIG").map(PathBuf::from));
        let path = named.or_else(find_file);
        let file = match &path {
            Some(path) => read_file(path).map_err(|err| Error::new(Kind::Config, err))?,
            None => File::default(),
        };
        let in_file = |why: String| match &path {
            Some(path) => Error::msg(Kind::Config, format!("{}: {why}", path.display())),
            None => Error::msg(Kind::Config, why),
        };
        // Paths in the file and the defaults start at its folder, those of flags where we are.
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
        let is_terminal = io::stdout().is_terminal();
        let apps_dir = flags.apps_dir.clone().or_else(|| variable("APPS_DIR").map(PathBuf::from));

        Ok(Self {
            database_is_default: database.is_none(),
            database: database.unwrap_or_else(|| Database::Sqlite(base.join("data/ports.db"))),
            apps_dir: apps_dir
                .unwrap_or_else(|| base.join(file.apps_dir.as_deref().unwrap_or(Path::new("generated/apps")))),
            apps_dir_marker: file.apps_dir_marker,
            preconfigured: file.preconfigured.map(|path| base.join(path)),
            timeout: timeout.unsigned_abs(),
            probe: file.ports.probe,
            limits: limits(&file.ports).map_err(|why| in_file(format!("[ports] {why}")))?,
            format: if flags.json { Some(Format::Json) } else { flags.format },
            look: Look { is_terminal, has_colour: wants_colour(flags.color, is_terminal) },
        })
    }

    /// The format asked for, `human` if none was, out of those that a command has.
    ///
    /// # Errors
    ///
    /// Of kind `usage` when the command does not have it.
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

/// A variable of ours; an empty one counts as not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(format!("MANAGE_PORTS_{name}")).filter(|value| !value.is_empty())
}

/// The configuration file in the current folder or the nearest one above.
fn find_file() -> Option<PathBuf> {
    // A link that leads nowhere is there, too: reading it says what is wrong.
    if Path::new(FILE_NAME).symlink_metadata().is_ok() {
        return Some(FILE_NAME.into());
    }
    // What this user may not look into is not theirs to be configured by.
    let here = env::current_dir().ok()?;
    here.ancestors().skip(1).map(|folder| folder.join(FILE_NAME)).find(|path| path.symlink_metadata().is_ok())
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("configuration file {}", path.display()))?;
    toml::from_str(&text).map_err(|err| {
        // The line is named and not shown: it may hold a password.
        let before = err.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split(['=', ':', '"', '\'']).next()).unwrap_or_default();
        let message = err.message().replace('\n', ", ");
        anyhow!("configuration file {}: line {} ({}): {message}", path.display(), line + 1, Shown(key.trim()))
    })
}

/// Reads a database's name as the platform writes it: a path, or a URL of SQLAlchemy's.
fn named_database(name: &OsString, base: &Path, wrong: impl Fn(String) -> Error) -> Result<Database> {
    let in_memory = || wrong("a database in memory keeps nothing: name a file".to_owned());
    if name.is_empty() {
        return Err(wrong("expected a path or a URL, it is empty".to_owned()));
    }
    let Some((scheme, rest)) = name.to_str().and_then(|name| name.split_once("://")) else {
        // A slip in a URL must not become a file, with its password for a name.
        if name.to_str().is_some_and(|name| name.starts_with("sqlite:")) {
            return Err(wrong("a SQLite URL is written sqlite:///relative.db or sqlite:////absolute.db".into()));
        }
        if name.to_str().is_some_and(is_almost_postgresql) {
            return Err(wrong(
                "a PostgreSQL URL begins with postgresql:// and names a user, a host and a database".into(),
            ));
        }
        return if name == ":memory:" { Err(in_memory()) } else { Ok(Database::Sqlite(base.join(name))) };
    };
    // "sqlite+pysqlite" names a Python driver as well, which is nothing to us.
    match scheme.split('+').next() {
        Some("sqlite") => {}
        Some("postgres" | "postgresql") => {
            let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            let server = Server::parse(rest, &variable, env::home_dir().as_deref()).map_err(wrong)?;
            return Ok(Database::Postgres(Box::new(server)));
        }
        _ => {
            return Err(wrong(format!("'{}' is not a kind of database: expected sqlite or postgresql", Shown(scheme))));
        }
    }
    let path = rest.split('?').next().unwrap_or(rest);
    match path.strip_prefix('/') {
        None if path.is_empty() => Err(in_memory()),
        None => Err(wrong(format!("'sqlite://{}' names a host: write sqlite:///{0}", Shown(path)))),
        Some("" | ":memory:") => Err(in_memory()),
        Some(path) => Ok(Database::Sqlite(base.join(path))),
    }
}

/// Whether a name that is no URL was meant for one of PostgreSQL: `postgresql:/…`, `postgres//…`.
fn is_almost_postgresql(name: &str) -> bool {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_'));
    name.starts_with("postgres") && (rest.starts_with(':') || rest.starts_with("//"))
}

fn limits(ports: &Ports) -> std::result::Result<Limits, String> {
    let port = |name: &str, value: i64| {
        as_port(value).ok_or_else(|| format!("{name} = {value}: expected a number from 1 to 65535"))
    };
    let mut excluded = PortSet::new();
    for value in &ports.exclude {
        let wrong = || format!("exclude = {value}: expected a port such as 5432 or a range such as \"7000-7010\"");
        let (first, last) = match value {
            toml::Value::Integer(port) => (port.to_string(), port.to_string()),
            toml::Value::String(text) => text.split_once('-').map_or_else(
                || (text.clone(), text.clone()),
                |(first, last)| (first.trim().to_owned(), last.trim().to_owned()),
            ),
            _ => return Err(wrong()),
        };
        let parse = |text: String| text.parse().ok().and_then(as_port).ok_or_else(wrong);
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last {
            return Err(wrong());
        }
        excluded.extend(first..=last);
    }
    let limits = Limits {
        backend_base: port("backend_base", ports.backend_base)?,
        frontend_base: port("frontend_base", ports.frontend_base)?,
        step: port("step", ports.step)?,
        max: port("max", ports.max)?,
        excluded,
        allow_browser_blocked: ports.allow_browser_blocked,
    };
    if limits.backend_base == limits.frontend_base {
        return Err(format!("backend_base and frontend_base are both {}: they must differ", limits.backend_base));
    }
    Ok(limits)
}

/// Reads a duration such as `500ms`, `30s`, `2h 30m` or `7d`; a day has 24 hours.
///
/// # Errors
///
/// What was expected, in words.
pub(crate) fn parse_duration(text: &str) -> std::result::Result<SignedDuration, String> {
    let wrong = || format!("'{}' is not a duration: expected one such as 500ms, 30s, 2h or 7d", Shown(text));
    // The one duration that needs no unit.
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if duration.is_negative() { Err(wrong()) } else { Ok(duration) }
}

/// Whether to use colours, for a stream that is or is not a terminal.
pub(crate) fn wants_colour(flag: Option<ColorWhen>, is_terminal: bool) -> bool {
    match flag {
        Some(ColorWhen::Always) => true,
        Some(ColorWhen::Never) => false,
        Some(ColorWhen::Auto) | None => {
            if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
                false
            } else if env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
                true
            } else {
                is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::result::Result<PathBuf, String> {
        match named_database(&name.into(), Path::new("base"), Error::usage) {
            Ok(Database::Sqlite(path)) => Ok(path),
            Ok(Database::Postgres(server)) => panic!("{name} is {server}"),
            Err(err) => Err(format!("{err:?}")),
        }
    }

    #[test]
    fn databases_are_named_as_the_platform_names_them() {
        assert_eq!(path("ports.db").unwrap(), Path::new("base/ports.db"));
        assert_eq!(path("/ports.db").unwrap(), Path::new("/ports.db"));
        assert_eq!(path("sqlite:///ports.db").unwrap(), Path::new("base/ports.db"));
        assert_eq!(path("sqlite:////ports.db").unwrap(), Path::new("/ports.db"));
        assert_eq!(path("sqlite+pysqlite:////ports.db?timeout=5").unwrap(), Path::new("/ports.db"));
        for bad in [
            ":memory:",
            "sqlite://",
            "sqlite:///",
            "sqlite:/x",
            "sqlite:x",
            "sqlite:///:memory:",
            "sqlite://host/x",
            "mysql://h/d",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
        for slip in ["postgresql:/u:pw@h/d", "postgresql//u:pw@h/d", "postgres:u:pw@h/d", "postgresql+psycopg2:u:pw@h"]
        {
            let message = path(slip).unwrap_err();
            assert!(message.contains("postgresql://") && !message.contains("pw"), "{message}");
        }
        assert!(path("postgresql.db").is_ok() && path("postgres/ports.db").is_ok());
        for scheme in ["postgres", "postgresql", "postgresql+psycopg2"] {
            let named = named_database(&format!("{scheme}://u:secret@h:6000/d").into(), Path::new(""), Error::usage);
            let Ok(Database::Postgres(server)) = named else { panic!("{scheme} is not known") };
            assert_eq!(server.to_string(), "postgresql://u@h:6000/d");
        }
    }

    #[test]
    fn durations_have_units_and_no_sign() {
        assert_eq!(parse_duration("30s"), Ok(SignedDuration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(SignedDuration::from_millis(500)));
        assert_eq!(parse_duration("2h 30m"), Ok(SignedDuration::from_mins(150)));
        assert_eq!(parse_duration("7d"), Ok(SignedDuration::from_hours(168)));
        assert_eq!(parse_duration("0s"), Ok(SignedDuration::ZERO));
        for bad in ["", "30", "s", "-1s", "1s ago", "1 fortnight", "1mo", "1y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
