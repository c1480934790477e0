//! Prints a table with borders that fits into the width of the terminal.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, Table};

use super::look::Look;
use crate::core::fit::{columns, cut_middle, isolated, wrap};

/// A column with all of its cells.
pub(super) struct Column {
    /// The title of the column.
    pub(super) header: &'static str,
    /// The full text of the cells.
    pub(super) cells: Vec<String>,
    /// The abbreviated text of the cells for narrow terminals; empty if it equals `cells`.
    pub(super) short: Vec<String>,
    /// How the column shrinks.
    pub(super) kind: Kind,
}

/// How a column shrinks on a narrow terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, which is shortened in the middle.
    Name,
    /// A number, which is aligned to the right.
    Number,
    /// A short text, such as a time.
    Text,
    /// A long text, such as a path, which moves to a line of its own below the row.
    Detail,
}

/// The first layouts that are tried leave names at least this width, in columns.
const NAME_WISH: usize = 40;

/// The next layouts may shorten names to this width, in columns, before more cells move below their rows.
const NAME_LEAST: usize = 20;

/// The last layouts may shorten names to this width, in columns.
const NAME_STUB: usize = 12;

/// The layout of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Whether the cells show their abbreviated text.
    is_short: bool,
    /// The number of blanks on each side of a cell.
    padding: u16,
    /// The number of columns in the grid; the other columns are printed on lines below each row.
    inside: usize,
    /// The greatest width of a name, in columns.
    name_width: usize,
}

/// Writes a table with borders, which must have at least one row and one column.
pub(super) fn write(out: &mut dyn Write, look: Look, table: &[Column]) -> io::Result<()> {
    let layout = look.width.map_or_else(|| Layout::whole(table.len()), |width| Layout::fitting(table, width));
    let (inside, below) = table.split_at(layout.inside);

    let mut grid = Table::new();
    grid.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
    if look.has_colour {
        grid.enforce_styling()
    } else {
        grid.force_no_tty()
    };
    grid.set_header(inside.iter().map(|column| header_cell(&column.title(layout.is_short), look)));
    let rows = inside.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        grid.add_row(inside.iter().map(|column| {
            let text = &column.cells(layout.is_short)[row];
            isolated(if column.kind == Kind::Name { cut_middle(text, layout.name_width) } else { text.into() })
        }));
    }
    for (drawn, column) in grid.column_iter_mut().zip(inside) {
        drawn.set_padding((layout.padding, layout.padding));
        if column.kind == Kind::Number {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }

    // The grid is the top border, the header, a separator, the rows and the bottom border.
    let lines: Vec<_> = grid.lines().collect();
    let above = lines.len() - rows - 1;
    for (index, line) in lines.iter().enumerate() {
        writeln!(out, "{}", line.trim_end())?;
        let Some(row) = index.checked_sub(above).filter(|row| *row < rows) else { continue };
        for column in below {
            write_below(out, layout, columns(line) - 2, column.header, &column.cells(layout.is_short)[row])?;
        }
    }
    Ok(())
}

/// Returns the header cell of a column, in bold if colours are wanted.
pub(super) fn header_cell(title: &str, look: Look) -> Cell {
    let cell = Cell::new(title);
    if look.has_colour { cell.add_attribute(Attribute::Bold) } else { cell }
}

/// Writes a cell below its row, between borders that are `width` columns apart.
fn write_below(out: &mut dyn Write, layout: Layout, width: usize, header: &str, cell: &str) -> io::Result<()> {
    if cell.is_empty() {
        return Ok(());
    }
    let padding = " ".repeat(layout.padding.into());
    let room = width - 2 * padding.len();
    for line in wrap(&format!("  {header}: {}", isolated(cell.into())), Some(room), 4).split('\n') {
        let blanks = " ".repeat(room.saturating_sub(columns(line)));
        writeln!(out, "│{padding}{line}{blanks}{padding}│")?;
    }
    Ok(())
}

impl Layout {
    /// Returns the layout that shortens nothing.
    fn whole(inside: usize) -> Self {
        Self { is_short: false, padding: 1, inside, name_width: usize::MAX }
    }

    /// Returns the first layout that fits. The order is: everything whole in the grid, short cells, details
    /// below the rows, no padding; then these with shorter names; then with ever more columns below the rows.
    fn fitting(table: &[Column], width: usize) -> Self {
        let all = table.len();
        let short = all - table.iter().rev().take_while(|column| column.kind == Kind::Detail).count();
        let candidate = |is_short, padding, inside| Self { is_short, padding, inside, name_width: usize::MAX };
        let whole =
            [candidate(false, 1, all), candidate(true, 1, all), candidate(true, 1, short), candidate(true, 0, short)];
        let stubs = (1..=short).rev().map(|inside| candidate(true, 0, inside));
        let candidates = whole.into_iter().map(|layout| (layout, NAME_WISH));
        let candidates = candidates.chain(whole.into_iter().skip(1).map(|layout| (layout, NAME_LEAST)));
        let mut candidates = candidates.chain(stubs.map(|layout| (layout, NAME_STUB)));
        let fits = |(layout, least): &(Self, usize)| layout.width(table, *least) <= width;
        let layout = candidates.find(fits).map_or(candidate(true, 0, 1), |(layout, _)| layout);
        let title = table.iter().find(|column| column.kind == Kind::Name).map_or(0, |column| columns(column.header));
        Self { name_width: (width + title).saturating_sub(layout.width(table, 0)), ..layout }
    }

    /// Returns the width of the table if names are at most `name_width` wide.
    fn width(self, table: &[Column], name_width: usize) -> usize {
        let border = 1 + self.inside * (1 + 2 * usize::from(self.padding));
        border + table[..self.inside].iter().map(|column| column.width(self.is_short, name_width)).sum::<usize>()
    }
}

impl Column {
    fn cells(&self, is_short: bool) -> &[String] {
        if is_short && !self.short.is_empty() { &self.short } else { &self.cells }
    }

    /// Returns the column's title, with one word on each line if the layout is short.
    fn title(&self, is_short: bool) -> String {
        if is_short { self.header.replace(' ', "\n") } else { self.header.to_owned() }
    }

    fn width(&self, is_short: bool, name_width: usize) -> usize {
        let widest = self.cells(is_short).iter().map(|cell| columns(cell)).max().unwrap_or(0);
        let title = self.title(is_short).lines().map(columns).max().unwrap_or(0);
        if self.kind == Kind::Name { widest.min(name_width.max(title)) } else { widest }.max(title)
    }
}
