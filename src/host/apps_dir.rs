//! The apps directory: which apps have a directory in it.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, ensure};
use rustix::io::Errno;

use crate::core::allocation::Allocation;
use crate::core::app::{AppId, Presence, safe_model};
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::AppsDirView;
use crate::host::declared;

/// An apps directory that was there, readable and marked when it was opened.
pub(crate) struct AppsDir<'a> {
    path: &'a Path,
    marker: Option<&'a Path>,
    identity: Identity,
}

/// What tells one mounted directory from another at the same path: device and inode.
type Identity = (u64, u64);

impl<'a> AppsDir<'a> {
    /// Opens the directory, in which there must be the marker file if one is named.
    pub(crate) fn open(path: &'a Path, marker: Option<&'a Path>) -> anyhow::Result<Self> {
        let identity = identity(path, marker)?;
        Ok(Self { path, marker, identity })
    }

    /// Makes sure that the directory is still the one that was opened: a volume that went away
    /// while it was looked at makes every app seem to be missing.
    pub(crate) fn ensure_unchanged(&self) -> anyhow::Result<()> {
        let identity = identity(self.path, self.marker)?;
        ensure!(identity == self.identity, "apps directory {} was replaced while it was read", self.path.display());
        Ok(())
    }

    /// Where the app's directory is or would be.
    pub(crate) fn directory(&self, app: &AppId) -> PathBuf {
        // Put together as text: a model of no characters would make the second part a path of its own.
        let mut path = self.path.as_os_str().to_owned();
        path.push("/");
        path.push(AppFolder::of(app).path());
        path.into()
    }

    /// What stands at the app's directory. Links are followed; one that leads nowhere is nothing.
    pub(crate) fn presence(&self, app: &AppId) -> Presence {
        let path = self.directory(app);
        let model = path.parent().unwrap_or(self.path);
        match fs::metadata(&path) {
            Ok(_) => Presence::Present,
            // The app's own link may lead nowhere. A model's may lead to a volume that is not mounted.
            Err(_) if model.is_symlink() && !model.exists() => {
                Presence::Unreadable(format!("the link {} leads nowhere", model.display()))
            }
            Err(err) if is_nothing(&err) => Presence::Absent,
            Err(err) => Presence::Unreadable(err.to_string()),
        }
    }

    /// What stands at each row's app directory; `step` is called for each and may end the look.
    ///
    /// # Errors
    ///
    /// What `step` failed with.
    pub(crate) fn presence_of<E>(
        &self,
        rows: &[Allocation],
        step: impl Fn() -> Result<(), E>,
    ) -> Result<Vec<Presence>, E> {
        rows.iter().map(|row| step().map(|()| self.presence(&row.app))).collect()
    }

    /// Looks at everything: the rows' directories, and all others that are an app's by their name.
    ///
    /// `step` is called for each app and may end the look.
    ///
    /// # Errors
    ///
    /// What `step` failed with.
    pub(crate) fn view<E>(&self, rows: &[Allocation], step: impl Fn() -> Result<(), E>) -> Result<AppsDirView, E> {
        let mut view = AppsDirView::default();
        for (model, path) in folders(self.path, &mut view, Some) {
            for (app_num, _) in folders(&path, &mut view, |name| app_num(&name)) {
                view.found.push(AppFolder::new(&model, app_num));
                step()?;
            }
        }
        view.found.sort();
        view.unreadable.sort();
        // What was found need not be looked for again.
        let is_found = |app: &AppId| view.found.binary_search(&AppFolder::of(app)).is_ok();
        let presence = |row: &Allocation| {
            if is_found(&row.app) {
                return Ok(Presence::Present);
            }
            step().map(|()| self.presence(&row.app))
        };
        view.presence = rows.iter().map(presence).collect::<Result<_, E>>()?;
        Ok(view)
    }

    /// Looks at everything, and reads what the files in each app's directory declare. A directory that
    /// is no app's by the name of its model's folder declares nothing.
    ///
    /// `found` is called for each app that is looked for, `read` from any thread for each whose files
    /// are read; either may end the look.
    ///
    /// # Errors
    ///
    /// What they failed with.
    pub(crate) fn view_with_declared<E: Send>(
        &self,
        rows: &[Allocation],
        found: impl Fn() -> Result<(), E>,
        read: impl Fn() -> Result<(), E> + Sync,
    ) -> Result<AppsDirView, E> {
        let mut view = self.view(rows, found)?;
        view.declared = in_parallel(&view.found, |folder| {
            // The path of such a name would be that of another folder.
            let is_models = safe_model(&folder.model) == folder.model;
            let declared = is_models.then(|| declared::read(&self.directory(&folder.app())));
            read().map(|()| declared.unwrap_or_default())
        })?;
        Ok(view)
    }
}

/// Maps items on all cores, in their order: reading files is mostly waiting for the system.
///
/// # Errors
///
/// The first of `each`, in the order of the items, among those that were reached.
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

/// The folders in a folder, links to folders among them, whose names are wanted; notes what cannot be
/// read.
fn folders<T>(path: &Path, view: &mut AppsDirView, wanted: impl Fn(String) -> Option<T>) -> Vec<(T, PathBuf)> {
    let mut unreadable =
        |path: &Path, err: io::Error| view.unreadable.push((path.display().to_string(), err.to_string()));
    let entries: ReadDir = match fs::read_dir(path) {
        Ok(entries) => entries,
        // It was there a moment ago; if it is gone it holds nothing.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(err) => {
            unreadable(path, err);
            return Vec::new();
        }
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(err) => {
                unreadable(path, err);
                continue;
            }
        };
        let Some(name) = wanted(entry.file_name().to_string_lossy().into_owned()) else { continue };
        match is_folder(&entry) {
            Ok(true) => folders.push((name, entry.path())),
            Ok(false) => {}
            Err(err) => unreadable(&entry.path(), err),
        }
    }
    folders
}

/// Whether an entry is a folder or a link that leads to one.
fn is_folder(entry: &DirEntry) -> io::Result<bool> {
    let file_type = entry.file_type().and_then(|found| match found.is_symlink() {
        true => Ok(fs::metadata(entry.path())?.file_type()),
        false => Ok(found),
    });
    match file_type {
        Ok(file_type) => Ok(file_type.is_dir()),
        Err(err) if is_nothing(&err) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Whether nothing stands at a path that this error came from: it is gone, or a link leads nowhere.
fn is_nothing(err: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    // A name too long for the file system cannot stand there, and links in a circle lead nowhere.
    matches!(err.kind(), NotFound | NotADirectory | InvalidFilename)
        || err.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// The number in `app<N>` as the platform writes it, without leading zeros.
fn app_num(name: &str) -> Option<i64> {
    let digits = name.strip_prefix("app")?;
    let app_num: i64 = digits.parse().ok()?;
    (app_num > 0 && app_num.to_string() == digits).then_some(app_num)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
            ("", 1, Presence::Absent),
            ("", 9, Presence::Present),
            (&"模".repeat(200), 1, Presence::Absent),
        ] {
            assert_eq!(apps.presence(&AppId::new(model, app_num)), expected, "{model}/app{app_num}");
        }
        let volume = apps.presence(&AppId::new("volume", 1));
        assert!(matches!(&volume, Presence::Unreadable(why) if why.contains("leads nowhere")), "{volume:?}");
        let found = |model: &str, app_num: i64| AppFolder::new(model, app_num);
        let view = apps.view(&[], || Ok::<_, ()>(())).unwrap();
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
