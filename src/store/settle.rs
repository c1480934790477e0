//! Decides, for each requested app, whether to keep its row, extend its reservation, or insert a new
//! row.

use jiff::{SignedDuration, Timestamp};

use super::api::Choose;
use super::error::StoreError;
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::ports::PortSet;

/// What becomes of one app's row.
pub(super) enum Step {
    /// It is as it is wanted.
    Keep(Allocation),
    /// It is held for longer: its metadata is to be written.
    Hold(Allocation),
    /// It is new, and gets its id when it is written.
    Insert(Allocation),
}

impl Step {
    /// What is answered when the step is done.
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Keep(allocation) | Self::Hold(allocation) => Outcome { allocation, created: false },
            Self::Insert(allocation) => Outcome { allocation, created: true },
        }
    }
}

/// The answer, if each app has a row and it is held for long enough: nothing is to be written then.
pub(super) fn settled(
    found: Vec<Option<Allocation>>,
    now: Timestamp,
    hold: Option<SignedDuration>,
) -> Option<Vec<Outcome>> {
    let until = until(now, hold);
    let is_as_wanted = |row: &Allocation| until.is_none() || row.reserved_until() >= until;
    found.into_iter().map(|row| Some(Step::Keep(row.filter(is_as_wanted)?).into_outcome())).collect()
}

/// The steps, one for each app: it keeps its row, and gets one with a pair that `choose` names
/// where it has none.
pub(super) fn steps(
    apps: &[AppId],
    found: Vec<Option<Allocation>>,
    now: Timestamp,
    hold: Option<SignedDuration>,
    taken: &PortSet,
    choose: &mut Choose<'_>,
) -> Result<Vec<Step>, StoreError> {
    let until = until(now, hold);
    let wanting: Vec<_> = apps.iter().zip(&found).filter(|(_, row)| row.is_none()).map(|(app, _)| app).collect();
    let mut pairs = choose(&wanting, taken).map_err(StoreError::Refused)?.into_iter();
    let step = |(app, row): (&AppId, Option<Allocation>)| match (row, until) {
        (Some(mut row), Some(until)) => Some(match row.hold(until) {
            Ok(true) => {
                row.updated_at = Some(now);
                Ok(Step::Hold(row))
            }
            Ok(false) => Ok(Step::Keep(row)),
            Err(foreign) => Err(foreign.into()),
        }),
        (Some(row), None) => Some(Ok(Step::Keep(row))),
        (None, _) => pairs.next().map(|pair| Ok(Step::Insert(Allocation::new(app.clone(), pair, until, now)))),
    };
    apps.iter().zip(found).filter_map(step).collect()
}

/// The moment until which rows are held; the last there is where it would come later.
fn until(now: Timestamp, hold: Option<SignedDuration>) -> Option<Timestamp> {
    hold.map(|duration| now.checked_add(duration).unwrap_or(Timestamp::MAX))
}
