//! Prints the findings of `check` as text.

use std::io::{self, Write};

use super::look::{GREEN, Look, RED, YELLOW};
use crate::core::conflict::{Finding, Report, grouped};
use crate::core::fit::wrap;

/// Writes the conflicts, the warnings, the processes that use the ports if they were looked up, and the
/// totals. With `is_long`, each finding has its own line; otherwise, findings of one kind about the apps of
/// a model share one.
pub(crate) fn report(out: &mut dyn Write, look: Look, report: &Report<'_>, is_long: bool) -> io::Result<()> {
    let (conflicts, warnings) = (report.of(true), report.of(false));
    if conflicts.is_empty() {
        writeln!(out, "{} No port conflicts found.", look.paint(GREEN, "✓"))?;
    } else {
        writeln!(out, "{} Found {} conflict(s):", look.paint(RED, "✗"), conflicts.len())?;
        lines(out, look, &conflicts, is_long)?;
    }
    if !warnings.is_empty() {
        writeln!(out, "{} {} warning(s):", look.paint(YELLOW, "!"), warnings.len())?;
        lines(out, look, &warnings, is_long)?;
    }
    listeners(out, look, report)?;
    writeln!(out, "{}", wrap(&report.totals().to_string(), look.width, 2))
}

fn lines(out: &mut dyn Write, look: Look, findings: &[&Finding], is_long: bool) -> io::Result<()> {
    let lines = if is_long { findings.iter().map(|found| found.told()).collect() } else { grouped(findings) };
    lines.iter().try_for_each(|line| match line.strip_prefix("  ") {
        Some(below) => writeln!(out, "{}", wrap(&format!("      {below}"), look.width, 8)),
        None => writeln!(out, "{}", wrap(&format!("  - {line}"), look.width, 4)),
    })
}

fn listeners(out: &mut dyn Write, look: Look, report: &Report<'_>) -> io::Result<()> {
    let Some(listeners) = report.listeners else { return Ok(()) };
    let used = report.rows.iter().flat_map(|row| listeners.of(row).map(move |(port, user)| (row, port, user)));
    let used: Vec<_> = used.collect();
    writeln!(out, "{} listener(s) on allocated ports{}", used.len(), if used.is_empty() { "." } else { ":" })?;
    used.iter().try_for_each(|(row, port, user)| {
        writeln!(out, "{}", wrap(&format!("  - {port} of {}: {user}", row.app), look.width, 4))
    })
}
