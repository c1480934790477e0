//! Describes what went wrong as a kind, a message and a hint, and gives each kind its exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::core::fit::wrap;
use crate::core::text::{Shown, escape_json};
use crate::store::Database;
use crate::store::error::StoreError;

/// The hint of a command that failed after its transaction.
const AFTER_CHANGES: &str = "the rows were changed nevertheless: `manage-ports list` shows what there is now";

/// The kinds of failure that a caller can tell apart, by name in JSON and by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong.
    Config,
    /// The database cannot be used.
    Database,
    /// The database stayed locked.
    Locked,
    /// No free pair is left.
    Exhausted,
    /// The apps directory cannot be used.
    AppsDir,
    /// The ports asked for are taken or refused.
    Conflict,
    /// The command to run cannot be executed.
    NotExecutable,
    /// The command to run is not there.
    NoCommand,
    /// The user asked to stop.
    Interrupted,
    /// A file could not be read or written, or the answer could not be written.
    Io,
}

impl Kind {
    /// The names of all kinds, sorted.
    pub(crate) const NAMES: [&'static str; 9] =
        ["apps_dir", "config", "conflict", "database", "exhausted", "interrupted", "io", "locked", "usage"];

    /// Returns the kind's name in JSON and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usage | Self::NotExecutable | Self::NoCommand => "usage",
            Self::Config => "config",
            Self::Database => "database",
            Self::Locked => "locked",
            Self::Exhausted => "exhausted",
            Self::AppsDir => "apps_dir",
            Self::Conflict => "conflict",
            Self::Interrupted => "interrupted",
            Self::Io => "io",
        }
    }

    /// Tells whether a failure of this kind keeps a command from allocating ports. Those of a command to run
    /// do not.
    pub(crate) fn is_of_allocation(self) -> bool {
        !matches!(self, Self::NotExecutable | Self::NoCommand)
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Io => 1,
            Self::Usage | Self::Config => 2,
            Self::Database | Self::Locked => 3,
            Self::Exhausted => 4,
            Self::AppsDir => 5,
            Self::Conflict => 6,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
            Self::Interrupted => 130,
        }
    }
}

/// The failure that ends the process, printed once.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    cause: anyhow::Error,
    /// Lines below the message, such as a list of conflicts.
    details: Vec<String>,
    hint: Option<String>,
    usage: Option<String>,
    style: Style,
}

/// How a failure is printed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Whether it is one line of JSON.
    pub(crate) is_json: bool,
    /// Whether it is coloured otherwise.
    pub(crate) has_colour: bool,
    /// How many columns the terminal has that reads it.
    pub(crate) width: Option<usize>,
}

