//! The table of allocations for people.

use std::io::{self, Write};

use comfy_table::presets::{NOTHING, UTF8_FULL_CONDENSED};
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use jiff::Timestamp;

use super::human::{listening, shown_directory};
use super::look::Look;
use crate::core::listener::Listeners;
use crate::core::place::Listed;
use crate::core::text::Shown;

/// Writes the table and how many rows it has, at least one, with where their apps are and who
/// listens if that was looked at. Borders are for terminals.
pub(crate) fn rows(
    out: &mut dyn Write,
    look: Look,
    rows: &[Listed<'_>],
    listeners: Option<&Listeners>,
) -> io::Result<()> {
    let has_reservations = rows.iter().any(|listed| listed.row.reserved_until().is_some());
    let mut header = vec!["Model", "App", "Backend", "Frontend", "Available", "Created"];
    if has_reservations {
        header.push("Reserved until");
    }
    if rows.iter().any(|listed| listed.place.is_some()) {
        header.extend(["State", "Directory"]);
    }
    if listeners.is_some() {
        header.push("Listening");
    }
    let last = header.len() - 1;

    let mut table = Table::new();
    if look.is_terminal {
        table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
        // A terminal that does not tell its width gets what it can show of whole lines.
        if table.width().is_some_and(|width| width > 0) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
    } else {
        table.load_style(NOTHING).force_no_tty();
    }
    if look.has_colour {
        table.enforce_styling();
    }
    table.set_header(header.into_iter().map(|name| {
        let cell = Cell::new(name);
        if look.has_colour { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    if let Some(column) = table.column_mut(0).filter(|_| !look.is_terminal) {
        column.set_padding((0, 1));
    }
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for Listed { row, place } in rows {
        let mut cells = vec![
            Shown(&row.app.model).to_string(),
            row.app.app_num.to_string(),
            row.backend_port.to_string(),
            row.frontend_port.to_string(),
            if row.is_available { "Yes" } else { "No" }.to_owned(),
            row.created_at.map(minute).unwrap_or_default(),
        ];
        if has_reservations {
            cells.push(row.reserved_until().map(minute).unwrap_or_default());
        }
        cells.extend(place.iter().flat_map(|place| [place.state.name().to_owned(), shown_directory(place)]));
        cells.extend(listeners.map(|listeners| listening(row, listeners)));
        table.add_row(cells);
    }
    // Only a model and who listens may take several lines where the terminal is narrow, and not one
    // a character.
    for (index, column) in table.column_iter_mut().enumerate().filter(|_| look.is_terminal) {
        column.set_constraint(match index {
            0 => ColumnConstraint::LowerBoundary(Width::Fixed(14)),
            _ if index == last && listeners.is_some() => ColumnConstraint::LowerBoundary(Width::Fixed(14)),
            _ => ColumnConstraint::ContentWidth,
        });
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out, "\nTotal: {} allocation(s)", rows.len())
}

/// A moment in UTC as people read it.
fn minute(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
