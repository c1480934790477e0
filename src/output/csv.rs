//! Prints comma-separated and tab-separated values.

use std::io::{self, Write};

use csv::{QuoteStyle, Terminator, WriterBuilder};

use super::human::{listening, shown_directory};
use super::json::moment;
use crate::core::allocation::{Allocation, Outcome, until_text};
use crate::core::listener::Listeners;
use crate::core::place::Listed;
use crate::core::text::Shown;

/// Writes the given ports of apps as CSV with a header.
pub(crate) fn outcomes(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    let mut out = builder().from_writer(out);
    out.write_record(["model", "app_num", "backend_port", "frontend_port", "created"])?;
    for Outcome { allocation, created } in outcomes {
        let [model, app_num, backend, frontend] = name_and_ports(allocation);
        out.write_record([model, app_num, backend, frontend, created.to_string()])?;
    }
    out.flush()
}

/// Writes rows as CSV with a header, and adds columns for directories and listeners if these were looked up.
pub(crate) fn rows(out: &mut dyn Write, rows: &[Listed<'_>], listeners: Option<&Listeners>) -> io::Result<()> {
    let mut out = builder().from_writer(out);
    let header = [
        "model",
        "app_num",
        "backend_port",
        "frontend_port",
        "is_available",
        "created_at",
        "updated_at",
        "reserved_until",
    ];
    let place = rows.first().and_then(|listed| listed.place.as_ref()).map(|_| ["state", "directory"]);
    out.write_record(header.into_iter().chain(place.into_iter().flatten()).chain(listeners.map(|_| "listeners")))?;
    write_rows(&mut out, rows, listeners)
}

/// Writes rows separated by tabs, without a header and without quotes, because no value can hold a tab.
pub(crate) fn plain(out: &mut dyn Write, rows: &[Listed<'_>], listeners: Option<&Listeners>) -> io::Result<()> {
    let mut out = builder().delimiter(b'\t').quote_style(QuoteStyle::Never).from_writer(out);
    write_rows(&mut out, rows, listeners)
}

fn builder() -> WriterBuilder {
    let mut builder = WriterBuilder::new();
    builder.terminator(Terminator::Any(b'\n'));
    builder
}

fn write_rows(out: &mut csv::Writer<impl Write>, rows: &[Listed<'_>], listeners: Option<&Listeners>) -> io::Result<()> {
    for Listed { row, place } in rows {
        let [model, app_num, backend, frontend] = name_and_ports(row);
        let [created, updated] = [row.created_at, row.updated_at].map(|time| time.map(moment).unwrap_or_default());
        let unreadable = || row.unreadable_reservation().map(|text| Shown(&text).to_string());
        let reserved = row.reserved_until().map(until_text).or_else(unreadable).unwrap_or_default();
        let record = [model, app_num, backend, frontend, row.is_available.to_string(), created, updated, reserved];
        let place = place.iter().flat_map(|place| [place.state.name().to_owned(), shown_directory(place)]);
        let listening = listeners.map(|listeners| listening(row, listeners));
        out.write_record(record.into_iter().chain(place).chain(listening))?;
    }
    out.flush()
}

fn name_and_ports(row: &Allocation) -> [String; 4] {
    [
        Shown(&row.app.model).to_string(),
        row.app.app_num.to_string(),
        row.backend_port.to_string(),
        row.frontend_port.to_string(),
    ]
}
