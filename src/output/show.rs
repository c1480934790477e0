//! Prints everything that is known of one app.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use super::look::Look;
use super::when::second;
use crate::core::allocation::{Allocation, Reservation, until_text};
use crate::core::fit::wrap;
use crate::core::listener::Listeners;
use crate::core::place::{DeclaredLine, Listed};
use crate::core::ports::as_port;
use crate::core::text::Shown;

/// An app with everything that was found out about it.
pub(crate) struct App<'a> {
    /// The app's row and its directory.
    pub(crate) listed: Listed<'a>,
    /// The ports that the app's files declare.
    pub(crate) declared: Vec<DeclaredLine>,
}

/// The width of the label before a value, in columns.
const LEAD: usize = 13;

/// Writes one app, with one fact per line.
pub(crate) fn human(out: &mut dyn Write, look: Look, app: &App<'_>, listeners: &Listeners) -> io::Result<()> {
    let row = app.listed.row;
    writeln!(out, "{}", wrap(&row.app.to_string(), look.width, 2))?;
    for (name, value) in facts(app, row, listeners) {
        writeln!(out, "{}", wrap(&format!("  {name:<width$}{value}", width = LEAD - 2), look.width, LEAD))?;
    }
    Ok(())
}

fn facts(app: &App<'_>, row: &Allocation, listeners: &Listeners) -> Vec<(&'static str, String)> {
    let mut facts = vec![("backend", port(row.backend_port)), ("frontend", port(row.frontend_port))];
    if let Some(place) = &app.listed.place {
        facts.push(("state", place.state.name().to_owned()));
        let directory = place.directory.as_deref().map_or("none".to_owned(), |path| Shown(path).to_string());
        facts.push(("directory", directory));
    }
    facts.push(("created", row.created_at.map_or("not known".to_owned(), |made| format!("{} UTC", second(made)))));
    match row.reservation() {
        Reservation::None => {}
        Reservation::Until(until) => facts.push(("reserved", format!("until {}", until_text(until)))),
        Reservation::Unreadable => facts.push(("reserved", "until a moment that cannot be read".to_owned())),
    }
    let mut name = "declared";
    for line in &app.declared {
        facts.push((std::mem::take(&mut name), declared(line)));
    }
    let mut name = "in use";
    for (port, user) in listeners.of(row) {
        facts.push((std::mem::take(&mut name), format!("{port} is {}", user.use_of_port())));
    }
    facts
}

/// Returns a port and its URL for a browser.
fn port(port: i64) -> String {
    match as_port(port) {
        Some(port) => format!("{port:<5}  http://localhost:{port}"),
        None => format!("{port}, which is no port"),
    }
}

fn declared(line: &DeclaredLine) -> String {
    let DeclaredLine { file, line, backend, frontend } = line;
    let role = |name: &str, ports: &[RangeInclusive<u16>]| match ports {
        [] => None,
        ports => Some(format!("{name} {}", ports.iter().map(range).collect::<Vec<_>>().join(", "))),
    };
    let roles: Vec<_> = [role("backend", backend), role("frontend", frontend)].into_iter().flatten().collect();
    format!("{} line {line}: {}", Shown(file), roles.join(", "))
}

fn range(ports: &RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() { ports.start().to_string() } else { format!("{}-{}", ports.start(), ports.end()) }
}
