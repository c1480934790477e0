//! Prints the state of the database and of the apps in ten lines.

use std::io::{self, Write};

use serde::Serialize;

use super::look::{GREEN, Look, RED, YELLOW};
use crate::core::fit::wrap;
use crate::core::text::{Shown, escape_json};

/// The answer of `status`.
#[derive(Serialize)]
pub(crate) struct Status {
    /// The configuration file, if there is one.
    pub(crate) config: Option<String>,
    /// The database.
    pub(crate) database: Database,
    /// The apps directory.
    pub(crate) apps_dir: String,
    /// The number of rows in each state.
    #[serde(flatten)]
    pub(crate) states: States,
    /// The number of slots that can be given, without a probe of the ports.
    pub(crate) free_slots: usize,
    /// The number of conflicts that `check` finds.
    pub(crate) conflicts: usize,
    /// The number of warnings that `check` gives.
    pub(crate) warnings: usize,
    /// Tells whether the table lacks a unique index.
    #[serde(skip)]
    pub(crate) is_weak: bool,
}

/// The database; facts are missing if its file does not exist yet.
#[derive(Serialize)]
pub(crate) struct Database {
    /// The path or URL of the database, without a password.
    pub(crate) name: String,
    /// `sqlite` or `postgresql`.
    pub(crate) kind: &'static str,
    /// The journal mode, as the database names it.
    pub(crate) journal_mode: Option<String>,
    /// The size of the database file, in bytes.
    pub(crate) bytes: Option<u64>,
    /// The kind of storage that holds the database.
    pub(crate) storage: String,
}

/// The number of rows in each state.
#[derive(Default, Serialize)]
pub(crate) struct States {
    pub(crate) allocated: usize,
    pub(crate) reserved: usize,
    pub(crate) orphaned: usize,
    /// The number of rows whose apps may or may not have a directory.
    pub(crate) unknown: usize,
}

/// The width of the label before a value, in columns.
const LEAD: usize = 16;

/// Writes the status as JSON.
pub(crate) fn json(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    writeln!(out, "{}", escape_json(&serde_json::to_string(status)?))
}

/// Writes the status as text, with one fact per line.
pub(crate) fn human(out: &mut dyn Write, look: Look, status: &Status) -> io::Result<()> {
    let Status { states, conflicts, warnings, .. } = status;
    let unknown = match states.unknown {
        0 => String::new(),
        count => format!(", and {count} more whose directories cannot be read"),
    };
    let next = next(status);
    let colour = if *conflicts > 0 {
        RED
    } else if next.is_some() {
        YELLOW
    } else {
        GREEN
    };
    let facts = [
        ("config file", status.config.as_deref().map_or("none".to_owned(), |path| Shown(path).to_string())),
        ("database", database(&status.database)),
        ("apps directory", Shown(&status.apps_dir).to_string()),
        ("allocated", format!("{}{unknown}", states.allocated)),
        ("reserved", states.reserved.to_string()),
        ("orphaned", states.orphaned.to_string()),
        ("free slots", status.free_slots.to_string()),
        ("conflicts", conflicts.to_string()),
        ("warnings", warnings.to_string()),
        ("next", next.unwrap_or("nothing is to be done").to_owned()),
    ];
    for (name, value) in facts {
        let line = wrap(&format!("{name:<LEAD$}{value}"), look.width, LEAD).into_owned();
        let line = if name == "next" { look.paint(colour, &line) } else { line };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn database(database: &Database) -> String {
    let Database { name, kind, journal_mode, bytes, storage } = database;
    let kind = if *kind == "sqlite" { "SQLite" } else { "PostgreSQL" };
    let Some(journal_mode) = journal_mode else { return format!("{} ({kind}, not made yet)", Shown(name)) };
    let size = bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
    format!("{} ({kind}, journal mode {}{size}, on {storage})", Shown(name), Shown(journal_mode))
}

/// Formats a size in bytes with a unit.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

/// Returns advice on what to do next, if there is a problem.
fn next(status: &Status) -> Option<&'static str> {
    let States { allocated, reserved, orphaned, unknown } = status.states;
    Some(if status.conflicts > 0 {
        "`manage-ports check` tells what is in conflict and what to do"
    } else if unknown > 0 {
        "name the apps directory with --apps-dir: whether apps are there cannot be told"
    } else if status.free_slots == 0 {
        "`manage-ports cleanup` frees what is not used, and [ports] in manage-ports.toml widens the range"
    } else if orphaned > 0 {
        "`manage-ports cleanup --dry-run` tells which rows of apps without a directory would go"
    } else if status.is_weak {
        "`manage-ports migrate --dry-run` tells which unique indexes the table lacks"
    } else if status.warnings > 0 {
        "`manage-ports check` tells what it warns of"
    } else if allocated + reserved == 0 {
        "`manage-ports allocate MODEL APPS` gives the first apps their ports"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            config: Some("manage-ports.toml".into()),
            database: Database {
                name: "data/a\u{1b}.db".into(),
                kind: "sqlite",
                journal_mode: Some("wal".into()),
                bytes: Some(196_608),
                storage: "a file system of this machine".into(),
            },
            apps_dir: "/srv/platform/of/a/long/name/that/goes/on/generated/apps".into(),
            states: States { allocated: 740, reserved: 2, orphaned: 8, unknown: 0 },
            free_slots: 27_000,
            conflicts: 0,
            warnings: 9,
            is_weak: true,
        }
    }

    fn shown(status: &Status, width: Option<usize>) -> String {
        let mut out = Vec::new();
        human(&mut out, Look { is_terminal: width.is_some(), has_colour: false, width }, status).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ten_facts_are_told_and_wrapped() {
        assert_eq!(shown(&status(), None).lines().count(), 10);
        insta::assert_snapshot!("status_human", shown(&status(), None));
        insta::assert_snapshot!("status_60", shown(&status(), Some(60)));
        for width in 60..120 {
            assert!(shown(&status(), Some(width)).lines().all(|line| crate::core::fit::columns(line) <= width));
        }
    }

    #[test]
    fn what_is_worst_comes_next() {
        let mut status = status();
        for (change, expected) in [
            ((|_| {}) as fn(&mut Status), "cleanup --dry-run"),
            (|status| status.states.orphaned = 0, "`manage-ports migrate --dry-run`"),
            (|status| status.is_weak = false, "what it warns of"),
            (|status| status.warnings = 0, "nothing is to be done"),
            (|status| (status.states.allocated, status.states.reserved) = (0, 0), "allocate MODEL APPS"),
            (|status| status.free_slots = 0, "widens the range"),
            (|status| status.states.unknown = 7, "--apps-dir"),
            (|status| status.conflicts = 1, "in conflict"),
        ] {
            change(&mut status);
            let shown = shown(&status, None);
            assert!(shown.lines().last().unwrap().contains(expected), "{shown}");
        }
    }
}
