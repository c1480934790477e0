//! What the apps directory holds, as plain values.

use super::app::Presence;
use super::app_folder::AppFolder;
use super::declared::Declared;

/// What the apps directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AppsDirView {
    /// What stands at each row's app directory, in the order of the rows.
    pub(crate) presence: Vec<Presence>,
    /// Every directory whose name is an app's, sorted.
    pub(crate) found: Vec<AppFolder>,
    /// What the files in each of them declare, in the same order.
    pub(crate) declared: Vec<Declared>,
    /// Directories that could not be read, each with the reason.
    pub(crate) unreadable: Vec<(String, String)>,
}
