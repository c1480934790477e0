//! Prints a picture of the port range as text, JSON or SVG.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::look::Look;
use crate::core::allocation::{PortPair, State};
use crate::core::map::{Line, Map, Run, Slot};

/// The width of the two ports at the beginning of a line, in columns.
const LEAD: usize = 13;

/// The width of the picture, in columns, if stdout is not a terminal.
const WIDTH: usize = 80;

/// The number of cells on a line of an SVG picture.
const SVG_CELLS: usize = 60;

/// How a slot is drawn.
struct Ink {
    /// The letter that stands for the slot if there are no colours.
    letter: char,
    /// The SGR code of the background colour; a filled cell is visible on light and on dark terminals.
    code: &'static str,
    /// The fill colour in an SVG picture.
    fill: &'static str,
}

fn ink(slot: Slot) -> Ink {
    let ink = |letter, code, fill| Ink { letter, code, fill };
    match slot {
        Slot::Allocated(State::Allocated) => ink('A', "42", "#2da44e"),
        Slot::Allocated(State::Reserved) => ink('R', "44", "#218bff"),
        Slot::Allocated(State::Orphaned) => ink('O', "43", "#d4a72c"),
        Slot::Allocated(State::Unknown) => ink('?', "45", "#a475f9"),
        Slot::Listening => ink('L', "41", "#cf222e"),
        Slot::Blocked => ink('B', "100", "#6e7781"),
        Slot::Free => ink('.', "2", "#eaeef2"),
    }
}

/// Writes the picture as text, as wide as the terminal.
pub(crate) fn human(out: &mut dyn Write, look: Look, map: &Map) -> io::Result<()> {
    let width = look.width.unwrap_or(WIDTH);
    // The number of cells on a line is a multiple of ten, so that they are easier to count.
    let cells = (width.saturating_sub(LEAD) / 10 * 10).max(10);
    for line in map.lines(cells) {
        match line {
            Line::Cells(runs) => {
                let first = runs.first().map(|run| lead(run.first)).unwrap_or_default();
                let drawn: String = runs.iter().map(|run| drawn(look, run.slot, run.len)).collect();
                writeln!(out, "{first}{drawn}")?;
            }
            Line::Folded(run) => writeln!(out, "{}… {} free", lead(run.first), run.len)?,
        }
    }
    writeln!(out)?;
    legend(out, look, map, width)?;
    if map.outside > 0 {
        writeln!(out, "{} allocation(s) have ports outside of the slots: see `list`", map.outside)?;
    }
    Ok(())
}

/// Returns the beginning of a line: the ports of its first slot.
fn lead(pair: PortPair) -> String {
    format!("{:>5} {:>5}  ", pair.backend, pair.frontend)
}

/// Returns `len` cells of a slot.
fn drawn(look: Look, slot: Slot, len: usize) -> String {
    let Ink { letter, code, .. } = ink(slot);
    let is_filled = look.has_colour && slot != Slot::Free;
    let cells: String = std::iter::repeat_n(if is_filled { ' ' } else { letter }, len).collect();
    look.paint(code, &cells)
}

/// Writes the legend with the number of slots of each kind, on as many lines as needed.
fn legend(out: &mut dyn Write, look: Look, map: &Map, width: usize) -> io::Result<()> {
    const GAP: usize = 3;
    let mut used = 0;
    for (slot, count) in counts(map) {
        let text = format!(" {} {count}", slot.name());
        let columns = 1 + text.len();
        if used > 0 && used + GAP + columns > width {
            writeln!(out)?;
            used = 0;
        }
        let gap = if used == 0 { 0 } else { GAP };
        write!(out, "{:gap$}{}{text}", "", drawn(look, slot, 1))?;
        used += gap + columns;
    }
    writeln!(out)
}

/// Returns the entries of the legend with their counts; slots of unknown state are left out if there are
/// none.
fn counts(map: &Map) -> impl Iterator<Item = (Slot, usize)> {
    let is_told = |(slot, count): &(Slot, usize)| *slot != Slot::Allocated(State::Unknown) || *count > 0;
    Slot::ALL.into_iter().map(|slot| (slot, map.count(slot))).filter(is_told)
}

/// Writes the number of slots of each kind, and the runs of equal slots.
pub(crate) fn json(out: &mut dyn Write, map: &Map) -> io::Result<()> {
    #[derive(Serialize)]
    struct RunObject {
        first: [u16; 2],
        last: [u16; 2],
        state: &'static str,
    }
    #[derive(Serialize)]
    struct Object {
        counts: serde_json::Map<String, serde_json::Value>,
        runs: Vec<RunObject>,
    }
    let counts = Slot::ALL.into_iter().map(|slot| (slot.name().to_owned(), map.count(slot).into())).collect();
    let run = |run: &Run| RunObject { first: run.first.ports(), last: run.last.ports(), state: run.slot.name() };
    writeln!(out, "{}", serde_json::to_string(&Object { counts, runs: map.runs.iter().map(run).collect() })?)
}

/// Writes the picture as SVG.
pub(crate) fn svg(out: &mut dyn Write, map: &Map) -> io::Result<()> {
    const CELL: usize = 12;
    const LINE: usize = 16;
    const LEFT: usize = 100;
    let lines = map.lines(SVG_CELLS);
    let (width, legend_top) = (LEFT + SVG_CELLS * CELL + CELL, (lines.len() + 1) * LINE);
    let height = legend_top + 2 * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <title>The port range</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    // Writing to a String does not fail.
    let text = |svg: &mut String, x: usize, y: usize, text: &str| {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\" fill=\"#1f2328\">{text}</text>", y + CELL - 2);
    };
    let cells = |svg: &mut String, x: usize, y: usize, run: &Run| {
        let [[b1, f1], [b2, f2]] = [run.first, run.last].map(PortPair::ports);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{CELL}\" fill=\"{}\"><title>{}: {b1} {f1} to {b2} {f2}</title></rect>",
            run.len * CELL - 1,
            ink(run.slot).fill,
            run.slot.name()
        );
    };
    for (index, line) in lines.iter().enumerate() {
        let y = index * LINE + CELL / 2;
        match line {
            Line::Cells(runs) => {
                let mut x = LEFT;
                for (index, run) in runs.iter().enumerate() {
                    if index == 0 {
                        text(&mut svg, CELL / 2, y, lead(run.first).trim_end());
                    }
                    cells(&mut svg, x, y, run);
                    x += run.len * CELL;
                }
            }
            Line::Folded(run) => {
                text(&mut svg, CELL / 2, y, lead(run.first).trim_end());
                text(&mut svg, LEFT, y, &format!("… {} free", run.len));
            }
        }
    }
    let mut x = CELL / 2;
    for (slot, count) in counts(map) {
        let words = format!("{} {count}", slot.name());
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{legend_top}\" width=\"{0}\" height=\"{CELL}\" fill=\"{1}\" stroke=\"#d0d7de\"/>",
            CELL - 1,
            ink(slot).fill
        );
        text(&mut svg, x + CELL + 4, legend_top, &words);
        x += CELL * 3 + words.len() * 7;
    }
    svg.push_str("</svg>\n");
    out.write_all(svg.as_bytes())
}
