//! Prints the table of allocations as text.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;

use super::grid::{self, Column, Kind, header_cell};
use super::human::{listening, shown_directory};
use super::look::Look;
use super::when::{from_now, second};
use crate::core::allocation::{Allocation, Reservation};
use crate::core::listener::Listeners;
use crate::core::place::{Listed, Place};
use crate::core::text::Shown;

/// Writes at least one row as a table, and the number of rows, with directories and listeners if these were
/// looked up. A terminal gets borders; a pipe gets plain text, in which the column `Available` is always
/// there.
pub(crate) fn rows(
    out: &mut dyn Write,
    look: Look,
    now: Timestamp,
    rows: &[Listed<'_>],
    listeners: Option<&Listeners>,
) -> io::Result<()> {
    let cells = |cell: &dyn Fn(&Allocation) -> String| rows.iter().map(|listed| cell(listed.row)).collect::<Vec<_>>();
    let column = |header, kind, cell: &dyn Fn(&Allocation) -> String| {
        let short = Vec::new();
        Column { header, cells: cells(cell), short, kind }
    };
    let until = |row: &Allocation, text: &dyn Fn(Timestamp) -> String| match row.reservation() {
        Reservation::None => String::new(),
        Reservation::Until(moment) => text(moment),
        Reservation::Unreadable => "unreadable".to_owned(),
    };

    let mut table = vec![
        column("Model", Kind::Name, &|row| Shown(&row.app.model).to_string()),
        column("App", Kind::Number, &|row| row.app.app_num.to_string()),
        column("Backend", Kind::Number, &|row| row.backend_port.to_string()),
        column("Frontend", Kind::Number, &|row| row.frontend_port.to_string()),
    ];
    if !look.is_terminal || rows.iter().any(|listed| !listed.row.is_available) {
        let yes_or_no = |row: &Allocation| if row.is_available { "Yes" } else { "No" }.to_owned();
        table.push(column("Available", Kind::Text, &yes_or_no));
    }
    table.push(Column {
        short: cells(&|row| row.created_at.map(|moment| from_now(moment, now)).unwrap_or_default()),
        ..column("Created", Kind::Text, &|row| row.created_at.map(second).unwrap_or_default())
    });
    if rows.iter().any(|listed| listed.row.reservation() != Reservation::None) {
        table.push(Column {
            short: cells(&|row| until(row, &|moment| from_now(moment, now))),
            ..column("Reserved until", Kind::Text, &|row| until(row, &second))
        });
    }
    if rows.iter().any(|listed| listed.place.is_some()) {
        let place = |of: fn(&Place) -> String| {
            rows.iter().map(|listed| listed.place.as_ref().map(of).unwrap_or_default()).collect()
        };
        let column = |header, kind, cells| Column { header, cells, short: Vec::new(), kind };
        table.push(column("State", Kind::Text, place(|place| place.state.name().to_owned())));
        table.push(column("Directory", Kind::Detail, place(shown_directory)));
    }
    if let Some(listeners) = listeners {
        table.push(column("Listening", Kind::Detail, &|row| listening(row, listeners)));
    }

    if look.is_terminal { grid::write(out, look, &table) } else { write_plain(out, look, &table) }?;
    writeln!(out, "\nTotal: {} allocation(s)", rows.len())
}

/// Writes a table without borders.
fn write_plain(out: &mut dyn Write, look: Look, columns: &[Column]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    if look.has_colour {
        table.enforce_styling();
    }
    table.set_header(columns.iter().map(|column| header_cell(column.header, look)));
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        table.add_row(columns.iter().map(|column| &column.cells[row]));
    }
    for (drawn, column) in table.column_iter_mut().zip(columns) {
        if column.kind == Kind::Name {
            drawn.set_padding((0, 1));
        }
        if column.kind == Kind::Number {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
