//! All that a check looks at, taken before anything is judged.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::core::allocation::Allocation;
use crate::core::apps_dir::AppsDirView;
use crate::core::listener::Listeners;
use crate::core::ports::PortSet;
use crate::core::schema::UniqueIndex;

/// All that is looked at, taken before anything is judged.
pub(crate) struct Snapshot<'a> {
    /// Every row of the table.
    pub(crate) rows: &'a [Allocation],
    /// The unique indexes that the table lacks.
    pub(crate) missing_indexes: &'a [UniqueIndex],
    /// The type of the database's file system, where other machines may share it.
    pub(crate) shared_storage: Option<&'a str>,
    /// The apps directory that nobody named, if it is not there.
    pub(crate) missing_apps_dir: Option<String>,
    /// What the apps directory holds; `None` where there is none.
    pub(crate) apps_dir: Option<&'a AppsDirView>,
    /// Who listens on the rows' ports; `None` if that was not looked at.
    pub(crate) listeners: Option<&'a Listeners>,
    /// The ports that this machine gives to outgoing connections, where that is known.
    pub(crate) ephemeral_ports: Option<RangeInclusive<u16>>,
    /// Those ports that it gives to none after all.
    pub(crate) reserved_ports: PortSet,
    /// Whether ports that browsers refuse are wanted.
    pub(crate) allow_browser_blocked: bool,
    /// The moment of the look.
    pub(crate) now: Timestamp,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A snapshot of these rows and nothing else.
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
