//! Says why a port or a pair cannot be handed out, and how many slots a search passed over for which reason.

use std::fmt::{self, Display};

/// Why a port cannot be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A row has the port, as its backend or its frontend port.
    Taken,
    /// The port is planned for another app.
    Planned,
    /// The configuration excludes the port.
    Excluded,
    /// Browsers refuse to open the port.
    BrowserBlocked,
    /// Something on this machine uses the port, or the system says that the port is in use.
    InUse,
    /// This user may not listen on the port.
    NotPermitted,
}

/// Why a choice could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The app cannot have a port that the user asked for by number.
    Port {
        /// The first of the two ports that the app cannot have.
        port: u16,
        /// Why the app cannot have the port.
        reason: Reason,
    },
    /// Not enough slots are free.
    Exhausted(Tally),
    /// The caller has not yet collected what the choice depends on, such as the plans.
    NotPrepared,
    /// The caller cannot use a pair that was chosen.
    Useless,
}

/// The numbers of slots in a search that found too few, by the reason why each was not free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The number of pairs that were wanted.
    pub(crate) wanted: usize,
    /// The number of free slots.
    pub(crate) free: usize,
    /// The number of slots that the search checked: all slots, unless the search was given up.
    pub(crate) slots: usize,
    /// The number of slots with a taken port.
    pub(crate) taken: usize,
    /// The number of slots with a port that is planned for another app.
    pub(crate) planned: usize,
    /// The number of slots with a port that is excluded or that browsers refuse.
    pub(crate) kept_back: usize,
    /// The number of slots with a port that this user may not listen on.
    pub(crate) not_permitted: usize,
    /// The first port in use of each slot that has one.
    pub(crate) in_use: Vec<u16>,
    /// The number of slots with a port on which nothing listens, although the system says that it is in use.
    pub(crate) refused: usize,
    /// Whether the search was given up because a server could listen on none of the ports in a sample of the
    /// range.
    pub(crate) given_up: bool,
}

/// The main reason why a search found too few slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nearly all slots are in use.
    Full,
    /// The system says of nearly every port that it is in use, although nothing listens on it.
    Refused,
    /// This user may listen on hardly any port.
    NotPermitted,
}

impl Tally {
    /// Moves the ports on which nothing listens from `in_use` to the count `refused`. The system says that
    /// they are in use.
    pub(crate) fn set_refused_apart(&mut self, is_listened_on: impl Fn(u16) -> bool) {
        let found = self.in_use.len();
        self.in_use.retain(|&port| is_listened_on(port));
        self.refused += found - self.in_use.len();
    }

    /// Returns the reason that holds for at least nine tenths of the probed slots, or [`Shortage::Full`] if
    /// there is no such reason.
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
