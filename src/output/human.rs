//! Prints answers as text for people, and as plain values or variables for shells.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::look::{GREEN, Look, RED, YELLOW};
use crate::core::allocation::{Allocation, Outcome, until_text};
use crate::core::app::AppId;
use crate::core::declared::Names;
use crate::core::fit::wrap;
use crate::core::import;
use crate::core::listener::Listeners;
use crate::core::migration::Migration;
use crate::core::orphan::{Kept, Sweep};
use crate::core::place::Place;
use crate::core::promise::Report;
use crate::core::schema::UniqueIndex;
use crate::core::text::Shown;

/// Writes the ports that apps were given, one app per line.
pub(crate) fn outcomes(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    for Outcome { allocation, created } in outcomes {
        let existing = if *created { "" } else { " (existing)" };
        writeln!(out, "{}{existing}", app_and_ports(allocation))?;
    }
    Ok(())
}

/// Writes that no allocation in the database matches.
pub(crate) fn nothing_found(out: &mut dyn Write, database: &str) -> io::Result<()> {
    writeln!(out, "No port allocations found in {}.", Shown(database))
}

/// Writes the reserved apps, one per line, with the time at which each reservation ends.
pub(crate) fn reserved(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    for Outcome { allocation, created } in outcomes {
        let existing = if *created { "" } else { " (existing)" };
        let until = allocation.reserved_until().map(|until| format!(", reserved until {}", until_text(until)));
        writeln!(out, "{}{existing}{}", app_and_ports(allocation), until.unwrap_or_default())?;
    }
    Ok(())
}

/// Writes the apps whose reservation was ended, one per line.
pub(crate) fn no_longer_reserved(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    let line = |row| format!("{} (existing), not reserved", app_and_ports(row));
    outcomes.iter().try_for_each(|outcome| writeln!(out, "{}", line(&outcome.allocation)))
}

/// Writes only the ports of the apps, one app per line.
pub(crate) fn plain_outcomes(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    for Outcome { allocation, .. } in outcomes {
        writeln!(out, "{} {}", allocation.backend_port, allocation.frontend_port)?;
    }
    Ok(())
}

/// Writes the ports of apps as shell variables, under each of the configured names.
pub(crate) fn env_outcomes(out: &mut dyn Write, names: &Names, outcomes: &[Outcome]) -> io::Result<()> {
    for (name, port) in outcomes.iter().flat_map(|outcome| names.with_ports(outcome.allocation.ports())) {
        writeln!(out, "{name}={port}")?;
    }
    Ok(())
}

/// Writes the rows that a cleanup removes, and the rows that it keeps with the reasons.
pub(crate) fn cleanup(out: &mut dyn Write, look: Look, dry_run: bool, sweep: &Sweep) -> io::Result<()> {
    for row in &sweep.orphans {
        writeln!(out, "  {}", app_and_ports(row))?;
    }
    for Kept { app, why, .. } in &sweep.kept {
        writeln!(out, "  kept {app}: {}", Shown(why))?;
    }
    let tick = look.paint(GREEN, "✓");
    match sweep.orphans.len() {
        0 => writeln!(out, "{tick} No orphaned allocations found"),
        count if dry_run => writeln!(out, "{} {count} orphaned allocation(s)", look.paint(YELLOW, "Would remove")),
        count => writeln!(out, "{tick} Removed {count} orphaned allocation(s)"),
    }
}

