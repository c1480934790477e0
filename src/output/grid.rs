//! A table on a terminal, laid out so that no line is wider than the terminal.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, Table};

use super::look::Look;
use crate::core::fit::{columns, cut_middle, isolated, wrap};

/// A column and all its cells.
pub(super) struct Column {
    /// Its name.
    pub(super) header: &'static str,
    /// Its cells where there is room.
    pub(super) cells: Vec<String>,
    /// The same where there is little; empty where that makes no difference.
    pub(super) short: Vec<String>,
    /// How it gives way.
    pub(super) kind: Kind,
}

/// How a column gives way where the terminal is narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name: its middle is cut out.
    Name,
    /// A number: it stands to the right.
    Number,
    /// A short text, such as a moment.
    Text,
    /// A long text, such as a path: it moves to a line below its row.
    Detail,
}

/// A name is shown whole up to this width before anything else is cut, as far as there is room.
const NAME_WISH: usize = 40;

/// A name is cut down to this width before other columns move below their rows.
const NAME_LEAST: usize = 20;

/// The smallest width to which a name is cut where nothing else helps.
const NAME_STUB: usize = 12;

/// How a table is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Whether the cells are the short ones.
    is_short: bool,
    /// The blanks on both sides of a cell.
    padding: u16,
    /// How many columns stand in the grid; the others stand in lines below each row.
    inside: usize,
    /// The greatest width of a name.
    name_width: usize,
}

/// Writes a table with borders for a terminal of this look, at least one row and one column.
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

    // Above the rows are a border, the header and a line; below them is a border.
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

/// The name of a column, bold where colours are wanted.
pub(super) fn header_cell(title: &str, look: Look) -> Cell {
    let cell = Cell::new(title);
    if look.has_colour { cell.add_attribute(Attribute::Bold) } else { cell }
}

/// Writes a cell that stands below its row, between the borders, which are this far apart.
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
    /// Everything as it is.
    fn whole(inside: usize) -> Self {
        Self { is_short: false, padding: 1, inside, name_width: usize::MAX }
    }

    /// The first of these that fits: all in the grid and whole, with short cells, with details below the
    /// rows, without blanks; then the same with cut names; then with more and more columns below.
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

    /// The width of the table if its name is not wider than `name_width`.
    fn width(self, table: &[Column], name_width: usize) -> usize {
        let border = 1 + self.inside * (1 + 2 * usize::from(self.padding));
        border + table[..self.inside].iter().map(|column| column.width(self.is_short, name_width)).sum::<usize>()
    }
}

impl Column {
    fn cells(&self, is_short: bool) -> &[String] {
        if is_short && !self.short.is_empty() { &self.short } else { &self.cells }
    }

    /// The name, a word a line where there is little room.
    fn title(&self, is_short: bool) -> String {
        if is_short { self.header.replace(' ', "\n") } else { self.header.to_owned() }
    }

    fn width(&self, is_short: bool, name_width: usize) -> usize {
        let widest = self.cells(is_short).iter().map(|cell| columns(cell)).max().unwrap_or(0);
        let title = self.title(is_short).lines().map(columns).max().unwrap_or(0);
        if self.kind == Kind::Name { widest.min(name_width.max(title)) } else { widest }.max(title)
    }
}
