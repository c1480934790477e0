//! This file defines the facts that `check` examines. They are collected before any of them is judged.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::core::allocation::Allocation;
use crate::core::apps_dir::AppsDirView;
use crate::core::listener::Listeners;
use crate::core::ports::PortSet;
use crate::core::schema::UniqueIndex;

/// The facts that `check` examines.
pub(crate) struct Snapshot<'a> {
    /// Every row of the table.
    pub(crate) rows: &'a [Allocation],
    /// The unique indexes that the table lacks.
    pub(crate) missing_indexes: &'a [UniqueIndex],
    /// The type of the database's file system, if other machines may share it.
    pub(crate) shared_storage: Option<&'a str>,
    /// The default apps directory, if it does not exist and the user named no other.
    pub(crate) missing_apps_dir: Option<String>,
    /// The contents of the apps directory, or `None` if there is none.
    pub(crate) apps_dir: Option<&'a AppsDirView>,
    /// The listeners on the rows' ports, or `None` if they were not looked up.
    pub(crate) listeners: Option<&'a Listeners>,
    /// The ports that this machine gives to outgoing connections, if they are known.
    pub(crate) ephemeral_ports: Option<RangeInclusive<u16>>,
    /// The ports in that range that it never gives to outgoing connections.
    pub(crate) reserved_ports: PortSet,
    /// Tells whether the user allows ports that browsers refuse.
    pub(crate) allow_browser_blocked: bool,
    /// The time of the snapshot.
    pub(crate) now: Timestamp,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a snapshot of these rows and nothing else.
    pub(in crate::core::conflict) fn snapshot(rows: &[Allocation]) -> Snapshot<'_> {
        Snapshot {
            rows,
            missing_indexes: &[],
            shared_storage: None,
            missing_apps_dir: None,
            apps_dir: None,
            listeners: None,
            ephemeral_ports: Some(32768..=60999),
            reserved_ports: PortSet::new(),
            allow_browser_blocked: false,
            now: "2026-01-01T10:00:00Z".parse().unwrap(),
        }
    }
}
