//! This file reads the apps directory and tells which apps have a folder in it, see
//! [`crate::core::app_folder`].

mod model_folder;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, ensure};

use self::model_folder::{ModelFolder, entries, is_folder, is_nothing};
use crate::core::allocation::Allocation;
use crate::core::app::{AppId, Presence, safe_model};
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::{AppsDirView, FoundFolder};
use crate::core::declared::Names;
use crate::host::declared;

/// An apps directory that was there, readable and marked when it was opened.
pub(crate) struct AppsDir<'a> {
    path: &'a Path,
    marker: Option<&'a Path>,
    identity: Identity,
}

/// The device and inode numbers, which tell apart two directories that were mounted at the same path.
type Identity = (u64, u64);

impl<'a> AppsDir<'a> {
    /// Opens the directory. If `marker` names a file, that file must be in the directory.
    pub(crate) fn open(path: &'a Path, marker: Option<&'a Path>) -> anyhow::Result<Self> {
        let identity = identity(path, marker)?;
        Ok(Self { path, marker, identity })
    }

    /// Checks that the directory is still the one that was opened. If a volume is unmounted while we read it,
    /// every app seems to be missing.
    pub(crate) fn ensure_unchanged(&self) -> anyhow::Result<()> {
        let identity = identity(self.path, self.marker)?;
        ensure!(identity == self.identity, "apps directory {} was replaced while it was read", self.path.display());
        Ok(())
    }

    /// Returns the folders of an app, the platform's first choice first. The list is empty if no folder can
    /// be seen, or if the model's name leads to the apps directory itself or above it.
    pub(crate) fn directories(&self, app: &AppId) -> Vec<PathBuf> {
        if !is_folder_name(&app.model) {
            return Vec::new();
        }
        let folders = |folder: &ModelFolder, path: &Path, app_num| {
            folder.folders(app_num).map(|place| path.join(&place.path)).collect()
        };
        let Ok(folders) = self.see(&mut HashMap::new(), app, || Ok::<_, Infallible>(()), folders);
        folders
    }

