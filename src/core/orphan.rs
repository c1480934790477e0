//! Decides which rows a cleanup removes, and why it keeps a row whose app has no directory.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::allocation::{Allocation, until_text};
use super::app::{AppId, Presence};
use super::listener::Listeners;

/// Why a cleanup keeps a row although it did not find the app's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptReason {
    /// The row is reserved for a planned app.
    Reserved,
    /// The row is younger than the minimum age, or the time at which it was inserted cannot be read.
    TooRecent,
    /// A process listens on one of the row's ports, or a container publishes one.
    Listening,
    /// The system did not tell whether the row's app has a directory.
    Unreadable,
    /// It is not known whether a container publishes one of the row's ports.
    Unknown,
    /// The row changed, or its app's directory appeared, after the cleanup had read them.
    Changed,
}

impl KeptReason {
    /// Returns the reason's name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::TooRecent => "too_recent",
            Self::Listening => "listening",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
            Self::Changed => "changed",
        }
    }
}

/// A row that a cleanup kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The app of the row.
    pub(crate) app: AppId,
    /// Why the cleanup kept the row.
    pub(crate) reason: KeptReason,
    /// The reason as a message, with details such as the port and the process.
    pub(crate) why: String,
}

/// The decision of a cleanup for each row whose app's directory was not found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// The rows to remove.
    pub(crate) orphans: Vec<Allocation>,
    /// The rows that are kept, each with the reason.
    pub(crate) kept: Vec<Kept>,
}

impl Sweep {
    /// Decides for each row whether it is an orphan, by its columns and by whether its app has a directory.
    /// `presence` has one element for each row, in the order of the rows.
    ///
    /// A row is kept if it was inserted less than `min_age` before `now`, or if its `created_at` cannot be
    /// read. A row whose `created_at` is NULL counts as old.
    pub(crate) fn new(rows: Vec<Allocation>, presence: &[Presence], now: Timestamp, min_age: SignedDuration) -> Self {
        let mut sweep = Self::default();
        for (row, presence) in rows.into_iter().zip(presence) {
            match judge(&row, presence, now, min_age) {
                None => {}
                Some(Ok(())) => sweep.orphans.push(row),
                Some(Err((reason, why))) => sweep.kept.push(Kept { app: row.app, reason, why }),
            }
        }
        sweep
    }

    /// Keeps the orphans whose apps may have a directory by now. `presence` is what a second look at each
    /// orphan's directory found, in the order of the orphans.
    pub(crate) fn keep_arrived(&mut self, presence: &[Presence]) {
        let mut presence = presence.iter();
        self.keep(|_| match presence.next() {
            Some(Presence::Absent) => None,
            Some(Presence::Unreadable(why)) => Some((KeptReason::Unreadable, could_not_be_read(why))),
            Some(Presence::Present) | None => Some((KeptReason::Changed, "its directory came meanwhile".to_owned())),
        });
    }

    /// Keeps the orphans whose ports are in use. If the ports that containers publish are not known,
    /// `unknown` is the reason, and all other orphans are kept, too.
    pub(crate) fn keep_used(&mut self, listeners: &Listeners, unknown: Option<&str>) {
        self.keep(|row| {
            let users: Vec<_> =
                listeners.of(row).map(|(port, user)| format!("port {port} is {}", user.use_of_port())).collect();
            match unknown {
                _ if !users.is_empty() => Some((KeptReason::Listening, users.join(", "))),
                Some(why) => {
                    Some((KeptReason::Unknown, format!("whether a container publishes its ports is not known: {why}")))
                }
                None => None,
            }
        });
    }

    /// Keeps the orphans whose rows have changed, given all rows that are now in the table, and drops the
    /// orphans whose rows were deleted, because nothing is left to remove.
    pub(crate) fn keep_changed(&mut self, current: Vec<Allocation>) {
        let current: HashMap<_, _> = current.into_iter().map(|row| (row.id, row)).collect();
        self.orphans.retain(|seen| current.contains_key(&seen.id));
        self.keep(|seen| {
            (current.get(&seen.id) != Some(seen)).then(|| (KeptReason::Changed, "its row changed meanwhile".to_owned()))
        });
    }

    /// Keeps the orphans for which `reason` returns a reason and a message.
    fn keep(&mut self, mut reason: impl FnMut(&Allocation) -> Option<(KeptReason, String)>) {
        let kept = &mut self.kept;
        self.orphans.retain(|row| match reason(row) {
            None => true,
            Some((reason, why)) => {
                kept.push(Kept { app: row.app.clone(), reason, why });
                false
            }
        });
        kept.sort_by(|one, other| one.app.cmp(&other.app));
    }
}

/// Judges one row. Returns `None` if its app has a directory, `Ok` if the row is an orphan, or else the
/// reason to keep it, with its message.
fn judge(
    row: &Allocation,
    presence: &Presence,
    now: Timestamp,
    min_age: SignedDuration,
) -> Option<Result<(), (KeptReason, String)>> {
    if *presence == Presence::Present {
        return None;
    }
    if row.is_reserved(now) {
        let why = match row.reserved_until() {
            Some(until) => format!("reserved until {}", until_text(until)),
            None => "its metadata names a reservation that could not be read".to_owned(),
        };
        return Some(Err((KeptReason::Reserved, why)));
    }
    if let Presence::Unreadable(why) = presence {
        return Some(Err((KeptReason::Unreadable, could_not_be_read(why))));
    }
    if row.created_at_is_unreadable {
        return Some(Err((KeptReason::TooRecent, "when it was made could not be read".to_owned())));
    }
    Some(match row.created_at.filter(|made| now.duration_since(*made) < min_age) {
        None => Ok(()),
        Some(made) => {
            let why = format!("made {}, less than {min_age:#} ago", until_text(made));
            Err((KeptReason::TooRecent, why))
        }
    })
}

