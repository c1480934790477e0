//! Which pair an app gets: a pure choice from the taken ports and the limits.

use std::fmt::{self, Display};

use super::allocation::PortPair;
use super::ports::{PortSet, is_browser_blocked};

/// What may be handed out: the slots and the ports kept back.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The backend port of slot 0.
    pub(crate) backend_base: u16,
    /// The frontend port of slot 0, different from `backend_base`.
    pub(crate) frontend_base: u16,
    /// How far apart two slots are, at least 1.
    pub(crate) step: u16,
    /// The highest port of a slot.
    pub(crate) max: u16,
    /// Ports never handed out.
    pub(crate) excluded: PortSet,
    /// Whether ports that browsers refuse may be handed out.
    pub(crate) allow_browser_blocked: bool,
}

impl Limits {
    /// Every slot, lowest first: slot k is `(backend_base + k·step, frontend_base + k·step)`.
    pub(crate) fn slots(&self) -> impl Iterator<Item = PortPair> {
        let room = self.max.checked_sub(self.backend_base.max(self.frontend_base));
        let count = room.map_or(0, |room| u32::from(room / self.step.max(1)) + 1);
        (0..count).filter_map(|k| {
            let offset = u16::try_from(k).ok()? * self.step;
            PortPair::new(self.backend_base + offset, self.frontend_base + offset)
        })
    }

    /// Why a port is kept back from everyone, if it is.
    fn keeps_back(&self, port: u16) -> Option<Reason> {
        if self.excluded.contains(port) {
            Some(Reason::Excluded)
        } else if !self.allow_browser_blocked && is_browser_blocked(port) {
            Some(Reason::BrowserBlocked)
        } else {
            None
        }
    }
}

/// Why a port cannot be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A row has it, in either column.
    Taken,
    /// The configuration excludes it.
    Excluded,
    /// Browsers refuse to open it.
    BrowserBlocked,
    /// Something on this machine listens on it.
    Listening,
}

/// Why a choice could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A port asked for by number cannot be had.
    Port {
        /// The first of the two that cannot.
        port: u16,
        /// Why not.
        reason: Reason,
    },
    /// Not enough slots are free.
    Exhausted(Tally),
}

/// What became of the slots in a search that found too few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many pairs were wanted.
    pub(crate) wanted: usize,
    /// How many slots are free.
    pub(crate) free: usize,
    /// How many slots there are.
    pub(crate) slots: usize,
    /// Slots with a taken port.
    pub(crate) taken: usize,
    /// Slots with an excluded port or one that browsers refuse.
    pub(crate) kept_back: usize,
    /// Slots with a port that something listens on.
    pub(crate) listening: usize,
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} wanted and {} free of {} slots ({} taken, {} excluded or blocked by browsers, {} listened on)",
            self.wanted, self.free, self.slots, self.taken, self.kept_back, self.listening
        )
    }
}

/// Chooses a pair for each app: its preferred pair if both ports are free, else the lowest free slot.
///
/// An app is given as its preferred pair or `None`. Preferred pairs are given out before slots, so
/// that no app gets what another one of them prefers. They are taken as written, without regard to
/// the limits; a slot is also not excluded and not refused by browsers. Neither is taken
/// if `is_listening` says so of one of its ports, which is asked only of ports otherwise free.
///
/// # Errors
///
/// [`Refusal::Exhausted`] when fewer pairs are free than apps ask for.
pub(crate) fn choose(
    limits: &Limits,
    preferred: &[Option<PortPair>],
    taken: &PortSet,
    is_listening: &mut dyn FnMut(u16) -> bool,
) -> Result<Vec<PortPair>, Refusal> {
    let mut taken = taken.clone();
    let mut pairs = Vec::with_capacity(preferred.len());
    for pair in preferred {
        let is_free = |pair: &PortPair| pair.ports().iter().all(|&port| !taken.contains(port) && !is_listening(port));
        let pair = pair.filter(is_free);
        taken.extend(pair.iter().flat_map(|pair| pair.ports()));
        pairs.push(pair);
    }

    let mut tally = Tally { wanted: preferred.len(), ..Tally::default() };
    let mut slots = limits.slots();
    let mut next_slot = || {
        // Ports only become taken here, so a slot passed over once stays passed over.
        for slot in slots.by_ref() {
            tally.slots += 1;
            match first_obstacle(limits, slot, &taken, is_listening) {
                None => {
                    tally.free += 1;
                    taken.extend(slot.ports());
                    return Some(slot);
                }
                Some((_, Reason::Taken)) => tally.taken += 1,
                Some((_, Reason::Excluded | Reason::BrowserBlocked)) => tally.kept_back += 1,
                Some((_, Reason::Listening)) => tally.listening += 1,
            }
        }
        None
    };
    let pairs: Option<_> = pairs.into_iter().map(|pair| pair.or_else(&mut next_slot)).collect();
    pairs.ok_or(Refusal::Exhausted(tally))
}