    /// Tells, for each row's app, whether it has a folder. `step` is called for each directory entry and may
    /// end the search.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`.
    pub(crate) fn presence_of<'r, E>(
        &self,
        rows: impl IntoIterator<Item = &'r Allocation>,
        step: impl Fn() -> Result<(), E>,
    ) -> Result<Vec<Presence>, E> {
        let mut models = HashMap::new();
        rows.into_iter().map(|row| self.see(&mut models, &row.app, &step, ModelFolder::presence)).collect()
    }

    /// Tells, for each row's app, whether it has a folder, and returns the first of its folders.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`, which is called for each entry of a folder.
    pub(crate) fn places_of<'r, E>(
        &self,
        rows: impl IntoIterator<Item = &'r Allocation>,
        step: impl Fn() -> Result<(), E>,
    ) -> Result<Vec<(Presence, Option<PathBuf>)>, E> {
        self.places_of_apps(rows.into_iter().map(|row| &row.app), step)
    }

    /// Tells, for each app, whether it has a folder, and returns the first of its folders. The app need not
    /// have a row.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`, which is called for each entry of a folder.
    pub(crate) fn places_of_apps<'r, E>(
        &self,
        apps: impl IntoIterator<Item = &'r AppId>,
        step: impl Fn() -> Result<(), E>,
    ) -> Result<Vec<(Presence, Option<PathBuf>)>, E> {
        let mut models = HashMap::new();
        let place = |folder: &ModelFolder, path: &Path, app_num| {
            let first = folder.folders(app_num).next().map(|place| path.join(&place.path));
            (folder.presence(path, app_num), first)
        };
        apps.into_iter().map(|app| self.see(&mut models, app, &step, place)).collect()
    }

    /// Tells whether any app has a folder. If something cannot be read, tells whether an app can be seen
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`, which is called for each entry of a folder.
    pub(crate) fn has_apps<E>(&self, step: impl Fn() -> Result<(), E>) -> Result<bool, E> {
        for (_, path) in self.models(&mut Vec::new()) {
            if ModelFolder::read(&path, true, &step)?.has_apps() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the first folder of the apps directory in which one of these apps stands as if that folder were
    /// the apps directory: the apps directory is then one level too high. The app is returned, too.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`, which is called for each entry of a folder.
    pub(crate) fn apps_dir_below<'r, E>(
        &self,
        rows: &'r [Allocation],
        step: impl Fn() -> Result<(), E>,
    ) -> Result<Option<(PathBuf, &'r AppId)>, E> {
        for (_, path) in self.models(&mut Vec::new()) {
            let below = AppsDir { path: &path, ..*self };
            let models: HashSet<_> = below.models(&mut Vec::new()).into_iter().map(|(name, _)| name).collect();
            let rows = rows.iter().filter(|row| models.contains(&safe_model(&row.app.model))).collect::<Vec<_>>();
            let presence = below.presence_of(rows.iter().copied(), &step)?;
            let found = rows.iter().zip(presence).find(|(_, presence)| *presence == Presence::Present);
            if let Some((row, _)) = found {
                return Ok(Some((path, &row.app)));
            }
        }
        Ok(None)
    }

    /// Reads the whole apps directory, and the ports that the files in each app's folder declare. If a folder
    /// has an app's name but its parent does not have a model's name, its files are not read.
    ///
    /// `found` is called for each directory entry. `read` is called, from any thread, for each folder whose
    /// files are read. Either may end the search.
    ///
    /// # Errors
    ///
    /// Returns the error of `found` or `read`.
    pub(crate) fn view_with_declared<E: Send>(
        &self,
        rows: &[Allocation],
        names: &Names,
        found: impl Fn() -> Result<(), E>,
        read: impl Fn() -> Result<(), E> + Sync,
    ) -> Result<AppsDirView, E> {
        let (mut view, paths) = self.view_with_paths(rows, found)?;
        view.declared = in_parallel(&paths, |path| {
            let declared = path.as_deref().map(|path| declared::read(path, names));
            read().map(|()| declared.unwrap_or_default())
        })?;
        Ok(view)
    }

    /// Looks for a folder for each row's app and for all other folders that have an app's name. Returns the
    /// view and the path of each folder found. The path is `None` if the parent folder does not have a
    /// model's name; the files in such a folder are not read.
    fn view_with_paths<E>(
        &self,
        rows: &[Allocation],
        step: impl Fn() -> Result<(), E>,
    ) -> Result<(AppsDirView, Vec<Option<PathBuf>>), E> {
        let mut unreadable = Vec::new();
        let mut found = Vec::new();
        let mut models = HashMap::new();
        for (name, path) in self.models(&mut unreadable) {
            let is_models = safe_model(&name) == name;
            let folder = ModelFolder::read(&path, true, &step)?;
            unreadable.extend(folder.all_unreadable().cloned());
            found.extend(folder.all_folders().enumerate().map(|(order, (app_num, place))| {
                let shown = format!("{name}/{}", place.path.display());
                let key = (AppFolder::new(&name, app_num), order);
                (key, shown, is_models.then(|| path.join(&place.path)))
            }));
            if is_models {
                models.insert(name, folder);
            }
        }
        found.retain(|((folder, _), ..)| folder.app_num > 0);
        found.sort();
        unreadable.sort();
        let presence = rows.iter().map(|row| self.see(&mut models, &row.app, &step, ModelFolder::presence));
        let presence = presence.collect::<Result<_, E>>()?;
        let (found, paths) =
            found.into_iter().map(|((folder, _), path, full)| (FoundFolder { folder, path }, full)).unzip();
        let unreadable = unreadable.into_iter().map(|(path, why)| (path.display().to_string(), why)).collect();
        Ok((AppsDirView { presence, found, declared: Vec::new(), unreadable }, paths))
    }

    /// Calls `look` with the contents of the model's folder and its path, and returns the result. Each
    /// model's folder is read once.
    fn see<T, E>(
        &self,
        read: &mut HashMap<String, ModelFolder>,
        app: &AppId,
        step: impl Fn() -> Result<(), E>,
        look: impl Fn(&ModelFolder, &Path, i64) -> T,
    ) -> Result<T, E> {
        let AppFolder { model, app_num } = AppFolder::of(app);
        let path = self.model_path(&model);
        let is_models_alone = is_folder_name(&model);
        let folder = match read.entry(model) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(ModelFolder::read(&path, is_models_alone, step)?),
        };
        Ok(look(folder, &path, app_num))
    }

    /// Returns where the folder of a model is or would be.
    fn model_path(&self, safe_model: &str) -> PathBuf {
        // The path is joined as text, because `Path::join` takes a name that begins with a slash for an
        // absolute path.
        let mut path = self.path.as_os_str().to_owned();
        path.push("/");
        path.push(safe_model);
        path.into()
    }

    /// Returns the name and path of each folder in the apps directory, and of each link to a folder. Adds
    /// what cannot be read to `unreadable`.
    fn models(&self, unreadable: &mut Vec<(PathBuf, String)>) -> Vec<(String, PathBuf)> {
        let entries = match entries(self.path, unreadable) {
            Ok(entries) => entries,
            // The directory existed a moment ago. If it is gone, it holds nothing.
            Err(err) if is_nothing(&err) => return Vec::new(),
            Err(err) => {
                unreadable.push((self.path.to_owned(), err.to_string()));
                return Vec::new();
            }
        };
        let mut models = Vec::new();
        for entry in entries {
            match is_folder(&entry) {
                Ok(true) => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let path = self.model_path(&name);
                    // If the name is not UTF-8, the lossy text is not the path.
                    let path = if entry.file_name().to_str().is_some() { path } else { entry.path() };
                    models.push((name, path));
                }
                Ok(false) => {}
                Err(err) if is_nothing(&err) => {}
                Err(err) => unreadable.push((entry.path(), err.to_string())),
            }
        }
        models
    }
}

