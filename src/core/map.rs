//! Classifies each slot of the port range as free, in use or not available, and arranges the slots in lines
//! of a picture.

use std::collections::HashMap;

use super::allocation::{PortPair, State};
use super::place::Listed;
use super::plan::Plans;
use super::policy::{Limits, survey};
use super::ports::{PortSet, as_port};
use super::refusal::Reason;

/// The state of a slot in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A row in this state has the slot.
    Allocated(State),
    /// No row has the slot's ports, but something on this machine uses one of them.
    Listening,
    /// The slot cannot be allocated: one of its ports is in a row of another slot, excluded, planned for an
    /// app, refused by browsers, or one on which this user may not listen.
    Blocked,
    /// The slot can be allocated.
    Free,
}

impl Slot {
    /// All states, in the order of a legend.
    pub(crate) const ALL: [Self; 7] = [
        Self::Allocated(State::Allocated),
        Self::Allocated(State::Reserved),
        Self::Allocated(State::Orphaned),
        Self::Allocated(State::Unknown),
        Self::Listening,
        Self::Blocked,
        Self::Free,
    ];

    /// Returns the state's name, which every output format uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allocated(state) => state.name(),
            Self::Listening => "listening",
            Self::Blocked => "blocked",
            Self::Free => "free",
        }
    }
}

/// Adjacent slots in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first slot.
    pub(crate) first: PortPair,
    /// The last slot.
    pub(crate) last: PortPair,
    /// The number of slots.
    pub(crate) len: usize,
    /// The state of all the slots.
    pub(crate) slot: Slot,
}

/// The states of all slots of the port range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// All slots as runs, lowest first.
    pub(crate) runs: Vec<Run>,
    /// The difference between the ports of two adjacent slots.
    pub(crate) step: u16,
    /// The number of rows whose ports belong to no slot.
    pub(crate) outside: usize,
}

