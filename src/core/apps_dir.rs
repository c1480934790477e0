//! What the apps directory holds, as plain values.

use super::app::Presence;
use super::app_folder::AppFolder;
use super::declared::Declared;

/// What the apps directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AppsDirView {
    /// What stands at the places of each row's app, in the order of the rows.
    pub(crate) presence: Vec<Presence>,
    /// Every folder whose name is an app's, by model and number; where an app stands at several places,
    /// in the order of the places.
    pub(crate) found: Vec<FoundFolder>,
    /// What the files in each of them declare, in the same order.
    pub(crate) declared: Vec<Declared>,
    /// Folders that could not be read, each with the reason.
    pub(crate) unreadable: Vec<(String, String)>,
}

impl AppsDirView {
    /// Each app found once, with what its files declare in all of its places.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&AppFolder, Declared)> {
        let folders: Vec<_> = self.found.iter().map(|found| &found.folder).zip(&self.declared).collect();
        let apps: Vec<_> = folders
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|places| (places[0].0, Declared::of_all(places.iter().map(|(_, declared)| *declared))))
            .collect();
        apps.into_iter()
    }
}

/// A folder whose name is an app's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundFolder {
    /// Whose folder it is.
    pub(crate) folder: AppFolder,
    /// The path from the apps directory on.
    pub(crate) path: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The folder of an app in the first of its places.
    pub(crate) fn found(model: &str, app_num: impl Into<i64>) -> FoundFolder {
        let folder = AppFolder::new(model, app_num);
        FoundFolder { path: folder.path(), folder }
    }
}