/// Calls `each` for the items on all cores and keeps their order: reading files is mostly waiting for the
/// system.
///
/// # Errors
///
/// Returns the first error of `each` in the order of the items, among the items that were processed.
fn in_parallel<T: Sync, R: Send, E: Send>(items: &[T], each: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let each = &each;
    thread::scope(|scope| {
        let chunks = items.chunks(items.len().div_ceil(threads).max(1));
        let workers: Vec<_> =
            chunks.map(|chunk| scope.spawn(move || chunk.iter().map(each).collect::<Result<Vec<_>, E>>())).collect();
        let mut results = Vec::with_capacity(items.len());
        for worker in workers {
            results.extend(worker.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(results)
    })
}

/// Tells whether a model can have a folder of its own. A row that others wrote may have a name that leads to the
/// apps directory itself or above it.
fn is_folder_name(model: &str) -> bool {
    !matches!(model, "" | "." | "..")
}

fn identity(path: &Path, marker: Option<&Path>) -> anyhow::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let name = || format!("apps directory {}", path.display());
    let metadata = fs::metadata(path).with_context(name)?;
    ensure!(metadata.is_dir(), "{} is not a folder", name());
    fs::read_dir(path).with_context(|| format!("{} cannot be read", name()))?;
    if let Some(marker) = marker {
        let marker = path.join(marker);
        let file = fs::metadata(&marker).with_context(|| format!("{} has no marker {}", name(), marker.display()))?;
        ensure!(file.is_file(), "the marker {} is not a file", marker.display());
    }
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::core::allocation::PortPair;
    use crate::core::apps_dir::tests::found;

    fn row(model: &str, app_num: i64) -> Allocation {
        let pair = PortPair::new(5001, 8001).unwrap();
        Allocation::new(AppId::new(model, app_num), pair, None, jiff::Timestamp::UNIX_EPOCH)
    }

    fn unwatched() -> Result<(), Infallible> {
        Ok(())
    }

    fn presence(apps: &AppsDir<'_>, model: &str, app_num: i64) -> Presence {
        let Ok(presence) = apps.presence_of([&row(model, app_num)], unwatched);
        presence.into_iter().next().unwrap()
    }

    fn paths(apps: &AppsDir<'_>) -> Vec<String> {
        let Ok((view, _)) = apps.view_with_paths(&[], unwatched);
        view.found.into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn an_app_is_found_in_each_of_its_four_places_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        let apps = AppsDir::open(path, None).unwrap();
        // The last place first.
        for place in ["a_b/zed/app_1", "a_b/app0/app_1", "a_b/zed/app1", "a_b/react/app1", "a_b/app_1", "a_b/app1"] {
            fs::create_dir_all(path.join(place)).unwrap();
            let is_app = place != "a_b/app0/app_1";
            assert_eq!(apps.directories(&AppId::new("a/b", 1))[0] == path.join(place), is_app, "{place}");
            assert_eq!(presence(&apps, "a/b", 1), Presence::Present, "{place}");
            assert_eq!(apps.has_apps(unwatched), Ok(true), "{place}");
        }
        let order = ["a_b/app1", "a_b/app_1", "a_b/react/app1", "a_b/zed/app1", "a_b/zed/app_1"];
        assert_eq!(apps.directories(&AppId::new("a/b", 1)), order.map(|place| path.join(place)));
        assert_eq!(paths(&apps), order);
        // An app is not looked into for others, and nor is a folder below one between.
        fs::create_dir_all(path.join("a_b/app1/app2")).unwrap();
        fs::create_dir_all(path.join("a_b/react/app1/app3")).unwrap();
        fs::create_dir_all(path.join("a_b/react/deep/app4")).unwrap();
        for app_num in 2..=4 {
            assert_eq!(presence(&apps, "a/b", app_num), Presence::Absent, "app{app_num}");
        }
        assert_eq!(paths(&apps), order);
    }

    #[test]
    fn a_folder_between_that_cannot_be_looked_into_may_hold_any_app() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("m/app1")).unwrap();
        fs::write(path.join("m/notes"), "a file holds no apps").unwrap();
        let apps = AppsDir::open(path, None).unwrap();
        assert_eq!(presence(&apps, "m", 2), Presence::Absent);
        symlink("not-mounted", path.join("m/react")).unwrap();
        assert_eq!(presence(&apps, "m", 1), Presence::Present);
        let unknown = presence(&apps, "m", 2);
        assert!(matches!(&unknown, Presence::Unreadable(why) if why.contains("m/react: it is a link")), "{unknown:?}");
        let Ok((view, _)) = apps.view_with_paths(&[row("m", 2)], unwatched);
        assert_eq!((view.presence, view.unreadable.len()), (vec![unknown], 1));
        // Once it is mounted, all can be told.
        fs::create_dir(path.join("m/not-mounted")).unwrap();
        assert_eq!(presence(&apps, "m", 2), Presence::Absent);
        fs::create_dir(path.join("m/not-mounted/app_2")).unwrap();
        assert_eq!(presence(&apps, "m", 2), Presence::Present);
    }

    #[test]
    fn a_directory_without_an_app_is_told_from_one_with_a_single_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("m/react/other")).unwrap();
        fs::create_dir_all(path.join("app1")).unwrap();
        fs::create_dir_all(path.join("n/app0")).unwrap();
        symlink("nowhere", path.join("m/app1")).unwrap();
        let apps = AppsDir::open(path, None).unwrap();
        assert_eq!(apps.has_apps(unwatched), Ok(false));
        fs::write(path.join("m/react/app_7"), "").unwrap();
        assert_eq!(apps.has_apps(unwatched), Ok(true));
    }

    #[test]
    fn an_apps_directory_one_level_too_high_is_recognised_by_the_apps_themselves() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("apps/a_b/react/app_1")).unwrap();
        let rows = [row("c", 1), row("a/b", 1)];
        let apps = AppsDir::open(path, None).unwrap();
        assert_eq!(apps.apps_dir_below(&rows, unwatched), Ok(Some((path.join("apps"), &rows[1].app))));
        assert_eq!(apps.apps_dir_below(&[row("a/b", 2), row("apps", 1)], unwatched), Ok(None));
        let apps_dir = path.join("apps");
        let apps = AppsDir::open(&apps_dir, None).unwrap();
        assert_eq!(apps.apps_dir_below(&rows, unwatched), Ok(None));
    }

    #[test]
    fn whatever_stands_there_counts_and_a_broken_link_does_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("m/app1")).unwrap();
        fs::write(path.join("m/app2"), "").unwrap();
        symlink("app1", path.join("m/app3")).unwrap();
        symlink("nowhere", path.join("m/app4")).unwrap();
        symlink("app5", path.join("m/app5")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        symlink("m", path.join("linked")).unwrap();
        fs::create_dir(path.join("m/app08")).unwrap();
        fs::create_dir(path.join("app9")).unwrap();
        symlink("not-mounted", path.join("volume")).unwrap();
        fs::create_dir(path.join("m/other")).unwrap();

        let apps = AppsDir::open(path, None).unwrap();
        for (model, app_num, expected) in [
            ("m", 1, Presence::Present),
            ("m", 2, Presence::Present),
            ("m", 3, Presence::Present),
            ("m", 4, Presence::Absent),
            ("m", 5, Presence::Absent),
            ("m", 6, Presence::Absent),
            ("file", 1, Presence::Absent),
            ("linked", 1, Presence::Present),
            // Its model's folder is the apps directory, in which the other models' apps are not its own.
            ("", 1, Presence::Absent),
            (".", 1, Presence::Absent),
            ("", 9, Presence::Present),
            (&"模".repeat(200), 1, Presence::Absent),
        ] {
            assert_eq!(presence(&apps, model, app_num), expected, "{model}/app{app_num}");
        }
        let volume = presence(&apps, "volume", 1);
        assert!(matches!(&volume, Presence::Unreadable(why) if why.contains("leads nowhere")), "{volume:?}");
        let Ok((view, _)) = apps.view_with_paths(&[], unwatched);
        assert_eq!(view.found, [found("linked", 1), found("linked", 3), found("m", 1), found("m", 3)]);
        assert_eq!(view.unreadable, []);
    }

    #[test]
    fn a_directory_that_went_away_or_was_replaced_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("apps");
        let marker = Path::new(".apps-root");
        assert!(AppsDir::open(&path, None).is_err());
        fs::create_dir(&path).unwrap();
        let err = AppsDir::open(&path, Some(marker)).err().unwrap();
        assert!(err.to_string().contains(".apps-root"), "{err}");
        fs::write(path.join(marker), "").unwrap();

        let apps = AppsDir::open(&path, Some(marker)).unwrap();
        apps.ensure_unchanged().unwrap();
        fs::remove_file(path.join(marker)).unwrap();
        assert!(apps.ensure_unchanged().is_err());

        let apps = AppsDir::open(&path, None).unwrap();
        fs::rename(&path, root.path().join("away")).unwrap();
        assert!(apps.ensure_unchanged().is_err());
        fs::create_dir(&path).unwrap();
        assert!(apps.ensure_unchanged().is_err());
    }
}