/// What a command returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes a failure of a kind.
    pub(crate) fn new(kind: Kind, cause: impl Into<anyhow::Error>) -> Self {
        Self { kind, cause: cause.into(), details: Vec::new(), hint: None, usage: None, style: Style::default() }
    }

    /// Makes a failure of a kind from a message.
    pub(crate) fn msg(kind: Kind, message: impl Display) -> Self {
        Self::new(kind, anyhow::Error::msg(message.to_string()))
    }

    /// Makes a failure of a command line that is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::msg(Kind::Usage, message)
    }

    /// Makes a failure of a command line that clap could not parse.
    pub(crate) fn parsing(err: &clap::Error) -> Self {
        let text = err.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        // clap says first what is wrong and then, after an empty line, how to call the command.
        let (message, usage) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = message.lines();
        let error = Self::usage(lines.next().unwrap_or_default()).details(lines.map(|line| line.trim().to_owned()));
        Self { usage: Some(usage.to_owned()).filter(|usage| !usage.is_empty()), ..error }
    }

    /// Adds lines below the message, which are printed with an indent.
    pub(crate) fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// Adds what to do about it, in one line.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that the command had changed rows by then, unless there is another hint.
    pub(crate) fn after_changes(self) -> Self {
        if self.hint.is_some() { self } else { self.hint(AFTER_CHANGES) }
    }

    /// Describes what a store failed with, on this database.
    ///
    /// Callers describe [`StoreError::Refused`] themselves: they know which ports were asked for.
    pub(crate) fn store(err: StoreError, database: &Database) -> Self {
        let name = database.to_string();
        let name = Shown(&name);
        match err {
            StoreError::Busy(_, what) => {
                Self::msg(Kind::Locked, format!("database {name} is locked: waiting for {what}"))
            }
            StoreError::Conflict(what) => {
                Self::msg(Kind::Database, format!("database {name} does not accept the row: {what}"))
                    .hint("`manage-ports check` shows what is wrong with its rows")
            }
            StoreError::Locked { waited, tries, what } => {
                let (state, hint) = match database {
                    Database::Sqlite(_) => {
                        ("still locked", "see who has it open with `fuser`, or allow a longer --timeout")
                    }
                    Database::Postgres(_) => {
                        ("still busy", "see who is at work in pg_stat_activity, or allow a longer --timeout")
                    }
                };
                let waited = waited.as_secs_f64();
                let times = if tries == 1 { "time" } else { "times" };
                Self::msg(
                    Kind::Locked,
                    format!("database {name} is {state}: waited {waited:.1} s for {what}, tried {tries} {times}"),
                )
                .hint(hint)
            }
            StoreError::Interrupted => Self::msg(Kind::Interrupted, "interrupted"),
            StoreError::Refused(_) => Self::msg(Kind::Conflict, "the ports asked for cannot be had"),
            StoreError::Missing => {
                let what = match database {
                    Database::Sqlite(_) => "does not exist or is empty",
                    Database::Postgres(_) => "has no table port_configurations",
                };
                Self::msg(Kind::Database, format!("database {name} {what}")).hint(format!(
                    "check the name, or make it with `manage-ports --database '{name}' allocate MODEL APPS`"
                ))
            }
            StoreError::Unusable { why, hint } => {
                Self { hint: hint.map(str::to_owned), ..Self::msg(Kind::Database, format!("database {name} {why}")) }
            }
        }
    }

    /// Returns the failure's kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what went wrong, without its kind and hint.
    pub(crate) fn into_cause(self) -> anyhow::Error {
        self.cause
    }

    /// A failure to write the answer.
    pub(crate) fn unwritten(err: io::Error) -> Self {
        Self::new(Kind::Io, anyhow::Error::new(err).context("could not write the answer"))
    }

    /// Sets how the failure is printed.
    pub(crate) fn in_style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// Prints the failure to stderr, as one line of JSON or for a person.
    ///
    /// A failure to write to stderr is ignored: there is nowhere left to report it.
    pub fn print(&self) {
        let Style { is_json, has_colour, width } = self.style;
        let message = format!("{:#}", self.cause);
        let mut stderr = io::stderr().lock();
        let _ = if is_json {
            let message = [&[message], self.details.as_slice()].concat().join(" ");
            let error = json!({"error": {"kind": self.kind.name(), "message": message, "hint": self.hint}});
            writeln!(stderr, "{}", escape_json(&error.to_string()))
        } else {
            // clap has wrapped the usage already. It may quote the command line, so it is escaped, too.
            let usage = self.usage.as_deref().map(|usage| usage.split('\n').map(|line| format!("\n{}", Shown(line))));
            let usage = usage.map(|lines| format!("\n{}", lines.collect::<String>())).unwrap_or_default();
            let (on, off) = if has_colour { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
            // A line break in the message comes from a name or a server, and must not begin a line of ours.
            let message = [format!("error: {}", Shown(&message))];
            let details = self.details.iter().map(|line| format!("  {}", Shown(line)));
            let hint = self.hint.iter().map(|hint| format!("hint: {}", Shown(hint)));
            let lines: Vec<_> = message.into_iter().chain(details).chain(hint).collect();
            let text = lines.join("\n");
            let text = wrap(&text, width, 2);
            writeln!(stderr, "{on}error:{off}{}{usage}", &text["error:".len()..])
        };
    }

    /// Returns the process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        self.kind.exit_code().into()
    }
}