/// Returns the listeners on a row's ports as text, such as `5001: 1234 python3, 8001: unseen`.
pub(super) fn listening(row: &Allocation, listeners: &Listeners) -> String {
    let each = listeners.of(row).map(|(port, listener)| match (listener.pid, &listener.program) {
        _ if let Some(container) = &listener.container => match &listener.project {
            Some(project) => format!("{port}: container {} ({})", Shown(container), Shown(project)),
            None => format!("{port}: container {}", Shown(container)),
        },
        (Some(pid), Some(program)) => format!("{port}: {pid} {}", Shown(program)),
        (Some(pid), None) => format!("{port}: {pid}"),
        (None, _) => format!("{port}: unseen"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Returns the directory of an app, or an empty text if it has none.
pub(super) fn shown_directory(place: &Place) -> String {
    place.directory.as_deref().map(|directory| Shown(directory).to_string()).unwrap_or_default()
}

/// Writes that no allocation has this port.
pub(crate) fn no_port(out: &mut dyn Write, look: Look, port: u16, database: &str) -> io::Result<()> {
    writeln!(out, "{} No allocation in {} has port {port}", look.paint(RED, "✗"), Shown(database))
}

/// Writes the rows that were released, and the apps that had none.
pub(crate) fn released(
    out: &mut dyn Write,
    look: Look,
    dry_run: bool,
    released: &[Allocation],
    not_found: &[&AppId],
) -> io::Result<()> {
    for rows in released.chunk_by(|one, other| one.app == other.app) {
        let Some(row) = rows.first() else { continue };
        let count = if rows.len() > 1 { format!(" ({} allocations)", rows.len()) } else { String::new() };
        let what = if dry_run { look.paint(YELLOW, "Would release") } else { look.paint(GREEN, "✓") + " Released" };
        writeln!(out, "{what} ports for {}{count}", row.app)?;
    }
    not_found.iter().try_for_each(|app| self::not_found(out, look, app))
}

/// Writes that an app or a model has no allocation.
pub(crate) fn not_found(out: &mut dyn Write, look: Look, name: impl Display) -> io::Result<()> {
    writeln!(out, "{} No allocation found for {name}", look.paint(RED, "✗"))
}

/// Writes the path of the new configuration file and the settings that it leads to.
pub(crate) fn init(out: &mut dyn Write, look: Look, file: &Path, database: &str, apps_dir: &Path) -> io::Result<()> {
    writeln!(out, "{} Wrote {}", look.paint(GREEN, "✓"), Shown(&file.to_string_lossy()))?;
    writeln!(out, "  database        {}", Shown(database))?;
    writeln!(out, "  apps directory  {}", Shown(&apps_dir.to_string_lossy()))
}

/// Writes how many allocations were imported.
pub(crate) fn import(out: &mut dyn Write, look: Look, report: &import::Report) -> io::Result<()> {
    let import::Report { is_dry_run, imported, existing, skipped, .. } = report;
    if *is_dry_run {
        return writeln!(out, "Would import {imported} allocation(s), {existing} existing, {skipped} skipped");
    }
    let tick = look.paint(GREEN, "✓");
    writeln!(out, "{tick} Imported {imported} allocation(s), {existing} existing, {skipped} skipped")
}

/// Writes the indexes that a migration added or would add, or the rows that are in its way.
pub(crate) fn migration(
    out: &mut dyn Write,
    look: Look,
    dry_run: bool,
    database: &str,
    migration: &Migration,
) -> io::Result<()> {
    let Migration { added, replaced, obstacles, .. } = migration;
    let database = Shown(database);
    if !obstacles.is_empty() {
        let head = format!("{} conflict(s) are in the way of unique indexes in {database}:", obstacles.len());
        led(out, look, (RED, "✗"), &head)?;
        return obstacles.iter().try_for_each(|found| {
            let line = format!("  - {}; {}", found.message, found.kind.advice());
            writeln!(out, "{}", wrap(&line, look.width, 4))
        });
    }
    if !migration.has_work() {
        return led(out, look, (GREEN, "✓"), &format!("Nothing to migrate in {database}"));
    }
    let on = |index: &UniqueIndex| format!("on ({})", index.columns().join(", "));
    let named = |index: &UniqueIndex| format!("{} {}", index.name(), on(index));
    if dry_run {
        for index in added {
            led(out, look, (YELLOW, "Would add:"), &format!("unique index {}", named(index)))?;
        }
        for index in replaced {
            let what = format!("{} by a unique index {}", index.name(), on(index));
            led(out, look, (YELLOW, "Would replace:"), &what)?;
        }
        return Ok(());
    }
    let part = |what: &str, indexes: &[UniqueIndex]| {
        let names: Vec<_> = indexes.iter().map(named).collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let parts: Vec<_> = part("added", added).into_iter().chain(part("replaced", replaced)).collect();
    led(out, look, (GREEN, "✓"), &format!("Migrated {database}: {}", parts.join("; ")))
}

/// Writes a line that begins with something coloured, and wraps it at the terminal's width.
fn led(out: &mut dyn Write, look: Look, (colour, lead): (&str, &str), rest: &str) -> io::Result<()> {
    let line = format!("{lead} {rest}");
    let line = wrap(&line, look.width, 2);
    writeln!(out, "{}{}", look.paint(colour, lead), line.strip_prefix(lead).unwrap_or(&line))
}

/// Writes the result of a self-test: a line for each promise, then the measurements.
pub(crate) fn selftest(out: &mut dyn Write, look: Look, report: &Report) -> io::Result<()> {
    for (promise, broken) in &report.promises {
        match broken {
            None => writeln!(out, "{} {promise}", look.paint(GREEN, "✓"))?,
            Some(why) => writeln!(out, "{} {promise}: {}", look.paint(RED, "✗"), Shown(why))?,
        }
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    writeln!(out, "  {:.0} allocations a second, start of the processes included", report.per_second)?;
    writeln!(out, "  p50 {:.1} ms, p99 {:.1} ms a call", milliseconds(report.p50), milliseconds(report.p99))?;
    if let Some(sync) = report.sync {
        writeln!(out, "  one sync {:.2} ms", milliseconds(sync))?;
    }
    if let Some(mode) = &report.mode {
        writeln!(out, "  journal mode {}", Shown(&mode.journal))?;
        writeln!(out, "  waiting {}", mode.waiting)?;
        writeln!(out, "  kept on {}", mode.storage)?;
    }
    Ok(())
}

fn app_and_ports(row: &Allocation) -> String {
    format!("{}: backend {}, frontend {}", row.app, row.backend_port, row.frontend_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::promise::ScratchMode;

    #[test]
    fn what_a_server_calls_its_journal_is_escaped() {
        let mode = ScratchMode { journal: "a\u{1b}b".to_owned(), waiting: "", storage: String::new() };
        let report = Report {
            promises: Vec::new(),
            per_second: 1.0,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
            sync: None,
            mode: Some(mode),
        };
        let mut out = Vec::new();
        selftest(&mut out, Look { is_terminal: false, has_colour: false, width: None }, &report).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("journal mode a\\u{1b}b\n"));
    }
}
