//! Models the contents of the apps directory as plain values, so that `core` can judge them without reading
//! files.

use super::app::Presence;
use super::app_folder::AppFolder;
use super::declared::Declared;

/// The contents of the apps directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AppsDirView {
    /// For each row, in the order of the rows, whether its app's directory exists.
    pub(crate) presence: Vec<Presence>,
    /// Every folder whose name is that of an app, ordered by model and number. An app with several folders
    /// has them in the order of its four places.
    pub(crate) found: Vec<FoundFolder>,
    /// The ports that the files in each folder declare, in the order of `found`.
    pub(crate) declared: Vec<Declared>,
    /// Folders that could not be read, each with the reason.
    pub(crate) unreadable: Vec<(String, String)>,
}

impl AppsDirView {
    /// Returns each found app once, with the ports that the files in all of its folders declare.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&AppFolder, Declared)> {
        let folders: Vec<_> = self.found.iter().map(|found| &found.folder).zip(&self.declared).collect();
        let apps: Vec<_> = folders
            .chunk_by(|(one, _), (other, _)| one == other)
            .map(|places| (places[0].0, Declared::of_all(places.iter().map(|(_, declared)| *declared))))
            .collect();
        apps.into_iter()
    }
}

/// A folder whose name is that of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundFolder {
    /// The app's folder, as a model and a number.
    pub(crate) folder: AppFolder,
    /// The path relative to the apps directory.
    pub(crate) path: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the folder of an app in the first of its places.
    pub(crate) fn found(model: &str, app_num: impl Into<i64>) -> FoundFolder {
        let folder = AppFolder::new(model, app_num);
        FoundFolder { path: folder.path(), folder }
    }

    #[test]
    fn an_app_with_several_folders_is_one_app_with_all_that_their_files_declare() {
        let folder = |model, path: &str| FoundFolder { path: path.to_owned(), ..found(model, 1) };
        let view = AppsDirView {
            found: vec![folder("a", "a/app1"), folder("a", "a/app_1"), folder("b", "b/app1")],
            declared: [1, 2, 4].map(|files| Declared { files, ..Declared::default() }).to_vec(),
            ..AppsDirView::default()
        };
        let apps: Vec<_> = view.apps().map(|(folder, declared)| (folder.path(), declared.files)).collect();
        assert_eq!(apps, [("a/app1".to_owned(), 3), ("b/app1".to_owned(), 4)]);
    }
}