fn could_not_be_read(why: &str) -> String {
    format!("its directory could not be read: {why}")
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::super::listener::Listener;
    use super::*;

    const NO_AGE: SignedDuration = SignedDuration::ZERO;

    fn now() -> Timestamp {
        "2026-01-01T10:00:00Z".parse().unwrap()
    }

    /// Returns the decision for one row: a reason to keep it, `Some(None)` to remove it, or `None` if its app
    /// has a directory.
    fn verdict(row: &Allocation, presence: &Presence, min_age: SignedDuration) -> Option<Option<KeptReason>> {
        let sweep = Sweep::new(vec![row.clone()], std::slice::from_ref(presence), now(), min_age);
        sweep.kept.first().map(|kept| Some(kept.reason)).or(sweep.orphans.first().map(|_| None))
    }

    #[test]
    fn nothing_is_removed_on_a_guess() {
        let hour = SignedDuration::from_hours(1);
        let unreadable = Presence::Unreadable("?".into());
        let mut seen = row(1, "m", 1, 5001, 8001);

        assert_eq!(verdict(&seen, &Presence::Present, NO_AGE), None);
        assert_eq!(verdict(&seen, &Presence::Absent, NO_AGE), Some(None));
        assert_eq!(verdict(&seen, &unreadable, NO_AGE), Some(Some(KeptReason::Unreadable)));
        assert_eq!(verdict(&seen, &Presence::Absent, hour), Some(None), "without a time it is old");
        seen.created_at_is_unreadable = true;
        assert_eq!(verdict(&seen, &Presence::Absent, NO_AGE), Some(Some(KeptReason::TooRecent)));
        seen.created_at_is_unreadable = false;

        seen.updated_at = Some(now());
        seen.created_at = Some("2026-01-01T09:00:00Z".parse().unwrap());
        assert_eq!(verdict(&seen, &Presence::Absent, hour), Some(None), "its making alone counts");
        seen.created_at = Some("2026-01-01T09:00:00.000001Z".parse().unwrap());
        assert_eq!(verdict(&seen, &Presence::Absent, hour), Some(Some(KeptReason::TooRecent)));
        assert_eq!(verdict(&seen, &Presence::Absent, NO_AGE), Some(None));
        seen.created_at = Some("2026-01-01T10:00:01Z".parse().unwrap());
        assert_eq!(verdict(&seen, &Presence::Absent, NO_AGE), Some(Some(KeptReason::TooRecent)), "by another's clock");

        seen.metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:01Z"}"#.into());
        assert_eq!(verdict(&seen, &Presence::Absent, NO_AGE), Some(Some(KeptReason::Reserved)));
        assert_eq!(verdict(&seen, &unreadable, NO_AGE), Some(Some(KeptReason::Reserved)));
        assert_eq!(verdict(&seen, &Presence::Present, NO_AGE), None);
    }

    #[test]
    fn each_reason_has_its_name() {
        use KeptReason::{Changed, Listening, Reserved, TooRecent, Unknown, Unreadable};
        assert_eq!(
            [Reserved, TooRecent, Listening, Unreadable, Unknown, Changed].map(KeptReason::name),
            ["reserved", "too_recent", "listening", "unreadable", "unknown", "changed"]
        );
    }

    #[test]
    fn a_young_row_says_how_young_it_may_be() {
        let mut young = row(1, "m", 1, 5001, 8001);
        young.created_at = Some("2026-01-01T09:55:00Z".parse().unwrap());
        let sweep = Sweep::new(vec![young], &[Presence::Absent], now(), SignedDuration::from_mins(10));
        assert_eq!(sweep.kept[0].why, "made 2026-01-01T09:55:00Z, less than 10m ago");
    }

    fn sweep() -> Sweep {
        Sweep { orphans: (1..=3).map(|n| row(n, "m", n, 5000 + n, 8000 + n)).collect(), kept: Vec::new() }
    }

    fn reasons(sweep: &Sweep) -> (Vec<i64>, Vec<(i64, KeptReason)>) {
        let kept = sweep.kept.iter().map(|kept| (kept.app.app_num, kept.reason));
        (sweep.orphans.iter().map(|row| row.id).collect(), kept.collect())
    }

    #[test]
    fn an_orphan_whose_port_is_used_is_kept_and_all_where_that_is_not_known() {
        let listeners: Listeners = [(5001, Listener::default()), (8003, Listener::default())].into_iter().collect();
        let mut known = sweep();
        known.keep_used(&listeners, None);
        assert_eq!(reasons(&known), (vec![2], vec![(1, KeptReason::Listening), (3, KeptReason::Listening)]));
        let mut unknown = sweep();
        unknown.keep_used(&listeners, Some("no answer"));
        let kept = [KeptReason::Listening, KeptReason::Unknown, KeptReason::Listening];
        assert_eq!(reasons(&unknown), (vec![], (1..=3).zip(kept).collect()));
    }

    #[test]
    fn what_came_or_changed_since_the_look_is_kept_and_what_is_gone_is_forgotten() {
        let mut later = sweep();
        later.keep_arrived(&[Presence::Absent, Presence::Unreadable("?".into()), Presence::Present]);
        assert_eq!(reasons(&later), (vec![1], vec![(2, KeptReason::Unreadable), (3, KeptReason::Changed)]));
        assert_eq!(later.kept[0].why, "its directory could not be read: ?");

        let mut changed = sweep();
        let mut current = sweep().orphans;
        current[0].metadata = Some("{}".into());
        current.remove(1);
        changed.keep_changed(current);
        assert_eq!(reasons(&changed), (vec![3], vec![(1, KeptReason::Changed)]));
    }
}
