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
