//! Says why a port or a pair cannot be handed out, and how many slots a search passed over for which reason.

use std::fmt::{self, Display};

/// Why a port cannot be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A row has it, in either column.
    Taken,
    /// It is planned for another app.
    Planned,
    /// The configuration excludes it.
    Excluded,
    /// Browsers refuse to open it.
    BrowserBlocked,
    /// Something on this machine uses it, or the system says so.
    InUse,
    /// This user may not listen on it.
    NotPermitted,
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
    /// What is known of the ports was not gathered yet.
    NotPrepared,
    /// Whoever asked cannot make use of a pair that was chosen.
    Useless,
}

/// What became of the slots in a search that found too few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many pairs were wanted.
    pub(crate) wanted: usize,
    /// How many slots are free.
    pub(crate) free: usize,
    /// How many slots were looked at: all there are, unless the search was given up.
    pub(crate) slots: usize,
    /// Slots with a taken port.
    pub(crate) taken: usize,
    /// Slots with a port that is planned for another app.
    pub(crate) planned: usize,
    /// Slots with an excluded port or one that browsers refuse.
    pub(crate) kept_back: usize,
    /// Slots with a port that this user may not listen on.
    pub(crate) not_permitted: usize,
    /// The first port in use of each slot that has one.
    pub(crate) in_use: Vec<u16>,
    /// Slots with a port on which nothing listens, although the system says that it is in use.
    pub(crate) refused: usize,
    /// Whether the search was given up because no port anywhere in the range could be listened on.
    pub(crate) given_up: bool,
}

/// What keeps a search from finding enough slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nearly all slots are used.
    Full,
    /// The system refuses nearly every port although nothing listens on it.
    Refused,
    /// This user may listen on hardly any port.
    NotPermitted,
}

impl Tally {
    /// Sets apart the ports that the system calls in use although nothing listens on them.
    pub(crate) fn set_refused_apart(&mut self, is_listened_on: impl Fn(u16) -> bool) {
        let found = self.in_use.len();
        self.in_use.retain(|&port| is_listened_on(port));
        self.refused += found - self.in_use.len();
    }

    /// What nearly all of the slots have in common that are nobody's and allowed, yet not free.
    pub(crate) fn shortage(&self) -> Shortage {
        let probed = self.free + self.in_use.len() + self.refused + self.not_permitted;
        let are_nearly_all = |slots: usize| slots > 0 && slots * 10 >= probed * 9;
        if are_nearly_all(self.refused) {
            Shortage::Refused
        } else if are_nearly_all(self.not_permitted) {
            Shortage::NotPermitted
        } else {
            Shortage::Full
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, free, slots, taken, kept_back, .. } = self;
        write!(f, "{wanted} wanted and {free} free of {slots} slots")?;
        f.write_str(if self.given_up { " tried (" } else { " (" })?;
        write!(f, "{taken} taken, {kept_back} excluded or blocked by browsers, {} listened on", self.in_use.len())?;
        let more = [
            (self.planned, "planned for other apps"),
            (self.not_permitted, "not permitted to this user"),
            (self.refused, "refused by the system"),
        ];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortage_is_what_nearly_all_slots_have_in_common() {
        let mut tally = Tally { taken: 1000, in_use: (1..=100).collect(), ..Tally::default() };
        assert_eq!(tally.shortage(), Shortage::Full);
        tally.set_refused_apart(|port| port <= 11);
        assert_eq!((tally.in_use.len(), tally.refused, tally.shortage()), (11, 89, Shortage::Full));
        tally.set_refused_apart(|port| port <= 10);
        assert_eq!((tally.in_use.len(), tally.refused, tally.shortage()), (10, 90, Shortage::Refused));
        let not_permitted = |free, not_permitted| Tally { free, not_permitted, ..Tally::default() }.shortage();
        assert_eq!((not_permitted(2, 17), not_permitted(2, 18)), (Shortage::Full, Shortage::NotPermitted));
        assert_eq!(Tally::default().shortage(), Shortage::Full);
    }

    #[test]
    fn a_tally_names_what_there_is() {
        let mut tally =
            Tally { wanted: 2, free: 1, slots: 9, taken: 3, kept_back: 4, in_use: vec![5], ..Tally::default() };
        assert_eq!(
            tally.to_string(),
            "2 wanted and 1 free of 9 slots (3 taken, 4 excluded or blocked by browsers, 1 listened on)"
        );
        tally = Tally { planned: 6, not_permitted: 7, refused: 8, given_up: true, ..tally };
        assert_eq!(
            tally.to_string(),
            "2 wanted and 1 free of 9 slots tried (3 taken, 4 excluded or blocked by browsers, 1 listened on, \
             6 planned for other apps, 7 not permitted to this user, 8 refused by the system)"
        );
    }
}