/// Accepts a pair asked for by number, or says why not.
///
/// # Errors
///
/// [`Refusal::Port`] with the first port that is taken, kept back or listened on.
pub(crate) fn admit(
    limits: &Limits,
    pair: PortPair,
    taken: &PortSet,
    is_listening: &mut dyn FnMut(u16) -> bool,
) -> Result<PortPair, Refusal> {
    match first_obstacle(limits, pair, taken, is_listening) {
        None => Ok(pair),
        Some((port, reason)) => Err(Refusal::Port { port, reason }),
    }
}

fn first_obstacle(
    limits: &Limits,
    pair: PortPair,
    taken: &PortSet,
    is_listening: &mut dyn FnMut(u16) -> bool,
) -> Option<(u16, Reason)> {
    let ports = pair.ports();
    let find =
        |reason, is: &mut dyn FnMut(u16) -> bool| ports.into_iter().find(|&port| is(port)).map(|port| (port, reason));
    find(Reason::Taken, &mut |port| taken.contains(port))
        .or_else(|| ports.into_iter().find_map(|port| Some((port, limits.keeps_back(port)?))))
        .or_else(|| find(Reason::Listening, is_listening))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            backend_base: 5001,
            frontend_base: 8001,
            step: 2,
            max: 65535,
            excluded: PortSet::new(),
            allow_browser_blocked: false,
        }
    }

    fn pair(backend: u16, frontend: u16) -> PortPair {
        PortPair::new(backend, frontend).unwrap()
    }

    #[test]
    fn slots_run_from_the_bases_to_the_highest_port() {
        let slots: Vec<_> = limits().slots().collect();
        assert_eq!(slots.len(), 28768);
        assert_eq!(slots[0], pair(5001, 8001));
        assert_eq!(slots[28767], pair(62535, 65535));
        assert_eq!(Limits { max: 8000, ..limits() }.slots().count(), 0);
        let all = Limits { backend_base: 1, frontend_base: 2, step: 1, ..limits() };
        assert_eq!(all.slots().last(), Some(pair(65534, 65535)));
    }

    #[test]
    fn another_apps_frontend_is_not_handed_out_as_a_backend() {
        let limits = Limits { backend_base: 8001, frontend_base: 9001, ..limits() };
        let taken: PortSet = [5001, 8001].into_iter().collect();
        assert_eq!(choose(&limits, &[None], &taken, &mut |_| false), Ok(vec![pair(8003, 9003)]));
    }

    #[test]
    fn a_preferred_pair_is_taken_as_written_if_it_is_free() {
        let wanted = [None, Some(pair(6000, 5060)), Some(pair(9000, 6000)), Some(pair(5001, 8001)), None];
        let chosen = choose(&limits(), &wanted, &PortSet::new(), &mut |_| false);
        let expected = [pair(5003, 8003), pair(6000, 5060), pair(5005, 8005), pair(5001, 8001), pair(5007, 8007)];
        assert_eq!(chosen, Ok(expected.to_vec()));
        let listening = choose(&limits(), &[Some(pair(6000, 5060))], &PortSet::new(), &mut |port| port == 5060);
        assert_eq!(listening, Ok(vec![pair(5001, 8001)]));
    }

    #[test]
    fn a_pair_asked_for_is_refused_with_its_reason() {
        let limits = Limits { excluded: [7000].into_iter().collect(), ..limits() };
        let taken: PortSet = [5001].into_iter().collect();
        let refused = |backend, frontend| admit(&limits, pair(backend, frontend), &taken, &mut |port| port == 7777);
        let because = |port, reason| Err(Refusal::Port { port, reason });
        assert_eq!(refused(7001, 5001), because(5001, Reason::Taken));
        assert_eq!(refused(7000, 7777), because(7000, Reason::Excluded));
        assert_eq!(refused(7001, 5060), because(5060, Reason::BrowserBlocked));
        assert_eq!(refused(7777, 7001), because(7777, Reason::Listening));
        assert_eq!(refused(7001, 7003), Ok(pair(7001, 7003)));
    }

    #[test]
    fn a_search_that_fails_says_where_the_slots_went() {
        let limits = Limits { max: 8009, excluded: [5005].into_iter().collect(), ..limits() };
        let taken: PortSet = [8001].into_iter().collect();
        let Err(Refusal::Exhausted(tally)) = choose(&limits, &[None; 3], &taken, &mut |port| port == 8007) else {
            panic!("three of five slots are not free");
        };
        assert_eq!(tally, Tally { wanted: 3, free: 2, slots: 5, taken: 1, kept_back: 1, listening: 1 });
    }

    prop_compose! {
        fn any_limits()(
            backend_base in 1u16..400, distance in 1u16..60, swap: bool, step in 1u16..7,
            max in 1u16..700, excluded in prop::collection::vec(1u16..700, 0..40), allow_browser_blocked: bool,
        ) -> Limits {
            let (low, high) = (backend_base, backend_base + distance);
            let (backend_base, frontend_base) = if swap { (high, low) } else { (low, high) };
            let excluded = excluded.into_iter().collect();
            Limits { backend_base, frontend_base, step, max, excluded, allow_browser_blocked }
        }
    }

    proptest! {
        #[test]
        fn every_choice_is_free_allowed_lowest_and_repeatable(
            limits in any_limits(),
            taken in prop::collection::vec(1u16..700, 0..200),
            listening in prop::collection::vec(1u16..700, 0..20),
            wanted in 1usize..12,
        ) {
            let taken: PortSet = taken.into_iter().collect();
            let usable = |port: u16, taken: &PortSet| {
                !taken.contains(port) && !listening.contains(&port) && !limits.excluded.contains(port)
                    && (limits.allow_browser_blocked || !is_browser_blocked(port))
            };
            let choose = || choose(&limits, &vec![None; wanted], &taken, &mut |port| listening.contains(&port));

            // The slow way: for each app anew, the first usable slot.
            let mut now_taken = taken.clone();
            let mut expected = Vec::new();
            for _ in 0..wanted {
                let (mut backend, mut frontend) = (u32::from(limits.backend_base), u32::from(limits.frontend_base));
                while backend.max(frontend) <= u32::from(limits.max) {
                    let slot = PortPair::new(backend as u16, frontend as u16).unwrap();
                    if slot.ports().iter().all(|&port| usable(port, &now_taken)) {
                        now_taken.extend(slot.ports());
                        expected.push(slot);
                        break;
                    }
                    backend += u32::from(limits.step);
                    frontend += u32::from(limits.step);
                }
            }

            match choose() {
                Ok(pairs) => prop_assert_eq!(&pairs, &expected),
                Err(Refusal::Exhausted(tally)) => {
                    prop_assert!(expected.len() < wanted);
                    prop_assert_eq!(tally.free, expected.len());
                    prop_assert_eq!(tally.slots, tally.free + tally.taken + tally.kept_back + tally.listening);
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            prop_assert_eq!(choose(), choose());
        }
    }
}
