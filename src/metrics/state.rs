//! This file describes the state of the allocations at one moment as gauges.

use std::collections::BTreeMap;
use std::io;

use prometheus::proto::MetricType;

use super::text::{encode, family, gauge};

/// The state of the allocations.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The number of allocations of each model. A name holds nothing that a terminal would obey.
    pub(crate) allocations: BTreeMap<String, usize>,
    /// The number of reservations that have not expired.
    pub(crate) reserved: usize,
    /// The number of slots that can be given.
    pub(crate) available_slots: usize,
    /// The number of conflicts of each kind, also of kinds without a conflict.
    pub(crate) conflicts: BTreeMap<&'static str, usize>,
    /// The number of orphans, or `None` if it is not known.
    pub(crate) orphans: Option<usize>,
}

impl State {
    /// Writes the state as text. What is not known is left out.
    ///
    /// # Errors
    ///
    /// Fails only if the encoder does.
    pub(crate) fn encode(&self) -> io::Result<String> {
        let of_models = self.allocations.iter().map(|(model, count)| gauge(Some(("model", model)), *count));
        let of_kinds = self.conflicts.iter().map(|(kind, count)| gauge(Some(("kind", kind)), *count));
        encode(vec![
            family(
                "manage_ports_allocations",
                "Allocations of each model, reserved and orphaned ones included.",
                MetricType::GAUGE,
                of_models,
            ),
            family(
                "manage_ports_reserved",
                "Allocations that are reserved at this moment.",
                MetricType::GAUGE,
                [gauge(None, self.reserved)],
            ),
            family(
                "manage_ports_available_slots",
                "Slots that can still be given, without asking the system who listens.",
                MetricType::GAUGE,
                [gauge(None, self.available_slots)],
            ),
            family(
                "manage_ports_conflicts",
                "Conflicts that `manage-ports check` finds, by kind.",
                MetricType::GAUGE,
                of_kinds,
            ),
            family(
                "manage_ports_orphans",
                "Allocations whose app has no directory; absent while the apps directory cannot be read.",
                MetricType::GAUGE,
                self.orphans.map(|count| gauge(None, count)),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told_with_what_is_escaped_in_labels() {
        let models = [("a\\b \"c\"\nd", 2), ("模型", 1)];
        let state = State {
            allocations: models.into_iter().map(|(model, count)| (model.to_owned(), count)).collect(),
            reserved: 1,
            available_slots: 27_000,
            conflicts: [("invalid_port", 0), ("cross_role_port", 3)].into(),
            orphans: Some(4),
        };
        insta::assert_snapshot!("state", state.encode().unwrap());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = State::default().encode().unwrap();
        assert!(!text.contains("orphans") && !text.contains("allocations{"), "{text}");
        assert!(text.contains("\nmanage_ports_reserved 0\n"), "{text}");
    }
}
