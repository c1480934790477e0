//! Decides, for each requested app, whether to keep its row, extend its reservation, or insert a new
//! row.

use jiff::{SignedDuration, Timestamp};

use super::api::{Choose, Taken};
use super::error::StoreError;
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;

/// The action for one app.
pub(super) enum Step {
    /// Keep its row, which needs no change.
    Keep(Allocation),
    /// Write the metadata of its row, which extends its reservation.
    Hold(Allocation),
    /// Insert a row. The row gets its id when it is inserted.
    Insert(Allocation),
}

impl Step {
    /// Returns the answer to the caller, once the step is done.
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Keep(allocation) | Self::Hold(allocation) => Outcome { allocation, created: false },
            Self::Insert(allocation) => Outcome { allocation, created: true },
        }
    }
}

/// Returns the answer if every app has a row that is reserved for long enough, so that nothing need be
/// written.
pub(super) fn settled(
    found: Vec<Option<Allocation>>,
    now: Timestamp,
    hold: Option<SignedDuration>,
) -> Option<Vec<Outcome>> {
    let until = until(now, hold);
    let is_as_wanted = |row: &Allocation| until.is_none() || row.reserved_until() >= until;
    found.into_iter().map(|row| Some(Step::Keep(row.filter(is_as_wanted)?).into_outcome())).collect()
}

/// Decides a step for each app. One that has no row in `found` gets a pair from `choose`.
pub(super) fn steps(
    apps: &[AppId],
    found: Vec<Option<Allocation>>,
    now: Timestamp,
    hold: Option<SignedDuration>,
    taken: &Taken,
    choose: &mut Choose<'_>,
) -> Result<Vec<Step>, StoreError> {
    let until = until(now, hold);
    let wanting: Vec<_> = apps.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(app, _)| app).collect();
    let mut pairs = choose(&wanting, taken).map_err(StoreError::Refused)?.into_iter();
    let step = |(app, row): (&AppId, Option<Allocation>)| match (row, until) {
        (Some(mut row), Some(until)) => {
            if !row.hold(until)? {
                return Ok(Step::Keep(row));
            }
            row.updated_at = Some(now);
            Ok(Step::Hold(row))
        }
        (Some(row), None) => Ok(Step::Keep(row)),
        (None, _) => {
            let pair =
                pairs.next().ok_or_else(|| StoreError::unusable(format!("was not written: {app} got no pair")))?;
            Ok(Step::Insert(Allocation::new(app.clone(), pair, until, now)))
        }
    };
    apps.iter().zip(found).map(step).collect()
}

/// Returns the moment until which rows are reserved: `hold` after `now`, or the last moment that can be
/// stored.
fn until(now: Timestamp, hold: Option<SignedDuration>) -> Option<Timestamp> {
    hold.map(|duration| now.checked_add(duration).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::allocation::PortPair;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// A row of an app that is held for so many hours.
    fn row(num: i64, hours: Option<i64>) -> Allocation {
        let until = hours.map(|hours| NOW + HOUR * i32::try_from(hours).unwrap());
        Allocation::new(AppId::new("m", num), PortPair { backend: 5001, frontend: 8001 }, until, NOW)
    }

    #[test]
    fn nothing_need_be_written_if_every_app_has_a_row_that_is_held_for_long_enough() {
        let found = || vec![Some(row(1, None)), Some(row(2, Some(1)))];
        let outcomes = settled(found(), NOW, None).unwrap();
        let rows: Vec<_> = outcomes.iter().map(|outcome| (outcome.allocation.clone(), outcome.created)).collect();
        assert_eq!(rows, [(row(1, None), false), (row(2, Some(1)), false)]);
        assert!(settled(vec![Some(row(1, None)), None], NOW, None).is_none(), "an app without a row");
        assert!(settled(found(), NOW, Some(HOUR)).is_none(), "an app that is not held");
        for (held, is_settled) in [(0, false), (1, true), (2, true)] {
            assert_eq!(settled(vec![Some(row(1, Some(held)))], NOW, Some(HOUR)).is_some(), is_settled, "{held} h");
        }
    }

    #[test]
    fn a_row_is_kept_held_longer_or_inserted() {
        let apps = [AppId::new("m", 1), AppId::new("m", 2), AppId::new("m", 3)];
        let found = || vec![Some(row(1, Some(2))), Some(row(2, None)), None];
        let pair = PortPair { backend: 5003, frontend: 8003 };
        let later = NOW + HOUR;
        let mut asked = Vec::new();
        let mut choose = |apps: &[&AppId], _: &Taken| {
            asked.extend(apps.iter().map(|app| (*app).clone()));
            Ok(vec![pair])
        };
        let held = steps(&apps, found(), later, Some(HOUR), &Taken::default(), &mut choose).unwrap();
        let [Step::Keep(first), Step::Hold(second), Step::Insert(third)] = held.as_slice() else {
            panic!("other steps")
        };
        assert_eq!(*first, row(1, Some(2)), "held until that moment already");
        assert_eq!((second.reserved_until(), second.updated_at), (Some(later + HOUR), Some(later)));
        assert_eq!((third.ports(), third.reserved_until()), ([5003, 8003], Some(later + HOUR)));
        let created: Vec<_> = held.into_iter().map(|step| step.into_outcome().created).collect();
        assert_eq!(created, [false, false, true]);
        let kept = steps(&apps, found(), later, None, &Taken::default(), &mut choose).unwrap();
        assert!(matches!(kept.as_slice(), [Step::Keep(_), Step::Keep(_), Step::Insert(_)]));
        assert_eq!(asked, [AppId::new("m", 3), AppId::new("m", 3)]);
    }

    #[test]
    fn a_hold_that_time_does_not_reach_ends_with_time() {
        assert_eq!(until(NOW, Some(SignedDuration::MAX)), Some(Timestamp::MAX));
        assert_eq!(until(NOW, None), None);
    }

    #[test]
    fn an_app_that_gets_no_pair_is_an_error() {
        let apps = [AppId::new("m", 1), AppId::new("m", 2)];
        let choose_one = &mut |_: &[&AppId], _: &Taken| Ok(vec![PortPair { backend: 5001, frontend: 8001 }]);
        let found = vec![None, None];
        let steps = steps(&apps, found, Timestamp::UNIX_EPOCH, None, &Taken::default(), choose_one);
        let Err(StoreError::Unusable { why, .. }) = steps else { panic!("app2 is left out") };
        assert!(why.contains("m/app2"), "{why}");
    }
}
