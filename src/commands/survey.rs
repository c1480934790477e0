//! Counts what `status` and `metrics` tell about the allocations.

use super::places::places_of;
use super::{check, map, unless_interrupted};
use crate::config::Config;
use crate::core::allocation::{Allocation, State};
use crate::core::conflict::Finding;
use crate::core::map::Slot;
use crate::core::place::Listed;
use crate::error::Result;
use crate::output::status::States;
use crate::store::api::Store;

/// The state of the allocations at one moment.
pub(super) struct Survey {
    /// The number of rows in each state.
    pub(super) states: States,
    /// The number of slots that can be given, without a probe of the ports.
    pub(super) free_slots: usize,
    /// What `check` finds.
    pub(super) findings: Vec<Finding>,
}

impl Survey {
    /// Looks at the rows of the database and at the apps directory.
    pub(super) fn of(rows: &[Allocation], store: &mut dyn Store, config: &Config) -> Result<Self> {
        // An unusable apps directory is no error here: the states of the rows show it, and `check` reports it.
        let apps_dir = check::look(config, rows).ok().flatten();
        unless_interrupted()?;
        let findings = check::find(store, rows, apps_dir.as_ref(), None, config)?;
        let listed = places_of(rows.iter().collect(), config)?;
        let free_slots = map::draw(&listed, config, |_| false).count(Slot::Free);
        Ok(Self { states: states(&listed), free_slots, findings })
    }
}

fn states(rows: &[Listed<'_>]) -> States {
    let mut states = States::default();
    for place in rows.iter().filter_map(|listed| listed.place.as_ref()) {
        *match place.state {
            State::Allocated => &mut states.allocated,
            State::Reserved => &mut states.reserved,
            State::Orphaned => &mut states.orphaned,
            State::Unknown => &mut states.unknown,
        } += 1;
    }
    states
}
