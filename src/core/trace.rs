//! Records how a search for pairs went, for a log. Adjacent slots that were passed over for the same reason
//! are one step.

use super::allocation::PortPair;
use super::app::AppId;
use super::refusal::Reason;

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// An app got a pair.
    Took(AppId, PortPair),
    /// An app's planned pair was not free.
    PlanFailed(AppId, PortPair),
    /// Slots could not be given to an app.
    PassedOver(PassedOver),
}

/// Slots that could not be given to an app for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// The app.
    pub(crate) app: AppId,
    /// The first slot.
    pub(crate) first: PortPair,
    /// The last slot.
    pub(crate) last: PortPair,
    /// The number of slots.
    pub(crate) slots: usize,
    /// The port of the first slot that was the obstacle.
    pub(crate) port: u16,
    /// The reason.
    pub(crate) reason: Reason,
}

/// The most steps that are kept.
pub(crate) const STEPS_MAX: usize = 200;

/// The steps of a search, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The first [`STEPS_MAX`] steps.
    pub(crate) steps: Vec<Step>,
    /// The number of steps that were not kept.
    pub(crate) more: usize,
}

impl Trace {
    /// Adds a slot that was passed over.
    pub(super) fn pass_over(&mut self, app: &AppId, slot: PortPair, port: u16, reason: Reason) {
        if let Some(Step::PassedOver(last)) = self.steps.last_mut()
            && (&last.app, last.reason) == (app, reason)
            && self.more == 0
        {
            last.last = slot;
            last.slots += 1;
            return;
        }
        let app = app.clone();
        self.add(Step::PassedOver(PassedOver { app, first: slot, last: slot, slots: 1, port, reason }));
    }

    /// Adds a step.
    pub(super) fn add(&mut self, step: Step) {
        if self.steps.len() < STEPS_MAX {
            self.steps.push(step);
        } else {
            self.more += 1;
        }
    }
}