impl Map {
    /// Makes the map. For a port that no row has, `is_used` tells whether something on this machine uses the
    /// port, and `is_permitted` whether this user may listen on it.
    pub(crate) fn new(
        limits: &Limits,
        plans: &Plans,
        rows: &[Listed<'_>],
        is_used: impl Fn(u16) -> bool,
        is_permitted: impl Fn(u16) -> bool,
    ) -> Self {
        let owners = Owners::of(rows, limits);
        let taken: PortSet = rows.iter().flat_map(|listed| listed.row.valid_ports()).collect();
        let mut map = Self { step: limits.step, outside: owners.outside, ..Self::default() };
        for (pair, obstacle) in survey(limits, plans, &taken) {
            let ports = pair.ports();
            let slot = match obstacle {
                Some(Reason::Taken) => owners.state_of(pair).map_or(Slot::Blocked, Slot::Allocated),
                Some(_) => Slot::Blocked,
                None if ports.into_iter().any(&is_used) => Slot::Listening,
                None if !ports.into_iter().all(&is_permitted) => Slot::Blocked,
                None => Slot::Free,
            };
            map.push(pair, slot);
        }
        map
    }

    fn push(&mut self, pair: PortPair, slot: Slot) {
        match self.runs.last_mut() {
            Some(run) if run.slot == slot => {
                run.last = pair;
                run.len += 1;
            }
            _ => self.runs.push(Run { first: pair, last: pair, len: 1, slot }),
        }
    }

    /// Returns the number of slots in this state.
    pub(crate) fn count(&self, slot: Slot) -> usize {
        self.runs.iter().filter(|run| run.slot == slot).map(|run| run.len).sum()
    }

    /// Returns the lines of a picture that shows `cells` slots a line. [`FOLDED_LINES`] or more successive
    /// lines with only free slots become one line.
    pub(crate) fn lines(&self, cells: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut line = Vec::new();
        let mut room = cells;
        for run in &self.runs {
            let mut rest = *run;
            while rest.len > 0 {
                let (part, after) = self.split(rest, room);
                room -= part.len;
                line.push(part);
                rest = after;
                if room == 0 {
                    lines.push(Line::Cells(std::mem::take(&mut line)));
                    room = cells;
                }
            }
        }
        if !line.is_empty() {
            lines.push(Line::Cells(line));
        }
        fold(lines)
    }

    /// Splits a run after its first `len` slots; the second part is empty if the run is not longer.
    fn split(&self, run: Run, len: usize) -> (Run, Run) {
        let at = |index: usize| {
            let offset = u16::try_from(index).unwrap_or(u16::MAX).saturating_mul(self.step);
            let [backend, frontend] = run.first.ports().map(|port| port.saturating_add(offset));
            PortPair { backend, frontend }
        };
        let len = len.min(run.len);
        let first = Run { last: at(len.saturating_sub(1)), len, ..run };
        (first, Run { first: at(len), len: run.len - len, ..run })
    }
}

/// The states of the rows, by the port that decides a row's slot. A row has one slot: the slot of its
/// backend port or, if no slot has that port, the slot of its frontend port.
#[derive(Default)]
struct Owners {
    by_backend: HashMap<u16, State>,
    by_frontend: HashMap<u16, State>,
    outside: usize,
}

impl Owners {
    fn of(rows: &[Listed<'_>], limits: &Limits) -> Self {
        let backends: PortSet = limits.slots().map(|slot| slot.backend).collect();
        let frontends: PortSet = limits.slots().map(|slot| slot.frontend).collect();
        let port = |port: i64, of: &PortSet| as_port(port).filter(|&port| of.contains(port));
        let mut owners = Self::default();
        for Listed { row, place } in rows {
            let state = place.as_ref().map_or(State::Unknown, |place| place.state);
            if let Some(backend) = port(row.backend_port, &backends) {
                owners.by_backend.entry(backend).or_insert(state);
            } else if let Some(frontend) = port(row.frontend_port, &frontends) {
                owners.by_frontend.entry(frontend).or_insert(state);
            } else {
                owners.outside += 1;
            }
        }
        owners
    }

    fn state_of(&self, slot: PortPair) -> Option<State> {
        self.by_backend.get(&slot.backend).or_else(|| self.by_frontend.get(&slot.frontend)).copied()
    }
}

/// A line of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line with one cell for each slot.
    Cells(Vec<Run>),
    /// Several lines in which all slots are free, folded into one.
    Folded(Run),
}

/// At least this many successive lines with only free slots are folded into one.
const FOLDED_LINES: usize = 3;

fn fold(lines: Vec<Line>) -> Vec<Line> {
    let free = |line: &Line| match line {
        Line::Cells(runs) => match runs.as_slice() {
            [run] if run.slot == Slot::Free => Some(*run),
            _ => None,
        },
        Line::Folded(_) => None,
    };
    let mut folded = Vec::new();
    let mut rest = lines.as_slice();
    while let Some(line) = rest.first() {
        let stretch: Vec<_> = rest.iter().map_while(free).collect();
        match stretch.as_slice() {
            [first, .., last] if stretch.len() >= FOLDED_LINES => {
                let len = stretch.iter().map(|run| run.len).sum();
                folded.push(Line::Folded(Run { last: last.last, len, ..*first }));
                rest = &rest[stretch.len()..];
            }
            _ => {
                folded.push(line.clone());
                rest = &rest[1..];
            }
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::allocation::tests::row;
    use super::super::place::Place;
    use super::*;

    fn limits(max: u16) -> Limits {
        let excluded = [5009].into_iter().collect();
        Limits { backend_base: 5001, frontend_base: 8001, step: 2, max, excluded, allow_browser_blocked: true }
    }

    fn map(max: u16, rows: &[(i64, i64, State)]) -> Map {
        let rows: Vec<_> =
            rows.iter().map(|&(backend, frontend, state)| (row(1, "m", 1, backend, frontend), state)).collect();
        let place = |state| Some(Place { state, directory: None });
        let listed: Vec<_> = rows.iter().map(|(row, state)| Listed { row, place: place(*state) }).collect();
        let plans = Plans::default();
        Map::new(&limits(max), &plans, &listed, |port| port == 8007 || port == 5001, |port| port != 5017)
    }

    #[test]
    fn each_slot_is_what_keeps_an_app_from_it() {
        let rows = [
            (5001, 8001, State::Allocated),
            (5003, 8003, State::Allocated),
            (5005, 9999, State::Orphaned),
            (7000, 9998, State::Allocated),
            (9997, 8013, State::Reserved),
            (9996, 5019, State::Reserved),
            (70000, -1, State::Allocated),
        ];
        let map = map(8020, &rows);
        let told: Vec<_> =
            map.runs.iter().map(|run| (run.slot.name(), run.first.backend, run.last.frontend, run.len)).collect();
        assert_eq!(
            told,
            [
                ("allocated", 5001, 8003, 2),
                ("orphaned", 5005, 8005, 1),
                ("listening", 5007, 8007, 1),
                ("blocked", 5009, 8009, 1),
                ("free", 5011, 8011, 1),
                ("reserved", 5013, 8013, 1),
                ("free", 5015, 8015, 1),
                ("blocked", 5017, 8019, 2),
            ]
        );
        assert_eq!((map.outside, map.count(Slot::Free), map.count(Slot::Blocked)), (3, 2, 3));
    }

    #[test]
    fn long_free_stretches_are_folded() {
        let map = map(8201, &[(5001, 8001, State::Allocated), (5121, 8121, State::Allocated)]);
        let lines = map.lines(10);
        let told: Vec<_> = lines
            .iter()
            .map(|line| match line {
                Line::Cells(runs) => (false, runs.iter().map(|run| run.len).sum(), runs[0].first.backend),
                Line::Folded(run) => (true, run.len, run.first.backend),
            })
            .collect();
        assert_eq!(told[..1], [(false, 10, 5001)]);
        assert_eq!(told.iter().filter(|(is_folded, ..)| *is_folded).count(), 2, "{told:?}");
        assert_eq!(told.iter().map(|(_, len, _)| len).sum::<usize>(), 101);
    }

    #[test]
    fn two_free_lines_are_shown_and_three_are_folded() {
        let map = map(8139, &[(5001, 8001, State::Allocated), (5061, 8061, State::Allocated)]);
        let folded = map.lines(10).into_iter().map(|line| match line {
            Line::Cells(_) => None,
            Line::Folded(run) => Some((run.first.backend, run.last.backend, run.len)),
        });
        assert_eq!(folded.collect::<Vec<_>>(), [None, None, None, None, Some((5081, 5139, 30))]);

        // What apps have is never folded.
        let rows: Vec<_> = (0..40).map(|k| (5001 + 2 * k, 8001 + 2 * k, State::Allocated)).collect();
        let lines = self::map(8079, &rows).lines(10);
        assert!(lines.len() == 4 && lines.iter().all(|line| matches!(line, Line::Cells(_))), "{lines:?}");
    }

    proptest! {
        #[test]
        fn the_lines_hold_every_slot_once(max in 8001u16..9000, cells in 1usize..70, taken in prop::collection::vec(0i64..500, 0..40)) {
            let rows: Vec<_> = taken.iter().map(|k| (5001 + 2 * k, 8001 + 2 * k, State::Allocated)).collect();
            let map = map(max, &rows);
            let mut next = 5001;
            for line in map.lines(cells) {
                let runs = match line {
                    Line::Cells(runs) => runs,
                    Line::Folded(run) => vec![run],
                };
                for run in runs {
                    prop_assert_eq!(run.first.backend, next);
                    prop_assert_eq!(usize::from(run.last.backend - run.first.backend), 2 * (run.len - 1));
                    next = run.last.backend + 2;
                }
            }
            let slots: usize = map.runs.iter().map(|run| run.len).sum();
            prop_assert_eq!(usize::from(next - 5001), 2 * slots);
        }
    }
}
